//go:build linux

package live_test

import (
	"net/netip"
	"os"
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

// A listener closes while a connection waits in its queue. The kernel hands the connection to
// another process that listens there, or resets it.
func TestQueueOfAClosedListener(t *testing.T) {
	eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
		for _, moves := range []bool{true, false} {
			if _, err := os.Stat("/proc/sys/net/ipv4/tcp_migrate_req"); moves && err != nil {
				continue // before 5.14
			}
			ns.Sysctl("tcp_migrate_req", map[bool]string{true: "1", false: "0"}[moves])
			l := ns.Socket(f).Set(unix.SOL_SOCKET, unix.SO_REUSEPORT, 1).Bind(0).Listen()
			c := ns.Socket(f).Connect(l.Local)
			server := r.find(t, func(x *tracer.Transition) bool {
				return x.To == tracer.Established && x.Role == tracer.RoleServer && x.Remote == c.Local
			})
			other := startWorker(t, ns, shares+l.Local.String())
			pid := uint32(other.Process.Pid)
			r.find(t, func(x *tracer.Transition) bool { return x.To == tracer.Listen && x.Owner.PID == pid })
			l.Close()
			if !moves {
				end := r.chain(server.Cookie)
				end.want(t, serverOpen+" CLOSED", tracer.ReasonAborted)
				end.owned(t, tracer.RoleServer)
			} else {
				c.Close()
				end := r.chain(server.Cookie)
				end.want(t, serverOpen+" CLOSE_WAIT LAST_ACK CLOSED", tracer.ReasonClosed)
				for _, x := range end[2:] {
					if x.Owner.PID != 0 || x.Owner.Comm.String() != "" {
						t.Errorf("%v -> %v: the owner is %d/%v, which has it no more", x.From, x.To, x.Owner.PID, x.Owner.Comm)
					}
				}
				if by := end.last().Closer.PID; by != pid {
					t.Errorf("process %d closed it, want %d", by, pid)
				}
			}
			_ = other.Process.Kill()
			_ = other.Wait()
		}
	})
}
