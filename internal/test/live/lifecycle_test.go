//go:build linux

package live_test

import (
	"context"
	"os"
	"runtime"
	"testing"
	"time"

	"finwait/tracer"
)

// Run ends with its context, and Close can be called twice.
func TestLifecycle(t *testing.T) {
	t.Parallel()
	tr, err := tracer.New(tracer.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if want := bestHooks(t); tr.Hooks() != want {
		t.Errorf("auto took %v hooks, want %v", tr.Hooks(), want)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- tr.Run(ctx, func(*tracer.Transition) error { return nil }) }()
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Run goes on after its context is done")
	}
	for range 2 {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := tr.Stats(); err != nil {
		t.Errorf("Stats after Close: %v", err)
	}
}

// A process that opens and closes tracers keeps no goroutine and no descriptor of them. The test
// is not parallel, because other tests have goroutines and descriptors.
func TestNothingLeaks(t *testing.T) {
	rounds := 20
	if testing.Short() {
		rounds = 2
	}
	round := func() {
		kept := newRecorder(t)
		tr, err := tracer.New(tracer.Config{Hooks: hooks})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- tr.Run(t.Context(), func(x *tracer.Transition) error { kept.add(x); return nil }) }()
		time.Sleep(10 * time.Millisecond)
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	round() // makes what is made once for the process
	goroutines, fds := held(t)
	for range rounds {
		round()
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		g, f := held(t)
		if g <= goroutines && f <= fds {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %d tracers: %d goroutines, %d descriptors; before: %d, %d", rounds, g, f, goroutines, fds)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func held(t *testing.T) (goroutines, fds int) {
	t.Helper()
	dir, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return runtime.NumGoroutine(), len(dir)
}
