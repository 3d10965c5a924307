//go:build linux

package live_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"finwait/internal/sandbox"
	"finwait/internal/sockdiag"
	"finwait/tracer"

	"golang.org/x/sys/unix"
)

// finish closes a pair, first before second, and waits until first is in TIME_WAIT.
func finish(ns *sandbox.NS, r *recorder, first, second *sandbox.Sock) {
	r.t.Helper()
	first.Close()
	r.orphan(first)
	second.Close()
	r.timeWait(ns, first)
	r.until(second.Cookie, tracer.Closed)
}

// connect() reuses its own TIME_WAIT when ports run out (tcp_tw_reuse).
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
		time.Sleep(2200 * time.Millisecond) // reuse needs a timestamp that is at least a second later
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
				r.timeWait(ns, c) // the other stays in TIME_WAIT
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

// A SYN of the client recycles the server's TIME_WAIT.
func TestRecycledBySYN(t *testing.T) {
	eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
		p := ns.Pair(f)
		finish(ns, r, p.Server, p.Client)
		time.Sleep(20 * time.Millisecond) // for a later timestamp
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

// Data and a FIN come to a minisock in FIN_WAIT_2 at the same time. If the FIN comes between the
// two steps in which the data ends it, it ends in TIME_WAIT: by our RST, as no SYN was sent.
func TestDataAndFINAtOnce(t *testing.T) {
	t.Parallel()
	if testing.Short() || runtime.NumCPU() < 2 {
		t.Skip("skipped: a race needs two CPUs, and those of an emulator stop for milliseconds")
	}
	const n = 2000
	ns, r := record(t)
	race, f := ns.Race(), sandbox.Families[0]
	l := ns.Socket(f).Bind(0).Listen()
	clients := make(map[uint64]bool)
	for range n {
		c := ns.Socket(f).Connect(l.Local)
		s := l.Accept()
		seq := s.Sequence()
		s.Set(unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) // the FIN is acknowledged at once: then there is a minisock
		clients[c.Cookie] = true
		c.Close()
		if err := race.DataAndFIN(l.Local, c.Local, seq, 0); err != nil {
			t.Fatal(err)
		}
		s.Reset()
	}
	ends := make(map[string]int)
	last := ns.Socket(f).Connect(l.Local)
	r.until(last.Cookie, tracer.Established)
	for _, x := range r.snapshot() {
		if clients[x.Cookie] && x.To == tracer.Closed {
			ends[fmt.Sprint(x.From, " ", x.Reason)]++
		}
	}
	t.Log(ends)
	if ends["TIME_WAIT recycled"] > 0 || ends["FIN_WAIT_2 rst_sent"]+ends["TIME_WAIT rst_sent"] == 0 {
		t.Errorf("%d races ended %v", n, ends)
	}
}

// A SYN of the client to a transparent proxy takes over the TIME_WAIT that the client has with the
// server behind it.
func TestRecycledByTPROXY(t *testing.T) {
	t.Parallel()
	nft, err := exec.LookPath("nft")
	if err != nil && os.Getenv("CI") != "" && !testing.Short() {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip("skipped: there is no nft here to redirect with (nftables)")
	}
	for i, f := range sandbox.Families {
		ns, r := record(t)
		p := ns.Pair(f)
		finish(ns, r, p.Server, p.Client)
		proxy := ns.Socket(f).Set([]int{unix.IPPROTO_IP, unix.IPPROTO_IPV6}[i], []int{unix.IP_TRANSPARENT, unix.IPV6_TRANSPARENT}[i], 1).Bind(0).Listen()
		rules := fmt.Sprintf("table inet t { chain c { type filter hook prerouting priority mangle; tcp dport %d tproxy %s to %s accept; }; }",
			p.Listener.Local.Port(), []string{"ip", "ip6"}[i], proxy.Local)
		cmd := exec.Command(nft, rules)
		cmd.Stderr = os.Stderr
		ns.Start(cmd)
		if err := cmd.Wait(); err != nil {
			t.Fatalf("nft %q: %v", rules, err)
		}
		time.Sleep(20 * time.Millisecond) // for a later timestamp
		again := ns.Socket(f).Bind(p.Client.Local.Port()).Connect(p.Listener.Local)
		if got := proxy.Accept().Local; got != p.Listener.Local {
			t.Fatalf("the proxy accepted a connection to %v: this tests something else", got)
		}
		server := r.chain(p.Server.Cookie)
		server.want(t, serverOpen+" FIN_WAIT_1 FIN_WAIT_2 TIME_WAIT CLOSED", tracer.ReasonRecycled)
		server.owned(t, tracer.RoleServer)
		r.until(again.Cookie, tracer.Established).check(t)
	}
}

// destroy ends a socket like ss -K.
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

// A namespace is removed, and its TIME_WAITs with it.
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
