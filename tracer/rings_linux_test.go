package tracer_test

import (
	"context"
	"os"
	"testing"
	"time"

	"finwait/internal/sandbox"
	"finwait/internal/test/testnet"
	"finwait/tracer"
)

// The reader has seen nothing for a while, and is about to sleep until a program wakes it. Just then
// something happens: after the reader has read the clock, and before it looks at the rings. So the
// event is too young to be passed on at once, and has left its ring, whose wake-up shows nothing any
// more. It is passed on soon all the same.
func TestEventsBeforeTheReaderSleeps(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("loading BPF programs needs root")
	}
	t.Parallel()
	testnet.Attempts(t, func(t *testing.T) string {
		ns := sandbox.New(t)
		tr, err := tracer.New(tracer.Config{Filter: tracer.Filter{NetNS: []uint64{ns.Cookie}}})
		if err != nil {
			t.Fatal(err)
		}
		defer tr.Close()
		const rounds = 9
		looks, made := 0, 0 // looks at the rings since the last event
		tr.Meanwhile(func() {
			if looks++; looks == 1+made%3 && made < rounds { // the reader sleeps after three looks that show nothing
				looks = 0
				made++
				ns.Socket(sandbox.Families[0]).Bind(0).Listen()
			}
		})
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		seen := 0
		if err := tr.Run(ctx, func(*tracer.Transition) error {
			if seen++; seen == rounds {
				cancel()
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		st, err := tr.Stats()
		if err != nil {
			t.Fatal(err)
		}
		if st.Lost.Missed > 0 {
			return "a transition was missed"
		}
		if context.Cause(ctx) == context.DeadlineExceeded {
			t.Errorf("the reader slept: %d sockets listened, %d transitions were handed over by then", made, seen)
		}
		return ""
	})
}

// Every event is of the future, as one that a program has dated by memory which has been reused. It
// is passed on all the same, and so is what follows it.
func TestEventsOfTheFuture(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("loading BPF programs needs root")
	}
	t.Parallel()
	ns := sandbox.New(t)
	tr, err := tracer.New(tracer.Config{Filter: tracer.Filter{NetNS: []uint64{ns.Cookie}}})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	tr.StopClock()
	const listeners = 5
	for range listeners {
		ns.Socket(sandbox.Families[0]).Bind(0).Listen()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	seen := 0
	if err := tr.Run(ctx, func(*tracer.Transition) error {
		if seen++; seen == listeners {
			cancel()
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if context.Cause(ctx) == context.DeadlineExceeded {
		t.Errorf("%d of %d events were passed on", seen, listeners)
	}
}
