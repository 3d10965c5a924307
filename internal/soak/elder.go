//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"time"

	"finwait/internal/bpfobj"

	"github.com/cilium/ebpf"
)

// An elder is a finwait trace that lasts as long as the soak: what leaks shows in it.
type elder struct {
	*process
	soak      *soak
	stream    stream
	minisocks *ebpf.Map // the records of them
	excess    int       // records for which there is no socket
}

// records are how many the elder kept of minisocks.
type records struct{ first, most, end, sockets int }

func (r records) String() string {
	return fmt.Sprintf("%d at the start, %d at the most, %d at the end, when there were %d sockets that have one", r.first, r.most, r.end, r.sockets)
}

// elderRing is small: it overflows when the elder stands still.
const elderRing = 256 << 10

func (s *soak) born() (*elder, error) {
	e := &elder{soak: s}
	var err error
	e.process, err = s.start(func(r io.Reader) { e.stream.read(r, 0) },
		"trace", "--output", "json", "--ring-bytes", strconv.Itoa(elderRing))
	if err != nil {
		return nil, err
	}
	err = e.await()
	if err == nil {
		e.minisocks, err = mapOf(e.process, "minisocks")
	}
	if err == nil {
		s.records.first, err = entries(e.minisocks)
	}
	if err != nil {
		return nil, errors.Join(err, e.end(os.Kill))
	}
	return e, nil
}

// mapOf opens a map of a process by name.
func mapOf(p *process, name string) (*ebpf.Map, error) {
	held, err := bpfobj.Held(p.Process.Pid)
	if err != nil {
		return nil, err
	}
	for _, o := range held {
		if o.Kind != bpfobj.Map {
			continue
		}
		m, err := ebpf.NewMapFromID(ebpf.MapID(o.ID))
		if err != nil {
			return nil, err
		}
		info, err := m.Info()
		if err == nil && info.Name == name {
			return m, nil
		}
		if err = errors.Join(err, m.Close()); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("process %d has no BPF map %s", p.Process.Pid, name)
}

// entries counts what is in a map.
func entries(m *ebpf.Map) (n int, err error) {
	key, value := make([]byte, m.KeySize()), make([]byte, m.ValueSize())
	all := m.Iterate()
	for all.Next(&key, &value) {
		n++
	}
	return n, all.Err()
}

// age lets the reader stand still now and then.
func (e *elder) age(ctx context.Context, rng *rand.Rand) {
	for ctx.Err() == nil {
		pause(ctx, time.Duration(2+rng.IntN(8))*time.Second)
		d := time.Duration(500+rng.IntN(4500)) * time.Millisecond
		e.soak.stalls.Add(1)
		if rng.IntN(2) == 0 {
			e.stop(d)
		} else {
			e.stream.leave(d)
		}
		// While entries come and go the count is not exact.
		if kept, err := entries(e.minisocks); err == nil {
			e.note(kept)
		}
	}
}

// look compares the records of minisocks with the sockets that can have one, when
// the world is gone. A namespace that was removed takes a while until its are gone.
func (e *elder) look() {
	for deadline := time.Now().Add(patience / 2); ; time.Sleep(beat) {
		before, err := minisocks()
		kept, errKept := entries(e.minisocks)
		after, errAfter := minisocks()
		if errors.Is(errKept, ebpf.ErrIterationAborted) && time.Now().Before(deadline) {
			continue // too much was deleted meanwhile
		}
		if err = errors.Join(err, errKept, errAfter); err != nil {
			e.soak.faults.add("count minisocks: %v", err)
			return
		}
		e.note(kept)
		e.soak.records.end, e.soak.records.sockets = kept, max(before, after)
		over := kept - max(before, after)
		if over <= 0 {
			return
		}
		if time.Now().After(deadline) {
			e.excess = over
			return
		}
	}
}

func (e *elder) note(kept int) { e.soak.records.most = max(e.soak.records.most, kept) }

// die ends the elder, when all other sockets are gone, and judges it.
func (e *elder) die() error {
	e.look()
	samples := e.sampled()
	if err := errors.Join(e.minisocks.Close(), e.end(os.Interrupt)); err != nil {
		return err
	}
	e.soak.elder = *cmp.Or(e.stream.summary, &summary{})
	e.soak.judgeTrace("elder trace", e.process, &e.stream)
	if sum := e.stream.summary; sum != nil && uint64(e.excess) > sum.Lost.Recursion {
		e.soak.faults.add("%d records of minisocks are left of sockets that are gone, and %d transitions were counted as lost to recursion",
			e.excess, sum.Lost.Recursion)
	}
	e.grown(samples)
	return nil
}

// grown says whether it held more in the second half of its life than in the first.
func (e *elder) grown(samples []sample) {
	first, second := worst(samples[:len(samples)/2]), worst(samples[len(samples)/2:])
	if second.rss > first.rss+first.rss/2 {
		e.soak.faults.add("the elder grew from %d to %d bytes", first.rss, second.rss)
	}
	if second.fds > first.fds {
		e.soak.faults.add("the elder's descriptors grew from %d to %d", first.fds, second.fds)
	}
	// The runtime starts one when all others are blocked in system calls, and keeps it.
	if second.threads > first.threads+2 {
		e.soak.faults.add("the elder's threads grew from %d to %d", first.threads, second.threads)
	}
}
