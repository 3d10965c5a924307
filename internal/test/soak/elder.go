//go:build linux

package main

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"time"

	"finwait/internal/test/bpfobj"

	"github.com/cilium/ebpf"
)

// An elder is a finwait trace that lasts as long as the soak: what leaks shows in it.
type elder struct {
	*process
	soak   *soak
	stream stream
	kept   []*records
}

// records are those that the elder keeps of one kind of socket.
type records struct {
	what                      string
	count                     func() (int, error) // sockets that may have one
	maps                      []*ebpf.Map
	first, most, end, sockets int
	excess                    int // for which there is no socket
}

func (r *records) String() string {
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
	for _, r := range []struct {
		what, places, rest string
		count              func() (int, error)
	}{
		{"minisocks", "minisock_slots", "minisocks", minisocks},
		{"full sockets", "socket_slots", "sockets", fullSockets},
	} {
		if err == nil {
			err = e.open(&records{what: r.what, count: r.count}, r.places, r.rest)
		}
	}
	if err != nil {
		return nil, errors.Join(err, e.end(os.Kill))
	}
	s.records = e.kept
	return e, nil
}

func (e *elder) open(r *records, maps ...string) error {
	for _, name := range maps {
		m, err := mapOf(e.process, name)
		if err != nil {
			return err
		}
		r.maps = append(r.maps, m)
	}
	e.kept = append(e.kept, r)
	var err error
	r.first, err = r.entries()
	return err
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

// entries counts what is in the maps. The first word of a place in an array that is free is 0.
func (r *records) entries() (n int, err error) {
	for _, m := range r.maps {
		key, value := make([]byte, m.KeySize()), make([]byte, m.ValueSize())
		all := m.Iterate()
		for all.Next(&key, &value) {
			if m.Type() != ebpf.Array || binary.NativeEndian.Uint64(value) != 0 {
				n++
			}
		}
		if err := all.Err(); err != nil {
			return 0, err
		}
	}
	return n, nil
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
		for _, r := range e.kept {
			if n, err := r.entries(); err == nil {
				r.most = max(r.most, n)
			}
		}
	}
}

// look compares the records with the sockets that can have one, when the world is
// gone. A namespace that was removed takes a while until its sockets are gone.
func (e *elder) look(r *records) {
	for deadline := time.Now().Add(patience / 2); ; time.Sleep(beat) {
		before, err := r.count()
		kept, errKept := r.entries()
		after, errAfter := r.count()
		if errors.Is(errKept, ebpf.ErrIterationAborted) && time.Now().Before(deadline) {
			continue // too much was deleted meanwhile
		}
		if err = errors.Join(err, errKept, errAfter); err != nil {
			e.soak.faults.add("count %s: %v", r.what, err)
			return
		}
		r.most = max(r.most, kept)
		r.end, r.sockets = kept, max(before, after)
		over := kept - max(before, after)
		if over <= 0 {
			return
		}
		if time.Now().After(deadline) {
			r.excess = over
			return
		}
	}
}

// die ends the elder, when all other sockets are gone, and judges it.
func (e *elder) die() error {
	var err error
	for _, r := range e.kept {
		e.look(r)
		for _, m := range r.maps {
			err = errors.Join(err, m.Close())
		}
	}
	samples := e.sampled()
	if err := errors.Join(err, e.end(os.Interrupt)); err != nil {
		return err
	}
	e.soak.elder = *cmp.Or(e.stream.summary, &summary{})
	e.soak.judgeTrace("elder trace", e.process, &e.stream)
	for _, r := range e.kept {
		if sum := e.stream.summary; sum != nil && uint64(r.excess) > sum.Lost[recursion] {
			e.soak.faults.add("%d records of %s are left of sockets that are gone, and %d transitions were counted as lost to recursion",
				r.excess, r.what, sum.Lost[recursion])
		}
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
