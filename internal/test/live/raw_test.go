//go:build linux

package live_test

import (
	"context"
	"testing"
	"time"

	"finwait/internal/sandbox"
	"finwait/tracer"

	"golang.org/x/sys/unix"
)

// Raw events show what the hooks see, including the hand-over to a minisock.
func TestRaw(t *testing.T) {
	t.Parallel()
	f := sandbox.Families[0]
	ns := sandbox.New(t)
	tr, err := tracer.New(tracer.Config{Raw: true, Hooks: hooks, Filter: tracer.Filter{NetNS: []uint64{ns.Cookie}}})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	ctx, cancel := context.WithCancel(context.Background())
	seen := make(map[tracer.Hook]int)
	var handOver bool
	var n uint64
	done := make(chan error, 1)
	p := ns.Pair(f)
	cookie := p.Client.Cookie
	go func() {
		done <- tr.RunRaw(ctx, func(r *tracer.RawEvent) error {
			n++
			if r.Cookie == cookie {
				seen[r.Hook]++
				handOver = handOver || r.From == tracer.FinWait2 && r.To == tracer.Closed
			}
			return nil
		})
	}()
	p.Client.Close()
	p.Server.WaitState(unix.BPF_TCP_CLOSE_WAIT)
	time.Sleep(20 * time.Millisecond)
	p.Server.Close()
	waitStates(t, ns, tracer.TimeWait, 1)
	time.Sleep(20 * time.Millisecond)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	want := []tracer.Hook{tracer.HookSetState, tracer.HookTimerStart}
	if tr.Hooks() == tracer.HooksFentry {
		want = []tracer.Hook{tracer.HookSetState, tracer.HookTWAlloc, tracer.HookTWSchedule}
	}
	for _, hook := range want {
		if !handOver || seen[hook] == 0 {
			t.Errorf("hand-over seen: %v; events by hook: %v, want some of %v", handOver, seen, hook)
		}
	}
	for hook := range seen {
		if set := hook >= tracer.HookTWAlloc; hook != tracer.HookSetState && set != (tr.Hooks() == tracer.HooksFentry) {
			t.Errorf("%v is not one of the %v hooks", hook, tr.Hooks())
		}
	}
	st, err := tr.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if st.Delivered != n || st.Seen != st.Filtered+st.Delivered+st.Lost.Total() {
		t.Errorf("%d events came, accounts say %+v", n, st)
	}
}
