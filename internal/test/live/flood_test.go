//go:build linux

package live_test

import (
	"context"
	"errors"
	"os"
	"runtime"
	"testing"
	"time"

	"finwait/internal/audit"
	generator "finwait/internal/load"
	"finwait/internal/sandbox"
	"finwait/tracer"
)

// A machine makes transitions as fast as it can, and there is no room for them: the ring buffer
// has one page, or the map a few minisocks. Losses are counted by cause. If only the ring was
// full, the totals are as exact as the kernel's counters.
func TestFlood(t *testing.T) {
	t.Parallel()
	count := 10_000
	if testing.Short() {
		count = 100
	}
	for name, cfg := range map[string]tracer.Config{
		"one page":      {RingBytes: uint32(os.Getpagesize())},
		"few minisocks": {Minisocks: 16},
	} {
		t.Run(name, func(t *testing.T) {
			ns := sandbox.New(t)
			inhabit(t, ns)
			cfg.Audit = true
			kept := newRecorder(t)
			tr := start(t, cfg, kept)
			before, err := audit.Take(tr.Tracer)
			if err != nil {
				t.Fatal(err)
			}
			sum, err := generator.Run(t.Context(), generator.Config{Count: count, Workers: 2, NetNS: ns.Path()}, nil)
			if err != nil || sum.Made != count {
				t.Fatalf("%d of %d connections: %v, %v", sum.Made, count, sum.Failed, err)
			}
			waitStates(t, ns, tracer.LastAck, 0)
			after, err := audit.Take(tr.Tracer)
			if err != nil {
				t.Fatal(err)
			}
			tr.stop(t)
			st := tr.stats(t)
			t.Logf("%.0f transitions a second: %+v", float64(10*count)/sum.Elapsed.Seconds(), st)
			if n := uint64(len(kept.snapshot())); n != st.Delivered {
				t.Errorf("%d transitions were handed over, %d delivered", n, st.Delivered)
			}
			if full := cfg.Minisocks > 0; st.Lost.RingFull == 0 && !full || st.Lost.MapFull == 0 && full {
				t.Errorf("nothing was lost, so this tests nothing: %+v", st)
			}
			rows := 0
			for _, r := range audit.Compare(before, after, runtime.NumCPU()) {
				if r.NetNS != ns.Inode {
					continue
				}
				rows++
				if r.Verdict == audit.Disagrees || r.Verdict != audit.Agrees && st.Lost.Total() == st.Lost.RingFull {
					t.Errorf("%+v; %+v", r, st)
				}
				if r.Counter == "ActiveOpens" && r.Kernel != int64(count) {
					t.Errorf("the kernel counted %d connections, %d were made", r.Kernel, count)
				}
			}
			if rows < 2 {
				t.Errorf("%d counters of the namespace were compared", rows)
			}
		})
	}
}

// slowToEnd is a context whose AfterFunc runs some time after its end.
type slowToEnd struct{ context.Context }

func (c slowToEnd) Value(any) any { return nil }

func (c slowToEnd) AfterFunc(f func()) func() bool {
	return context.AfterFunc(c.Context, func() { time.Sleep(300 * time.Millisecond); f() })
}

// The programs deliver until they are detached, and the reader hands all of it over. A reader
// that ended too early would miss something in about one of five rounds.
func TestReadToTheEnd(t *testing.T) {
	t.Parallel()
	for range 8 {
		readToTheEnd(t)
	}
}

func readToTheEnd(t *testing.T) {
	t.Helper()
	ns := sandbox.New(t)
	tr, err := tracer.New(tracer.Config{Hooks: hooks})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	busy, idle := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := generator.Run(busy, generator.Config{Count: 10_000, Workers: 2, NetNS: ns.Path()}, nil)
		done <- err
	}()
	var n uint64
	err = tr.Run(slowToEnd{ctx}, func(*tracer.Transition) error {
		if n++; n == 100 {
			cancel()
		}
		return nil
	})
	idle()
	if err := errors.Join(err, <-done); err != nil {
		t.Fatal(err)
	}
	st, err := tr.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if n != st.Delivered {
		t.Errorf("%d transitions were handed over, %d delivered", n, st.Delivered)
	}
}
