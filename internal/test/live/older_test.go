//go:build linux

package live_test

import (
	"testing"
	"time"

	"finwait/internal/sandbox"
	"finwait/tracer"
)

// Sockets existed before the tracer. It did not see their states begin, so durations are lower
// bounds. Their owners come from /proc, and are said to be holders: so are those of what an older
// listener accepts.
func TestOlderSockets(t *testing.T) {
	eachFamily(t, func(t *testing.T, ns *sandbox.NS, _ *recorder, f sandbox.Family) {
		leave := inhabit(t, ns)
		connected := ns.Pair(f)
		half := ns.Pair(f)
		half.Client.ShutdownWrite()
		half.Client.WaitState(uint8(tracer.FinWait2))
		orphan := ns.Pair(f)
		orphan.Client.Close()
		gone := ns.Pair(f)
		gone.Client.Close()
		gone.Server.WaitState(uint8(tracer.CloseWait))
		gone.Server.Close()
		waitStates(t, ns, tracer.TimeWait, 1)
		entered := now()
		time.Sleep(200 * time.Millisecond)

		kept := newRecorder(t)
		start(t, tracer.Config{Filter: tracer.Filter{NetNS: []uint64{ns.Cookie}}}, kept)
		attached := now()
		time.Sleep(100 * time.Millisecond)
		late := ns.Socket(f).Connect(connected.Listener.Local)
		accepted := connected.Listener.Accept()
		moving := now()
		connected.Client.Close()
		half.Server.Close()
		orphan.Server.Reset()

		// The owner of an older listener becomes that of the sockets that it accepts now.
		child, client := kept.until(accepted.Cookie, tracer.Established), kept.until(late.Cookie, tracer.Established)
		child.owned(t, tracer.RoleServer)
		client.owned(t, tracer.RoleClient)
		if !child[0].Owner.Holder || client[0].Owner.Holder {
			t.Errorf("the owner of a child of an older listener holds it: %v; of a client: %v", child[0].Owner.Holder, client[0].Owner.Holder)
		}

		first := kept.until(connected.Client.Cookie, tracer.FinWait2)[0]
		atLeast(t, first, tracer.Established, moving-attached)
		if first.Owner.PID == 0 || first.Owner.Comm.String() != processName(t) || first.Role != tracer.RoleUnknown {
			t.Errorf("an older socket: owner %d/%v, role %q", first.Owner.PID, first.Owner.Comm, first.Role)
		}
		waits := kept.until(half.Client.Cookie, tracer.TimeWait)[0]
		atLeast(t, waits, tracer.FinWait2, moving-attached)
		for _, x := range []tracer.Transition{first, waits} {
			if !x.Owner.Holder {
				t.Errorf("the owner of an older socket is not said to be its holder:\n%v", chain{x})
			}
		}
		reset := kept.chain(orphan.Client.Cookie)
		atLeast(t, reset[0], tracer.FinWait2, moving-attached)
		if want := rstReason(reset); reset.last().Reason != want {
			t.Errorf("an older orphan ended %v, want %v", reset.last().Reason, want)
		}

		// The rest of its timer tells the age of an older TIME_WAIT.
		leave()
		outlast(ns)
		over := kept.chain(gone.Client.Cookie)
		if got := over.path(); got != "TIME_WAIT CLOSED" {
			t.Errorf("an older TIME_WAIT went %s", got)
		}
		atLeast(t, over[0], tracer.TimeWait, over[0].Ktime-entered-ticks(t))
		fullTimeWait(t, over[0])
	})
}

func atLeast(t *testing.T, x tracer.Transition, from tracer.State, least time.Duration) {
	t.Helper()
	if x.From != from || x.Precision != tracer.PrecisionAtLeast || x.Duration < least {
		t.Errorf("want %v for at least %v, got\n%v", from, least, chain{x})
	}
}

// waitStates waits until the kernel has n sockets in a state.
func waitStates(t *testing.T, ns *sandbox.NS, s tracer.State, n int) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ns.States()[uint8(s)] != n; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the kernel never had %d sockets in %v: %v", n, s, ns.States())
		}
	}
}
