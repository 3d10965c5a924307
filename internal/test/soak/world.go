//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"finwait/internal/load"
	"finwait/internal/netns"
	"finwait/internal/scenario"
	"finwait/internal/sockdiag"

	"golang.org/x/sys/unix"
)

// A world is all that is there to be traced.
type world struct {
	faults *faults

	mu   sync.Mutex
	deck []scenario.Scenario // to be dealt before they are shuffled again

	namespaces, scenarios, otherwise, connections atomic.Int64
}

// A town is a network namespace with a process in it, by which others find it.
type town struct {
	*scenario.Stage
	resident *exec.Cmd
	leave    func() error
}

// settle makes a town.
func (w *world) settle(ctx context.Context) (*town, error) {
	st, err := scenario.Open()
	if err != nil {
		return nil, err
	}
	w.namespaces.Add(1)
	t := &town{Stage: st, resident: exec.Command("cat")} // which ends with whoever holds its stdin
	stdin, err := t.resident.StdinPipe()
	if err == nil {
		t.leave = stdin.Close
		err = st.Act(ctx, &scenario.Scenario{Run: func(st *scenario.Stage) { st.Start(t.resident) }})
	}
	if err != nil {
		st.Close()
		return nil, err
	}
	return t, nil
}

// remove ends the resident, and with it the namespace.
func (t *town) remove() error {
	err := errors.Join(t.leave(), t.resident.Wait())
	t.Close()
	return err
}

// live is what one inhabitant of the world does until ctx is done: scenarios, each
// in a namespace of its own, and connections in a town that is left now and then.
func (w *world) live(ctx context.Context, rng *rand.Rand) {
	var home *town
	for ctx.Err() == nil {
		if home == nil || rng.IntN(8) == 0 {
			home = w.move(ctx, home)
		}
		switch rng.IntN(3) {
		case 0:
			if home != nil {
				w.load(ctx, rng, home.Stage, 200+rng.IntN(2000))
			}
		default:
			w.act(ctx, rng)
		}
		pause(ctx, time.Duration(rng.IntN(200))*time.Millisecond)
	}
	w.vacate(home)
}

func (w *world) move(ctx context.Context, old *town) *town {
	w.vacate(old)
	t, err := w.settle(ctx)
	if err != nil && ctx.Err() == nil {
		w.faults.add("make a network namespace: %v", err)
	}
	return t
}

func (w *world) vacate(t *town) {
	if t == nil {
		return
	}
	if err := t.remove(); err != nil {
		w.faults.add("remove a network namespace: %v", err)
	}
}

// deal takes the next scenario: each comes as often as any other.
func (w *world) deal(rng *rand.Rand) scenario.Scenario {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.deck) == 0 {
		w.deck = scenario.All()
		rng.Shuffle(len(w.deck), func(i, j int) { w.deck[i], w.deck[j] = w.deck[j], w.deck[i] })
	}
	sc := w.deck[0]
	w.deck = w.deck[1:]
	return sc
}

// act plays one scenario and removes its namespace.
func (w *world) act(ctx context.Context, rng *rand.Rand) {
	sc := w.deal(rng)
	st, err := scenario.Open()
	if err != nil {
		w.faults.add("make a network namespace: %v", err)
		return
	}
	defer st.Close()
	w.namespaces.Add(1)
	err = st.Act(ctx, &sc)
	switch {
	case err == nil:
		w.scenarios.Add(1)
	case ctx.Err() == nil: // no fault of finwait, which has to tell the truth of it all the same
		w.otherwise.Add(1)
		fmt.Printf("soak: scenario %s went otherwise: %v\n", sc.Name, err)
	}
}

// load makes connections in a namespace.
func (w *world) load(ctx context.Context, rng *rand.Rand, st *scenario.Stage, count int) {
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

// minisocks counts the sockets of which finwait may keep a record as of a minisock.
func minisocks() (int, error) {
	return sockets(1<<unix.BPF_TCP_TIME_WAIT | 1<<unix.BPF_TCP_FIN_WAIT2 | 1<<unix.BPF_TCP_CLOSING)
}

// fullSockets counts those that are none, requests aside: more than that, as FIN_WAIT_2 may be either.
func fullSockets() (int, error) {
	const none = 1<<unix.BPF_TCP_TIME_WAIT | 1<<unix.BPF_TCP_NEW_SYN_RECV | 1<<unix.BPF_TCP_CLOSE
	return sockets((1<<unix.BPF_TCP_MAX_STATES - 2) &^ none)
}

// sockets counts those of all network namespaces.
func sockets(states uint32) (n int, err error) {
	all, err := everywhere()
	if err != nil {
		return 0, fmt.Errorf("find network namespaces: %w", err)
	}
	for _, path := range all {
		var conn *sockdiag.Conn
		if netns.Do(path, func() (err error) { conn, err = sockdiag.Open(); return err }) != nil {
			continue // it went away
		}
		err := conn.List(states, func(*sockdiag.Socket) error { n++; return nil })
		if err = errors.Join(err, conn.Close()); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// everywhere is netns.All with the namespaces that only a thread is in, or that
// only a descriptor leads to: of a test that runs meanwhile, for instance.
func everywhere() (map[uint32]string, error) {
	all, err := netns.All()
	if err != nil {
		return nil, err
	}
	for _, pattern := range []string{"/proc/[0-9]*/task/[0-9]*/ns/net", "/proc/[0-9]*/fd/*"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			if target, err := os.Readlink(path); err != nil || !strings.HasPrefix(target, "net:[") {
				continue // no namespace, or gone
			}
			if inode, err := netns.Inode(path); err == nil && all[inode] == "" {
				all[inode] = path
			}
		}
	}
	return all, nil
}

// pause waits, or until ctx is done.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
