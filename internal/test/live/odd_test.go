//go:build linux

package live_test

import (
	"testing"
	"time"

	"finwait/internal/sandbox"
	"finwait/tracer"

	"golang.org/x/sys/unix"
)

// One descriptor has two connections, which share a cookie. The TIME_WAIT of the first still
// exists when that of the second begins.
func TestTwoLives(t *testing.T) {
	eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
		l := ns.Socket(f).Bind(0).Listen()
		c := ns.Socket(f)
		var ports []uint16
		for range 2 {
			c.Connect(l.Local)
			ports = append(ports, c.Local.Port())
			s := l.Accept()
			c.ShutdownWrite()
			c.WaitState(unix.BPF_TCP_FIN_WAIT2)
			s.Close()
			c.WaitState(unix.BPF_TCP_CLOSE)
			c.Disconnect()
			time.Sleep(300 * time.Millisecond) // the two have different durations, so that a mix-up shows
		}
		reason := outlast(ns)
		for _, port := range ports {
			var life chain
			for deadline := time.Now().Add(100 * time.Second); len(life) == 0 || life.last().To != tracer.Closed; time.Sleep(20 * time.Millisecond) {
				life = nil
				for _, x := range r.snapshot() {
					if x.Cookie == c.Cookie && x.Local.Port() == port {
						life = append(life, x)
					}
				}
				if time.Now().After(deadline) {
					t.Fatalf("port %d did not close:\n%v", port, life)
				}
			}
			if got, want := life.path(), "SYN_SENT ESTABLISHED FIN_WAIT_1 FIN_WAIT_2 TIME_WAIT CLOSED"; got != want {
				t.Errorf("port %d went %s, want %s", port, got, want)
			}
			last := life.last()
			if last.Reason != reason || last.Rearms != 0 || last.Owner.PID == 0 {
				t.Errorf("port %d: %v", port, chain{last})
			}
			for i := 1; i < len(life); i++ {
				if life[i].Duration != life[i].Ktime-life[i-1].Ktime {
					t.Errorf("port %d: a duration of the other life:\n%v", port, life)
				}
			}
		}
	})
}

// A socket with TCP_LINGER2 of -1 has no TIME_WAIT. That is not an overflow of tcp_max_tw_buckets.
func TestNoLinger2(t *testing.T) {
	eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
		ns.Sysctl("tcp_max_tw_buckets", "0")
		p := ns.Pair(f)
		p.Client.Set(unix.IPPROTO_TCP, unix.TCP_LINGER2, -1)
		p.Client.ShutdownWrite()
		p.Client.WaitState(unix.BPF_TCP_FIN_WAIT2)
		p.Client.Close()
		r.chain(p.Client.Cookie).want(t, clientOpen+" FIN_WAIT_1 FIN_WAIT_2 CLOSED", tracer.ReasonAborted)
		if n := ns.Counter("TcpExt.TCPTimeWaitOverflow"); n != 0 {
			t.Errorf("the kernel counts %d overflows: this tests something else", n)
		}
	})
}

// shutdown() comes before the end of the handshake (TCP Fast Open). Then the softirq that ends
// the handshake sends the FIN. It may run in the context of any task.
func TestDeferredFIN(t *testing.T) {
	t.Parallel()
	ns, r := record(t)
	f := sandbox.Families[0]
	ns.Sysctl("tcp_fastopen", "519") // client and server, without Fast Open cookies
	l := ns.Socket(f).Bind(0)
	l.Set(unix.IPPROTO_TCP, unix.TCP_FASTOPEN, 5)
	l.Listen()
	l.OnlySYN() // the child inherits the filter, and does not receive the ACK
	c := ns.Socket(f)
	c.FastOpen(l.Local)
	s := l.Accept()
	s.ShutdownWrite()
	if st := s.Info().State; st != unix.BPF_TCP_SYN_RECV {
		t.Fatalf("the child is in state %d: this tests something else", st)
	}
	s.LetIncoming()
	s.WaitState(unix.BPF_TCP_FIN_WAIT2)

	for _, x := range r.until(s.Cookie, tracer.FinWait2) {
		if x.Closer.PID != 0 {
			t.Errorf("closer %d/%v, taken from the task that was interrupted:\n%v", x.Closer.PID, x.Closer.Comm, chain{x})
		}
	}
}
