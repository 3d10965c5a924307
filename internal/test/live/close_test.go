//go:build linux

package live_test

import (
	"testing"
	"time"

	"finwait/internal/sandbox"
	"finwait/tracer"

	"golang.org/x/sys/unix"
)

// The four-way close, client first.
func TestClose(t *testing.T) {
	eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
		p := ns.Pair(f)

		began := now()
		p.Client.Close()
		closed := now()
		p.Server.WaitState(unix.BPF_TCP_CLOSE_WAIT)
		time.Sleep(300 * time.Millisecond)
		answered := now()
		p.Server.ShutdownWrite()
		p.Server.WaitState(unix.BPF_TCP_CLOSE)
		over := now()
		p.Server.Close()

		server := r.chain(p.Server.Cookie)
		server.want(t, serverOpen+" CLOSE_WAIT LAST_ACK CLOSED", tracer.ReasonClosed)
		server.owned(t, tracer.RoleServer)

		reason := outlast(ns)
		client := r.chain(p.Client.Cookie)
		client.want(t, clientOpen+" FIN_WAIT_1 FIN_WAIT_2 TIME_WAIT CLOSED", reason)
		client.owned(t, tracer.RoleClient)

		// FIN_WAIT_1 and FIN_WAIT_2 last from our close() to the peer's FIN.
		one, two := client.leaving(t, tracer.FinWait1), client.leaving(t, tracer.FinWait2)
		off := blur(t, two)
		within(t, "FIN_WAIT_1 + FIN_WAIT_2", one.Duration+two.Duration, answered-closed-off, over-began+off)
		within(t, "FIN_WAIT_2", two.Duration, answered-closed-one.Duration-off, over-began-one.Duration+off)
		if slack := (over - began) - (answered - closed); slack > 20*time.Millisecond {
			t.Logf("the machine was busy: the test knows its own times to %v only", slack)
		}
		within(t, "CLOSE_WAIT", server.leaving(t, tracer.CloseWait).Duration, answered-closed-one.Duration, over-began)
		if two.Reason != tracer.ReasonFinReceived || two.Source != tracer.SourceMinisock {
			t.Errorf("FIN_WAIT_2 was left: %v, %v; want fin_received, minisock", two.Reason, two.Source)
		}

		wait := client.last()
		fullTimeWait(t, wait)
		if wait.Rearms != 0 || wait.Source != tracer.SourceMinisock {
			t.Errorf("TIME_WAIT: %d re-arms from %v, want 0 from minisock", wait.Rearms, wait.Source)
		}
		if reason == tracer.ReasonExpired && ns.States()[uint8(tracer.TimeWait)] != 0 {
			t.Errorf("TIME_WAIT is over, but the kernel has %v", ns.States())
		}
	})
}

// An open descriptor keeps a full socket in FIN_WAIT_2.
func TestHalfClose(t *testing.T) {
	eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
		p := ns.Pair(f)
		p.Client.ShutdownWrite()
		p.Client.WaitState(unix.BPF_TCP_FIN_WAIT2)
		began := now()
		time.Sleep(100 * time.Millisecond)
		slept := now() - began
		p.Server.Close()

		client := r.until(p.Client.Cookie, tracer.TimeWait)
		client.check(t)
		client.owned(t, tracer.RoleClient)
		if got, want := client.path(), clientOpen+" FIN_WAIT_1 FIN_WAIT_2 TIME_WAIT"; got != want {
			t.Errorf("went %s, want %s", got, want)
		}
		if d := client.last().Duration; d < slept {
			t.Errorf("FIN_WAIT_2 lasted %v, but the test waited %v in it", d, slept)
		}
		if n := ns.States()[uint8(tracer.TimeWait)]; n != 1 {
			t.Errorf("the kernel has %d in TIME_WAIT, want 1", n)
		}
		reason := outlast(ns)
		r.chain(p.Client.Cookie).want(t, clientOpen+" FIN_WAIT_1 FIN_WAIT_2 TIME_WAIT CLOSED", reason)
	})
}

// close() after shutdown() sets the state that the socket is in already. That is no transition,
// and the time in the state goes on.
func TestShutdownThenClose(t *testing.T) {
	eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
		ns.Sysctl("tcp_fin_timeout", "1")
		one, two := ns.Pair(f), ns.Pair(f)
		one.Server.DropIncoming(false) // keeps the client in FIN_WAIT_1
		began := now()
		one.Client.ShutdownWrite()
		two.Client.ShutdownWrite()
		two.Client.WaitState(unix.BPF_TCP_FIN_WAIT2)
		time.Sleep(50 * time.Millisecond)
		one.Client.Close()
		two.Client.Close()
		closed := now()
		one.Server.LetIncoming()

		for _, p := range []*sandbox.Pair{one, two} {
			c := r.chain(p.Client.Cookie)
			c.want(t, clientOpen+" FIN_WAIT_1 FIN_WAIT_2 CLOSED", tracer.ReasonExpired)
			c.owned(t, tracer.RoleClient)
		}
		if d := r.chain(one.Client.Cookie).leaving(t, tracer.FinWait1).Duration; d < 50*time.Millisecond || d > now()-began {
			t.Errorf("FIN_WAIT_1 lasted %v, and close() came %v after it began", d, closed-began)
		}
		never := ns.Socket(f)
		never.Close() // CLOSED -> CLOSED
		for _, x := range r.snapshot() {
			if x.Cookie == never.Cookie {
				t.Errorf("a socket that did nothing: %v", chain{x})
			}
		}
	})
}

