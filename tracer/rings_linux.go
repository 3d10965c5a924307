package tracer

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"finwait/internal/ktime"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// rings are the ring buffers, one for each CPU, read as one stream.
//
// The programs put the transitions of one socket into the rings one after the other: a
// lock of the socket, or of its minisock, passes from CPU to CPU. So of two of them in
// different rings the first is in its ring before the second's time is read, and so is
// all that its own CPU told before it. To order the heads of the rings by time is
// therefore enough, as long as nothing is passed on that is younger than the moment at
// which all rings were looked at.
type rings struct {
	all  []*ring
	full uint64  // bytes in a ring from which on the programs wake the reader
	told []*ring // those with a head, as a heap: the oldest is first

	wakes  *os.File    // an eventfd: ends wait
	closed atomic.Bool // nothing is waited for any more
	mu     sync.Mutex  // held while epoll is used
	epoll  int         // of all rings, and of wakes

	now func() uint64 // CLOCK_MONOTONIC
}

// rest is what a drain has left.
type rest int

const (
	nothing rest = iota
	younger      // events that are younger than the drain. Nothing wakes the reader for those: they have left their ring
	crowded      // so many that the programs do not wake the reader any more
)

// ring is one of the rings, and its oldest event that was not passed on.
type ring struct {
	m      *ebpf.Map
	reader *ringbuf.Reader
	rec    ringbuf.Record
	head   bpfWideEvent
	loaded bool   // there is a head
	at     uint64 // when it was told, as far as is known
}

// errEnded: close was called.
var errEnded = errors.New("the ring buffers are closed")

// newRings makes a ring for each slot of outer, and opens it.
func newRings(outer *ebpf.Map, size uint32) (_ *rings, err error) {
	r := &rings{full: uint64(size / 2), epoll: -1, now: func() uint64 {
		now, _ := ktime.Now()
		return uint64(now)
	}}
	defer func() {
		if err != nil {
			_ = r.close()
			err = fmt.Errorf("make the ring buffers: %w", err)
		}
	}()
	if r.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	wakes, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, err
	}
	r.wakes = os.NewFile(uintptr(wakes), "eventfd")
	fds := []int{wakes}
	for cpu := range outer.MaxEntries() {
		g, err := newRing(size)
		if err != nil {
			return nil, err
		}
		r.all = append(r.all, g)
		fds = append(fds, g.m.FD())
		if err := outer.Put(cpu, g.m); err != nil {
			return nil, err
		}
	}
	for _, fd := range fds {
		// Once for each wake-up, whether or not all has been read since.
		ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(fd)}
		if err := unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func newRing(size uint32) (*ring, error) {
	m, err := ebpf.NewMap(&ebpf.MapSpec{Name: "ring", Type: ebpf.RingBuf, MaxEntries: size})
	if err != nil {
		return nil, err
	}
	reader, err := ringbuf.NewReader(m)
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	reader.SetDeadline(time.Unix(0, 1)) // it never waits: rings.wait does
	return &ring{m: m, reader: reader}, nil
}

// drain passes to handle what was told until now, in the order of time, and counts it. more
// is what follows the event in its record, until handle returns. drain returns errEnded
// after close, and an error of handle unchanged.
func (r *rings) drain(handle func(ev *bpfWideEvent, more []byte) error) (n uint64, rest rest, err error) {
	now := r.now()
	r.told = r.told[:0]
	for _, g := range r.all {
		if g.loaded {
			// It was read before the clock was. A time that is out of memory which has
			// been reused must not hold up what follows it.
			g.at = min(g.at, now)
		} else if err := g.load(); err != nil {
			return 0, 0, err
		}
		if g.loaded {
			r.told = append(r.told, g)
		}
	}
	for i := len(r.told)/2 - 1; i >= 0; i-- {
		r.sink(i)
	}
	for len(r.told) > 0 {
		g := r.told[0]
		if g.at > now {
			break
		}
		n++
		if err := handle(&g.head, g.rec.RawSample[min(wideSize, len(g.rec.RawSample)):]); err != nil {
			return n, 0, err
		}
		if err := g.load(); err != nil {
			return n, 0, err
		}
		if !g.loaded {
			last := len(r.told) - 1
			r.told[0] = r.told[last]
			r.told = r.told[:last]
		}
		r.sink(0)
	}
	for _, g := range r.told {
		rest = max(rest, younger)
		if uint64(g.rec.Remaining) >= r.full {
			rest = crowded
		}
	}
	return n, rest, nil
}

// sink moves the i-th of the heap down, until neither below it is older.
func (r *rings) sink(i int) {
	for {
		oldest := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(r.told); c++ {
			if r.told[c].at < r.told[oldest].at {
				oldest = c
			}
		}
		if oldest == i {
			return
		}
		r.told[i], r.told[oldest] = r.told[oldest], r.told[i]
		i = oldest
	}
}

// load reads the next event, if there is one.
func (g *ring) load() error {
	g.loaded = false
	err := g.reader.ReadInto(&g.rec)
	if err == nil {
		g.loaded = true
		err = decode(g.rec.RawSample, &g.head)
		g.at = g.head.Event.TimeNs
		return err
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	case errors.Is(err, os.ErrClosed):
		return errEnded
	}
	return fmt.Errorf("read ring buffer: %w", err)
}

// wait sleeps until a program or wake wakes it, or for that long; below 0: without an
// end. It reports whether it was woken, and returns errEnded after close.
func (r *rings) wait(d time.Duration) (woken bool, err error) {
	ms := -1
	if d >= 0 {
		ms = int(d.Milliseconds())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for !r.closed.Load() {
		var events [8]unix.EpollEvent
		n, err := unix.EpollWait(r.epoll, events[:], ms)
		if !errors.Is(err, unix.EINTR) {
			return n > 0, err
		}
	}
	return false, errEnded
}

// wake ends a wait, this or the next. After close it does nothing.
func (r *rings) wake() {
	_, _ = r.wakes.Write([]byte{0: 1, 7: 0}) // a count in host order: not 0 in either
}

// close ends wait and drain, and frees the rings.
func (r *rings) close() (err error) {
	r.closed.Store(true)
	if r.wakes != nil {
		r.wake()
		defer r.wakes.Close()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range r.all {
		err = errors.Join(err, g.reader.Close(), g.m.Close())
	}
	if r.epoll >= 0 {
		err = errors.Join(err, unix.Close(r.epoll))
	}
	return err
}
