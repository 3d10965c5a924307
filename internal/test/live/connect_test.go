//go:build linux

package live_test

import (
	"net/netip"
	"testing"
	"time"

	"finwait/internal/sandbox"
	"finwait/tracer"

	"golang.org/x/sys/unix"
)

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
			// The kernel ignores an ICMP error while connect() has the socket locked.
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

// A connect() without a route fails before SYN_SENT, and makes no transition.
func TestConnectWithoutRoute(t *testing.T) {
	eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
		away := netip.MustParseAddrPort("192.0.2.1:80") // RFC 5737
		if f.AF == unix.AF_INET6 {
			away = netip.MustParseAddrPort("[2001:db8::1]:80") // RFC 3849
		}
		l := ns.Socket(f).Bind(0).Listen()
		c := ns.Socket(f)
		isErrno(t, c.TryConnect(away), unix.ENETUNREACH)
		c.Connect(l.Local)
		if got, want := r.until(c.Cookie, tracer.Established).path(), "CLOSED SYN_SENT ESTABLISHED"; got != want {
			t.Errorf("went %s, want %s", got, want)
		}
	})
}

// isErrno fails the test unless err is the errno.
func isErrno(t testing.TB, err error, want unix.Errno) {
	t.Helper()
	if err != want {
		t.Fatalf("connect: %v, want %v", err, want)
	}
}

// After a connect() that failed, the socket still has its old port.
func TestConnectAgain(t *testing.T) {
	eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
		bound := ns.Socket(f).Bind(0)
		c := ns.Socket(f)
		isErrno(t, c.TryConnect(bound.Local), unix.ECONNREFUSED)
		refused := r.chain(c.Cookie)
		refused.want(t, "CLOSED SYN_SENT CLOSED", tracer.ReasonRefused)
		if refused.last().Local.Port() == 0 {
			t.Error("the refused connection had a port")
		}
		l := ns.Socket(f).Bind(0).Listen()
		c.Connect(l.Local)
		again := r.until(c.Cookie, tracer.Established)
		again.check(t)
		if got, want := again.path(), "CLOSED SYN_SENT CLOSED SYN_SENT ESTABLISHED"; got != want {
			t.Errorf("went %s, want %s", got, want)
		}
		if x := again[2]; x.Local.Port() != 0 || x.Role != tracer.RoleClient {
			t.Errorf("the second connect has no port yet:\n%v", chain{x})
		}
	})
}
