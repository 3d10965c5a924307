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

// A longTrace is a finwait trace that runs as long as the soak. It shows what leaks.
type longTrace struct {
	*process
	soak    *soak
	stream  stream
	records []*records
}

// records are the BPF map entries that the trace keeps for one kind of socket.
type records struct {
	what                      string
	count                     func() (int, error) // counts the sockets that may have a record
	maps                      []*ebpf.Map
	first, most, end, sockets int
	excess                    int // records without a socket
}

func (r *records) String() string {
	return fmt.Sprintf("%d at the start, %d at the most, %d at the end, for %d sockets", r.first, r.most, r.end, r.sockets)
}

// longTraceRing is small, so that the ring overflows when the trace is stalled.
const longTraceRing = 256 << 10

// startLongTrace starts the trace, waits until it is attached, and opens its maps.
func (s *soak) startLongTrace() (*longTrace, error) {
	t := &longTrace{soak: s}
	var err error
	t.process, err = s.start(func(r io.Reader) { t.stream.read(r, 0) },
		"trace", "--output", "json", "--ring-bytes", strconv.Itoa(longTraceRing))
	if err != nil {
		return nil, err
	}
	err = t.await()
	for _, r := range []struct {
		what, slots, overflow string
		count                 func() (int, error)
	}{
		{"minisocks", "minisock_slots", "minisocks", countMinisocks},
		{"full sockets", "socket_slots", "sockets", countFullSockets},
	} {
		if err == nil {
			err = t.openMaps(&records{what: r.what, count: r.count}, r.slots, r.overflow)
		}
	}
	if err != nil {
		return nil, errors.Join(err, t.end(os.Kill))
	}
	s.records = t.records
	return t, nil
}

// openMaps opens the maps that hold the records, and counts their first entries.
func (t *longTrace) openMaps(r *records, maps ...string) error {
	for _, name := range maps {
		m, err := mapOf(t.process, name)
		if err != nil {
			return err
		}
		r.maps = append(r.maps, m)
	}
	t.records = append(t.records, r)
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

// entries counts the entries of the maps. A free slot of an array has 0 as its first word.
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

// stall suspends the process, or stops reading its output, now and then.
func (t *longTrace) stall(ctx context.Context, rng *rand.Rand) {
	for ctx.Err() == nil {
		sleep(ctx, time.Duration(2+rng.IntN(8))*time.Second)
		d := time.Duration(500+rng.IntN(4500)) * time.Millisecond
		t.soak.stalls.Add(1)
		if rng.IntN(2) == 0 {
			t.suspend(d)
		} else {
			t.stream.block(d)
		}
		// The count is approximate while entries are added and deleted.
		for _, r := range t.records {
			if n, err := r.entries(); err == nil {
				r.most = max(r.most, n)
			}
		}
	}
}

// compare compares the records with the sockets that can have one, after the workload
// has ended. The sockets of a removed namespace last a while longer.
func (t *longTrace) compare(r *records) {
	for deadline := time.Now().Add(timeout / 2); ; time.Sleep(pollInterval) {
		before, err := r.count()
		kept, errKept := r.entries()
		after, errAfter := r.count()
		if errors.Is(errKept, ebpf.ErrIterationAborted) && time.Now().Before(deadline) {
			continue // entries were deleted during the iteration
		}
		if err = errors.Join(err, errKept, errAfter); err != nil {
			t.soak.faults.add("count %s: %v", r.what, err)
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

// finish ends the trace, after all other processes, and checks it.
func (t *longTrace) finish() error {
	var err error
	for _, r := range t.records {
		t.compare(r)
		for _, m := range r.maps {
			err = errors.Join(err, m.Close())
		}
	}
	samples := t.sampled()
	if err := errors.Join(err, t.end(os.Interrupt)); err != nil {
		return err
	}
	t.soak.long = *cmp.Or(t.stream.summary, &summary{})
	t.soak.checkTrace("long-running trace", t.process, &t.stream)
	for _, r := range t.records {
		if sum := t.stream.summary; sum != nil && uint64(r.excess) > sum.Lost[missed] {
			t.soak.faults.add("%d records of %s have no socket, and %d transitions were counted as missed",
				r.excess, r.what, sum.Lost[missed])
		}
	}
	t.checkGrowth(samples)
	return nil
}

// checkGrowth reports if the trace held more in the second half of its run than in the first.
func (t *longTrace) checkGrowth(samples []sample) {
	first, second := peak(samples[:len(samples)/2]), peak(samples[len(samples)/2:])
	if second.rss > first.rss+first.rss/2 {
		t.soak.faults.add("the long-running trace grew from %d to %d bytes", first.rss, second.rss)
	}
	if second.fds > first.fds {
		t.soak.faults.add("the long-running trace's descriptors grew from %d to %d", first.fds, second.fds)
	}
	// The Go runtime starts a thread when all others block in system calls, and keeps it.
	if second.threads > first.threads+2 {
		t.soak.faults.add("the long-running trace's threads grew from %d to %d", first.threads, second.threads)
	}
}
