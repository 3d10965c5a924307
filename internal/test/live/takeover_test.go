//go:build linux

package live_test

import (
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"

	"finwait/internal/sandbox"
	"finwait/internal/sockdiag"
	"finwait/tracer"

	"golang.org/x/sys/unix"
)

// finish closes a pair, first side first, until that side is in TIME_WAIT.
func finish(ns *sandbox.NS, r *recorder, first, second *sandbox.Sock) {
	r.t.Helper()
	first.Close()
	r.orphan(first)
	second.Close()
	r.timeWait(ns, first)
	r.until(second.Cookie, tracer.Closed)
}

// connect() takes over a TIME_WAIT of its own when ports run out (tcp_tw_reuse).
func TestReusedByConnect(t *testing.T) {
	eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
		ns.Sysctl("tcp_tw_reuse", "1")
		ns.Sysctl("ip_local_port_range", "40000 40001")
		listener := ns.Socket(f).Bind(50000).Listen()
		var old []*sandbox.Sock
		for range 2 {
			c := ns.Socket(f).Connect(listener.Local)
			finish(ns, r, c, listener.Accept())
			old = append(old, c)
		}
		before := ns.Counter("TcpExt.TWRecycled")
		time.Sleep(2200 * time.Millisecond) // a second or so is asked of it, by timestamps
		began := now()
		again := ns.Socket(f).Connect(listener.Local)
		ended := now()

		if n := ns.Counter("TcpExt.TWRecycled") - before; n != 1 {
			t.Fatalf("the kernel reused %d TIME_WAITs, want 1", n)
		}
		var reused chain
		for _, c := range old {
			if c.Local == again.Local {
				reused = r.chain(c.Cookie)
			} else {
				r.timeWait(ns, c) // the other goes on
			}
		}
		reused.want(t, clientOpen+" FIN_WAIT_1 FIN_WAIT_2 TIME_WAIT CLOSED", tracer.ReasonReused)
		if at := reused.last().Ktime; at < began || at > ended {
			t.Errorf("it ended at %v; connect() ran from %v to %v", at, began, ended)
		}
		reused.owned(t, tracer.RoleClient)
		r.until(again.Cookie, tracer.Established).check(t)
	})
}

// A SYN from the peer takes over the server's TIME_WAIT.
func TestRecycledBySYN(t *testing.T) {
	eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
		p := ns.Pair(f)
		finish(ns, r, p.Server, p.Client)
		time.Sleep(20 * time.Millisecond) // a later timestamp
		began := now()
		again := ns.Socket(f).Bind(p.Client.Local.Port()).Connect(p.Listener.Local)
		ended := now()

		server := r.chain(p.Server.Cookie)
		server.want(t, serverOpen+" FIN_WAIT_1 FIN_WAIT_2 TIME_WAIT CLOSED", tracer.ReasonRecycled)
		server.owned(t, tracer.RoleServer)
		if at := server.last().Ktime; at < began || at > ended {
			t.Errorf("it ended at %v; connect() ran from %v to %v", at, began, ended)
		}
		r.until(again.Cookie, tracer.Established).check(t)
	})
}

// destroy ends a socket as ss -K does.
func destroy(t *testing.T, ns *sandbox.NS, f sandbox.Family, s *sandbox.Sock, remote netip.AddrPort) {
	t.Helper()
	var err error
	ns.Do(func() {
		var c *sockdiag.Conn
		if c, err = sockdiag.Open(); err != nil {
			return
		}
		defer c.Close()
		err = c.Destroy(&sockdiag.Socket{Family: uint8(f.AF), Local: s.Local, Remote: remote, Cookie: s.Cookie})
	})
	if _, statErr := os.Stat("/sys/module/tcp_diag"); testing.Short() && errors.Is(err, unix.ENOENT) && statErr != nil {
		t.Skip("SOCK_DESTROY (Linux 4.5) is in a module, tcp_diag, which is not there")
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestDestroyed(t *testing.T) {
	eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
		p := ns.Pair(f)
		finish(ns, r, p.Client, p.Server)
		full := ns.Pair(f)
		began := now()
		for _, pair := range []*sandbox.Pair{p, full} {
			destroy(t, ns, f, pair.Client, pair.Listener.Local)
		}
		ended := now()

		c := r.chain(p.Client.Cookie)
		c.want(t, clientOpen+" FIN_WAIT_1 FIN_WAIT_2 TIME_WAIT CLOSED", tracer.ReasonDestroyed)
		if at := c.last().Ktime; at < began || at > ended {
			t.Errorf("it ended at %v; SOCK_DESTROY ran from %v to %v", at, began, ended)
		}
		r.chain(full.Client.Cookie).want(t, clientOpen+" CLOSED", tracer.ReasonDestroyed)
		r.chain(full.Server.Cookie).want(t, serverOpen+" CLOSED", tracer.ReasonReset)
	})
}

