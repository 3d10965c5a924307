//go:build linux

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"finwait/internal/load"
	"finwait/internal/scenario"
)

// A workload makes the connections that are traced.
type workload struct {
	faults *faults
	pool   *pool

	mu    sync.Mutex
	queue []scenario.Scenario // in random order; filled again when it is empty

	scenarios, otherwise, connections atomic.Int64
}

// work is one worker. Until ctx is done it plays scenarios, each in a namespace of its
// own, and makes connections in a namespace that it replaces now and then.
func (w *workload) work(ctx context.Context, rng *rand.Rand) {
	var home *namespace
	for ctx.Err() == nil {
		if home == nil || rng.IntN(8) == 0 {
			home = w.pool.replace(ctx, home)
		}
		switch rng.IntN(3) {
		case 0:
			if home != nil {
				w.load(ctx, rng, home.Stage, 200+rng.IntN(2000))
			}
		default:
			w.play(ctx, rng)
		}
		sleep(ctx, time.Duration(rng.IntN(200))*time.Millisecond)
	}
	w.pool.remove(home)
}

// next takes the next scenario. Each scenario comes as often as any other.
func (w *workload) next(rng *rand.Rand) scenario.Scenario {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 {
		w.queue = scenario.All()
		rng.Shuffle(len(w.queue), func(i, j int) { w.queue[i], w.queue[j] = w.queue[j], w.queue[i] })
	}
	sc := w.queue[0]
	w.queue = w.queue[1:]
	return sc
}

// play plays one scenario in a namespace of its own.
func (w *workload) play(ctx context.Context, rng *rand.Rand) {
	sc := w.next(rng)
	st, err := w.pool.open()
	if err != nil {
		w.faults.add("make a network namespace: %v", err)
		return
	}
	defer st.Close()
	err = st.Act(ctx, &sc)
	switch {
	case err == nil:
		w.scenarios.Add(1)
	case ctx.Err() == nil: // not a fault of finwait, which must report correctly all the same
		w.otherwise.Add(1)
		fmt.Printf("soak: scenario %s went otherwise: %v\n", sc.Name, err)
	}
}

// load makes connections in a namespace.
func (w *workload) load(ctx context.Context, rng *rand.Rand, st *scenario.Stage, count int) {
	cfg := load.Config{
		Count: count, NetNS: st.Path(), Workers: 1 + rng.IntN(2),
		Closer: []load.Closer{load.Client, load.Server, load.Both, load.Reset}[rng.IntN(4)],
		Hold:   []time.Duration{0, 0, 5 * time.Millisecond}[rng.IntN(3)],
		Rate:   []float64{0, 0, 1000}[rng.IntN(3)],
	}
	sum, err := load.Run(ctx, cfg, nil)
	w.connections.Add(int64(sum.Made))
	if ctx.Err() == nil && (err != nil || sum.Made != count) {
		w.faults.add("%d of %d connections were made: %v, %v", sum.Made, count, sum.Failed, err)
	}
}

// sleep waits for d, or until ctx is done.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
