//go:build linux

package live_test

import (
	"testing"
	"time"

	"finwait/internal/sandbox"
	"finwait/tracer"

	"golang.org/x/sys/unix"
)

// The programs know since when each socket is in its state, and which end it is; of what is older they
// know the least.
func TestLiveSockets(t *testing.T) {
	t.Parallel()
	f := sandbox.Families[0]
	ns := sandbox.New(t)
	inhabit(t, ns)
	older := ns.Pair(f)
	tr, err := tracer.New(tracer.Config{LiveSockets: true, TotalsOnly: true, Hooks: hooks})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	attached := now()
	// of asks for the socket until it is in a state of which something is known.
	of := func(s *sandbox.Sock, state tracer.State) (found tracer.LiveSocket) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); found.Cookie == 0; time.Sleep(5 * time.Millisecond) {
			if err := tr.LiveSockets(ns.Path(), func(l *tracer.LiveSocket) {
				if l.Cookie == s.Cookie && l.State == state {
					found = *l
				}
			}); err != nil {
				t.Fatal(err)
			}
			if time.Now().After(deadline) {
				t.Fatalf("nothing is known of a socket in %v", state)
			}
		}
		return found
	}
	check := func(s *sandbox.Sock, state tracer.State, role tracer.Role, from, to time.Duration) {
		t.Helper()
		l := of(s, state)
		slack := time.Duration(0)
		if l.Precision == tracer.PrecisionJiffy {
			slack = 20 * time.Millisecond
		}
		if l.Precision == tracer.PrecisionAtLeast || l.Role != role || l.Since < from-slack || l.Since > to+slack {
			t.Errorf("%v: %+v, want role %v, since between %v and %v", state, l, role, from, to)
		}
	}

	began := now()
	p := ns.Pair(f)
	open := now()
	check(p.Client, tracer.Established, tracer.RoleClient, began, open)
	check(p.Server, tracer.Established, tracer.RoleServer, began, open)
	closing := now()
	p.Client.ShutdownWrite()
	p.Server.WaitState(unix.BPF_TCP_CLOSE_WAIT)
	p.Client.WaitState(unix.BPF_TCP_FIN_WAIT2)
	half := now()
	check(p.Client, tracer.FinWait2, tracer.RoleClient, closing, half)
	check(p.Server, tracer.CloseWait, tracer.RoleServer, closing, half)
	p.Client.Close() // FIN_WAIT_2 goes on in a minisock
	check(p.Client, tracer.FinWait2, tracer.RoleClient, closing, half)

	if l := of(older.Client, tracer.Established); l.Precision != tracer.PrecisionAtLeast || l.Role != tracer.RoleUnknown || l.Since > attached {
		t.Errorf("older: %+v, attached at %v", l, attached)
	}
	if err := tr.LiveSockets("/proc/self/ns/mnt", func(*tracer.LiveSocket) {}); err == nil {
		t.Error("no network namespace, and no error")
	}
}