// Both FINs cross: each end receives the peer's FIN before the ACK of its own.
func TestSimultaneousClose(t *testing.T) {
	eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
		p := ns.Pair(f)
		a, b := p.Client, p.Server
		aSeq, bSeq := a.Sequence(), b.Sequence()
		a.DropIncoming(true)
		b.DropIncoming(true)
		a.ShutdownWrite()
		b.ShutdownWrite()
		// The same FINs arrive late.
		ns.Send(b.Local, a.Local, sandbox.FIN|sandbox.ACK, bSeq, aSeq)
		ns.Send(a.Local, b.Local, sandbox.FIN|sandbox.ACK, aSeq, bSeq)
		a.WaitState(unix.BPF_TCP_CLOSING)
		b.WaitState(unix.BPF_TCP_CLOSING)
		a.LetIncoming()
		b.LetIncoming()

		const closing = " FIN_WAIT_1 CLOSING TIME_WAIT CLOSED"
		r.timeWait(ns, a)
		r.timeWait(ns, b)
		reason := outlast(ns)
		client, server := r.chain(a.Cookie), r.chain(b.Cookie)
		client.want(t, clientOpen+closing, reason)
		server.want(t, serverOpen+closing, reason)
		client.owned(t, tracer.RoleClient)
		server.owned(t, tracer.RoleServer)
		for _, c := range []chain{client, server} {
			fullTimeWait(t, c.last())
		}
	})
}

// The peer never closes, and tcp_fin_timeout ends the FIN_WAIT_2 of an orphan.
func TestOrphanTimesOut(t *testing.T) {
	eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
		ns.Sysctl("tcp_fin_timeout", "1")
		p := ns.Pair(f)
		p.Client.Close()

		client := r.chain(p.Client.Cookie)
		client.want(t, clientOpen+" FIN_WAIT_1 FIN_WAIT_2 CLOSED", tracer.ReasonExpired)
		client.owned(t, tracer.RoleClient)
		if d := client.last().Duration; d < time.Second-ticks(t) {
			t.Errorf("FIN_WAIT_2 lasted %v with tcp_fin_timeout=1", d)
		}
	})
}

func TestResetInFinWait2(t *testing.T) {
	eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
		p := ns.Pair(f)
		p.Client.Close()
		r.orphan(p.Client)
		p.Server.Reset()

		client := r.chain(p.Client.Cookie)
		client.want(t, clientOpen+" FIN_WAIT_1 FIN_WAIT_2 CLOSED", rstReason(client))
		server := r.chain(p.Server.Cookie)
		server.want(t, serverOpen+" CLOSE_WAIT CLOSED", tracer.ReasonAborted)
		if server.last().Closer.PID == 0 {
			t.Error("the server's abort has no closer")
		}
	})
}

// rstReason is the reason that an RST in FIN_WAIT_2 gives. If a process had the socket locked
// when its FIN was acknowledged, the socket stays a full one (tcp_rcv_state_process()).
func rstReason(c chain) tracer.Reason {
	if c.last().Source == tracer.SourceSocket {
		return tracer.ReasonReset
	}
	return tracer.ReasonRSTReceived
}

func TestResetInTimeWait(t *testing.T) {
	eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
		p := ns.Pair(f)
		seq := p.Server.Sequence()
		p.Client.Close()
		r.orphan(p.Client)
		p.Server.Close()
		r.timeWait(ns, p.Client)
		began := now()
		time.Sleep(50 * time.Millisecond)
		slept := now() - began
		ns.Send(p.Listener.Local, p.Client.Local, sandbox.RST, seq+1, 0) // +1: the FIN

		client := r.chain(p.Client.Cookie)
		client.want(t, clientOpen+" FIN_WAIT_1 FIN_WAIT_2 TIME_WAIT CLOSED", tracer.ReasonRSTReceived)
		if d := client.last().Duration; d < slept-blur(t, client.last()) || d > time.Minute {
			t.Errorf("TIME_WAIT lasted %v, want %v at least and no minute", d, slept)
		}
	})
}

