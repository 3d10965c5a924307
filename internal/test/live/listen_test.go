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

// ss -K destroys a listener without connections. tcp_abort() closes it twice.
func TestListenerDestroyed(t *testing.T) {
	eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
		l := ns.Socket(f).Bind(0).Listen()
		any := netip.IPv4Unspecified()
		if f.AF == unix.AF_INET6 {
			any = netip.IPv6Unspecified()
		}
		destroy(t, ns, f, l, netip.AddrPortFrom(any, 0))
		c := r.chain(l.Cookie)
		c.want(t, "CLOSED LISTEN CLOSED", tracer.ReasonDestroyed)
		c.owned(t, tracer.RoleListener)
		if c.last().Closer.PID != 0 {
			t.Errorf("closer %d: it was destroyed", c.last().Closer.PID)
		}
	})
}

// The second socket that listens on an address fails after it was in LISTEN. No process closes it.
func TestListenFails(t *testing.T) {
	eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
		first := ns.Socket(f).Bind(0)
		second := ns.Socket(f).Bind(first.Local.Port())
		first.Listen()
		isErrno(t, second.TryListen(), unix.EADDRINUSE)
		c := r.chain(second.Cookie)
		c.want(t, "CLOSED LISTEN CLOSED", tracer.ReasonAborted)
		if c.last().Closer.PID != 0 {
			t.Errorf("closer %d: nobody closed it", c.last().Closer.PID)
		}
	})
}