// A namespace goes away, and takes what is in TIME_WAIT with it.
func TestNamespaceRemoved(t *testing.T) {
	eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
		p := ns.Pair(f)
		finish(ns, r, p.Client, p.Server)
		orphan := ns.Pair(f)
		orphan.Client.Close()
		r.orphan(orphan.Client)
		orphan.Server.Reset()
		r.chain(orphan.Client.Cookie)

		ns.Remove()
		c := r.chain(p.Client.Cookie)
		c.want(t, clientOpen+" FIN_WAIT_1 FIN_WAIT_2 TIME_WAIT CLOSED", tracer.ReasonNetNSRemoved)
		c.owned(t, tracer.RoleClient)
	})
}

func TestConnectFails(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
			bound := ns.Socket(f).Bind(0) // does not listen
			c := ns.Socket(f)
			isErrno(t, c.TryConnect(bound.Local), unix.ECONNREFUSED)
			r.chain(c.Cookie).want(t, "CLOSED SYN_SENT CLOSED", tracer.ReasonRefused)
		})
	})
	t.Run("timed out", func(t *testing.T) {
		eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
			deaf := ns.Socket(f).Bind(0).Listen()
			deaf.DropIncoming(false)
			c := ns.Socket(f).Set(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 500)
			isErrno(t, c.TryConnect(deaf.Local), unix.ETIMEDOUT)
			r.chain(c.Cookie).want(t, "CLOSED SYN_SENT CLOSED", tracer.ReasonTimedOut)
		})
	})
	t.Run("unreachable", func(t *testing.T) {
		eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
			deaf := ns.Socket(f).Bind(0).Listen()
			deaf.DropIncoming(false)
			sniffer := ns.Sniff(f)
			c := ns.Socket(f)
			failed := make(chan error, 1)
			go func() { failed <- c.TryConnect(deaf.Local) }()
			syn := sniffer.SYN(deaf.Local.Port())
			// One that comes while connect() still holds the socket is not acted upon.
			var err error
			for err == nil {
				ns.HostUnreachable(f.Addr, f.Addr, syn)
				select {
				case err = <-failed:
				case <-time.After(20 * time.Millisecond):
				}
			}
			isErrno(t, err, unix.EHOSTUNREACH)
			r.chain(c.Cookie).want(t, "CLOSED SYN_SENT CLOSED", tracer.ReasonUnreachable)
		})
	})
	t.Run("no port", func(t *testing.T) {
		eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
			ns.Sysctl("ip_local_port_range", "40000 40000")
			listener := ns.Socket(f).Bind(50000).Listen()
			ns.Socket(f).Connect(listener.Local)
			c := ns.Socket(f)
			isErrno(t, c.TryConnect(listener.Local), unix.EADDRNOTAVAIL)
			failed := r.chain(c.Cookie)
			failed.want(t, "CLOSED SYN_SENT CLOSED", tracer.ReasonNoPort)
			if p := failed.last().Local.Port(); p != 0 {
				t.Errorf("local port %d, but there was none", p)
			}
		})
	})
}

func TestListener(t *testing.T) {
	eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
		l := ns.Socket(f).Bind(0)
		began := now()
		l.Listen()
		listening := now()
		time.Sleep(20 * time.Millisecond)
		ending := now()
		l.Close()
		ended := now()

		c := r.chain(l.Cookie)
		c.want(t, "CLOSED LISTEN CLOSED", tracer.ReasonClosed)
		c.owned(t, tracer.RoleListener)
		within(t, "LISTEN", c.last().Duration, ending-listening, ended-began)
		if got := c.last().Local; got != l.Local {
			t.Errorf("local %v, want %v", got, l.Local)
		}
	})
}

// A dual-stack socket that speaks IPv4 is shown as IPv4.
func TestV4Mapped(t *testing.T) {
	t.Parallel()
	ns, r := record(t)
	v4, v6 := sandbox.Families[0], sandbox.Families[1]
	l := ns.Socket(v6).BindAny()
	l.Listen()
	c := ns.Socket(v4).Connect(sandbox.At(v4, l.Local.Port()))
	s := l.Accept()

	for _, tr := range r.until(s.Cookie, tracer.Established) {
		if tr.Local != sandbox.At(v4, l.Local.Port()) || tr.Remote != c.Local {
			t.Errorf("%v -> %v: %v > %v, want %v > %v", tr.From, tr.To, tr.Local, tr.Remote, sandbox.At(v4, l.Local.Port()), c.Local)
		}
	}
}

// A multipath TCP connection is made of TCP subflows, which are shown; the
// connection itself is another protocol and counted as filtered.
func TestMPTCPSubflows(t *testing.T) {
	t.Parallel()
	ns, r := record(t)
	v4 := sandbox.Families[0]
	l := ns.MPTCP(v4).Bind(0).Listen()
	c := ns.MPTCP(v4).Connect(l.Local)
	s := l.Accept()
	c.Close()
	s.Close()

	// A subflow has a cookie of its own: find it by its port. Workers close both
	// ends; whichever is first holds the TIME_WAIT.
	deadline := time.Now().Add(30 * time.Second)
	for {
		paths := make(map[uint64]chain)
		for _, tr := range r.snapshot() {
			if tr.Local == c.Local || tr.Remote == c.Local {
				paths[tr.Cookie] = append(paths[tr.Cookie], tr)
			}
		}
		for _, p := range paths {
			if to := p.last().To; to == tracer.TimeWait || late && to == tracer.FinWait2 {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("no subflow of %v reached TIME_WAIT", c.Local)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