// The peer sends data after our close, and we answer with an RST.
func TestDataAfterClose(t *testing.T) {
	eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
		p := ns.Pair(f)
		p.Client.Close()
		r.orphan(p.Client)
		p.Server.Write()

		r.chain(p.Client.Cookie).want(t, clientOpen+" FIN_WAIT_1 FIN_WAIT_2 CLOSED", tracer.ReasonRSTSent)
		r.chain(p.Server.Cookie).want(t, serverOpen+" CLOSE_WAIT CLOSED", tracer.ReasonReset)
	})
}

// Data arrive while the socket is still a full one, in FIN_WAIT_1. Then sk_err is ECONNRESET, as
// if an RST had arrived.
func TestDataAfterCloseInFinWait1(t *testing.T) {
	eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
		p := ns.Pair(f)
		p.Server.DropIncoming(false) // our FIN is not acknowledged
		p.Client.Close()
		p.Server.Write()

		r.chain(p.Client.Cookie).want(t, clientOpen+" FIN_WAIT_1 CLOSED", tracer.ReasonRSTSent)
	})
}

// With tcp_max_tw_buckets=0 there is no TIME_WAIT, and none is reported.
func TestTimeWaitOverflow(t *testing.T) {
	eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
		ns.Sysctl("tcp_max_tw_buckets", "0")
		before := ns.Counter("TcpExt.TCPTimeWaitOverflow")
		p := ns.Pair(f)
		// With close() the socket could be locked when the ACK arrives, and stay a full one.
		p.Client.ShutdownWrite()
		p.Client.WaitState(unix.BPF_TCP_FIN_WAIT2)
		p.Server.Close()

		r.chain(p.Client.Cookie).want(t, clientOpen+" FIN_WAIT_1 FIN_WAIT_2 CLOSED", tracer.ReasonTimeWaitOverflow)
		if n := ns.Counter("TcpExt.TCPTimeWaitOverflow") - before; n != 1 {
			t.Errorf("the kernel counts %d overflows, want 1", n)
		}
		r.chain(p.Server.Cookie).check(t)
	})
}

// The last ACK is lost. The peer retransmits its FIN, and each FIN starts TIME_WAIT again.
func TestRetransmittedFIN(t *testing.T) {
	eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
		const again = 3
		p := ns.Pair(f)
		p.Client.Close()
		r.orphan(p.Client)
		p.Server.DropIncoming(false)
		p.Server.ShutdownWrite()
		p.Server.Wait("retransmissions", func(i *unix.TCPInfo) bool { return i.Total_retrans >= again })
		p.Server.LetIncoming()
		p.Server.WaitState(unix.BPF_TCP_CLOSE)
		sent := p.Server.Info().Total_retrans
		p.Server.Close()

		reason := outlast(ns)
		client := r.chain(p.Client.Cookie)
		client.want(t, clientOpen+" FIN_WAIT_1 FIN_WAIT_2 TIME_WAIT CLOSED", reason)
		last := client.last()
		if last.Rearms != sent && !(late && last.Rearms < sent) {
			t.Errorf("%d re-arms, but the peer sent its FIN %d times again", last.Rearms, sent)
		}
		// The peer's timer doubles from 200 ms on (RFC 6298): the third FIN came 1.4 s after the first.
		if reason == tracer.ReasonExpired && last.Precision == tracer.PrecisionExact && last.Duration < time.Minute+time.Second {
			t.Errorf("TIME_WAIT lasted %v although it was started again", last.Duration)
		}
	})
}

func TestLingerZero(t *testing.T) {
	eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
		p := ns.Pair(f)
		p.Client.Reset()
		client := r.chain(p.Client.Cookie)
		client.want(t, clientOpen+" CLOSED", tracer.ReasonAborted)
		client.owned(t, tracer.RoleClient)
		if client.last().Closer.PID == 0 {
			t.Error("the abort has no closer")
		}
		r.chain(p.Server.Cookie).want(t, serverOpen+" CLOSED", tracer.ReasonReset)
	})
}

// What tcp_fin_timeout has over 60 s is spent twice: as a full socket, then as a minisock.
func TestFinTimeoutOverMinute(t *testing.T) {
	eachFamily(t, func(t *testing.T, ns *sandbox.NS, r *recorder, f sandbox.Family) {
		ns.Sysctl("tcp_fin_timeout", "61")
		p := ns.Pair(f)
		p.Client.Orphan()
		end := r.chain(p.Client.Cookie)
		end.want(t, clientOpen+" FIN_WAIT_1 FIN_WAIT_2 CLOSED", tracer.ReasonExpired)
		// The next other result would be 61 s.
		if last := end.last(); last.Duration < 2*time.Second-ticks(t) || last.Duration > 30*time.Second || last.Detail != tracer.DetailOrphan {
			t.Errorf("detail %q after %v, want orphan after 2 s", last.Detail, last.Duration)
		}
	})
}
