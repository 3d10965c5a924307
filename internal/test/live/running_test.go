//go:build linux

package live_test

import (
	"context"
	"testing"

	"finwait/tracer"
)

// A running is a Tracer that one test has for itself.
type running struct {
	*tracer.Tracer
	cancel context.CancelFunc
	done   chan error
}

// start starts a tracer that gives its transitions to kept.
func start(t *testing.T, cfg tracer.Config, kept *recorder) *running {
	t.Helper()
	cfg.Hooks = hooks
	tr, err := tracer.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Tracer: tr, cancel: cancel, done: make(chan error, 1)}
	go func() {
		r.done <- tr.Run(ctx, func(x *tracer.Transition) error { kept.add(x); return nil })
	}()
	t.Cleanup(func() { cancel(); tr.Close() })
	return r
}

func (r *running) stop(t *testing.T) {
	t.Helper()
	r.cancel()
	if err := <-r.done; err != nil {
		t.Fatal(err)
	}
}

// stats returns the accounts, and checks their identity.
func (r *running) stats(t *testing.T) tracer.Stats {
	t.Helper()
	st, err := r.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if st.Seen != st.Filtered+st.Delivered+st.Lost.Total() {
		t.Errorf("seen is not filtered + delivered + lost: %+v", st)
	}
	return st
}
