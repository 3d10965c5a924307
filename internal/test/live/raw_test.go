//go:build linux

package live_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"finwait/internal/sandbox"
	"finwait/tracer"

	"golang.org/x/sys/unix"
)

// rawEvents is what the hooks see while do uses a namespace.
func rawEvents(t *testing.T, filter tracer.Filter, do func(ns *sandbox.NS)) (all []tracer.RawEvent, which tracer.HookSet) {
	t.Helper()
	ns := sandbox.New(t)
	filter.NetNS = []uint64{ns.Cookie}
	tr, err := tracer.New(tracer.Config{Raw: true, Hooks: hooks, Filter: filter})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- tr.RunRaw(ctx, func(r *tracer.RawEvent) error {
			all = append(all, *r)
			return nil
		})
	}()
	do(ns)
	time.Sleep(20 * time.Millisecond)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	st, err := tr.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if st.Delivered != uint64(len(all)) || st.Seen != st.Filtered+st.Delivered+st.Lost.Total() {
		t.Errorf("%d events came, accounts say %+v", len(all), st)
	}
	return all, tr.Hooks()
}

// Raw events show what the hooks see, including the hand-over to a minisock.
func TestRaw(t *testing.T) {
	t.Parallel()
	var cookie uint64
	all, set := rawEvents(t, tracer.Filter{}, func(ns *sandbox.NS) {
		p := ns.Pair(sandbox.Families[0])
		cookie = p.Client.Cookie
		p.Client.Close()
		p.Server.WaitState(unix.BPF_TCP_CLOSE_WAIT)
		time.Sleep(20 * time.Millisecond)
		p.Server.Close()
		waitStates(t, ns, tracer.TimeWait, 1)
	})
	seen := make(map[tracer.Hook]int)
	var handOver bool
	for _, r := range all {
		if r.Cookie == cookie {
			seen[r.Hook]++
			handOver = handOver || r.From == tracer.FinWait2 && r.To == tracer.Closed
		}
	}
	want := []tracer.Hook{tracer.HookSetState, tracer.HookTimerStart}
	if set == tracer.HooksFentry {
		want = []tracer.Hook{tracer.HookSetState, tracer.HookTWAlloc, tracer.HookTWSchedule}
	}
	for _, hook := range want {
		if !handOver || seen[hook] == 0 {
			t.Errorf("hand-over seen: %v; events by hook: %v, want some of %v", handOver, seen, hook)
		}
	}
	for hook := range seen {
		if own := hook >= tracer.HookTWAlloc; hook != tracer.HookSetState && own != (set == tracer.HooksFentry) {
			t.Errorf("%v is not one of the %v hooks", hook, set)
		}
	}
}

// A socket that TCP_REPAIR puts back passes SYN_SENT, which a trace leaves out. Raw events show it.
func TestRawRestored(t *testing.T) {
	t.Parallel()
	var cookie uint64
	all, _ := rawEvents(t, tracer.Filter{}, func(ns *sandbox.NS) {
		f := sandbox.Families[0]
		l := ns.Socket(f).Bind(0).Listen()
		s := ns.Socket(f).Set(unix.IPPROTO_TCP, unix.TCP_REPAIR, 1).Bind(0).Connect(l.Local)
		cookie = s.Cookie
		s.Close()
	})
	var path []string
	for _, r := range all {
		if r.Cookie == cookie && r.Hook == tracer.HookSetState {
			path = append(path, fmt.Sprint(r.From, " -> ", r.To))
		}
	}
	if got, want := strings.Join(path, ", "), "CLOSED -> SYN_SENT, SYN_SENT -> ESTABLISHED, ESTABLISHED -> CLOSED"; got != want {
		t.Errorf("%s; want %s", got, want)
	}
}

// A filter that asks for the local port waits until connect() has chosen it. The process and the time
// are those of the connect() all the same, and not of what tells the event.
func TestRawWaitsForPort(t *testing.T) {
	t.Parallel()
	var pid int
	var began, over time.Duration
	all, _ := rawEvents(t, tracer.Filter{NotPorts: []tracer.PortRange{tracer.Port(1)}}, func(ns *sandbox.NS) {
		deaf := ns.Socket(sandbox.Families[0]).Bind(0).Listen()
		deaf.DropIncoming(false)
		began = now()
		cmd := startWorker(t, ns, connects+deaf.Local.String())
		pid = cmd.Process.Pid
		for deadline := time.Now().Add(20 * time.Second); ns.States()[unix.BPF_TCP_SYN_SENT] == 0; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("nobody connects")
			}
		}
		over = now()
		time.Sleep(1500 * time.Millisecond) // this process looks every second for ports that are known, and tells the event
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for i := range all {
		if r := &all[i]; r.To == tracer.SynSent {
			if r.Task.PID != uint32(pid) || r.Ktime < began || r.Ktime > over {
				t.Errorf("%+v; process %d connected between %v and %v", r, pid, began, over)
			}
			return
		}
	}
	t.Errorf("no SYN_SENT among %d events", len(all))
}
