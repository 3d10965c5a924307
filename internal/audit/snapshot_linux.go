package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"time"

	"finwait/internal/netns"
	"finwait/internal/netstat"
	"finwait/tracer"

	"golang.org/x/sys/unix"
)

// tries is how often a namespace in which something moves is read again, in the
// hope of a quiet moment; pause lies between, and lets a CPU finish what it is at.
const (
	tries = 8
	pause = 2 * time.Millisecond
)

// Take reads the kernel's counters, and the tracer's, in every network namespace
// that can be reached. The tracer must have Config.Audit.
func Take(t *tracer.Tracer) (*Snapshot, error) {
	s := &Snapshot{readings: make(map[uint64]reading)}
	settled := make(map[uint32]bool) // by inode
	for try := range tries {
		if try > 0 {
			time.Sleep(pause)
		}
		// Looked up anew: a process may have ended that led to a namespace of others, too.
		paths, err := netns.All()
		if err != nil {
			return nil, fmt.Errorf("find network namespaces: %w", err)
		}
		quiet := true
		for inode, path := range paths {
			if settled[inode] {
				continue
			}
			if settled[inode], err = s.read(t, path); err != nil {
				return nil, fmt.Errorf("read the counters of network namespace %d: %w", inode, err)
			}
			quiet = quiet && settled[inode]
		}
		if quiet {
			break
		}
	}
	return s, s.finish(t)
}

// finish adds what is not of single namespaces.
func (s *Snapshot) finish(t *tracer.Tracer) (err error) {
	if s.seen, err = t.NetNS(); err != nil {
		return err
	}
	if s.untold, err = t.NetNSTotals(0); err != nil {
		return err
	}
	s.told = s.untold.Lost
	for cookie := range s.seen {
		n, err := t.NetNSTotals(cookie)
		if err != nil {
			return err
		}
		s.told += n.Lost
	}
	st, err := t.Stats()
	if err != nil {
		return err
	}
	s.lost = int64(st.Lost.Total() - st.Lost.RingFull) // what the ring had no room for was counted
	return nil
}

// read takes one namespace; settled says that a second look found all as the first.
func (s *Snapshot) read(t *tracer.Tracer, path string) (settled bool, err error) {
	var (
		r      reading
		cookie uint64
	)
	err = netns.Do(path, func() (err error) {
		if r.inode, err = netns.Inode("/proc/thread-self/ns/net"); err != nil {
			return err
		}
		if cookie, err = netns.Cookie(); err != nil {
			return err
		}
		if r.before, err = t.NetNSTotals(cookie); err != nil {
			return err
		}
		if r.kernel, err = netstat.Read(); err != nil {
			return err
		}
		r.after, err = t.NetNSTotals(cookie)
		return err
	})
	switch {
	case errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES):
		return true, nil // it may not be entered: Compare will miss it
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ESRCH):
		return false, nil // what led to it went away
	case err != nil:
		return false, err
	}
	if old, again := s.readings[cookie]; again {
		if r.before == r.after && old.after == r.before && maps.Equal(compared(old.kernel), compared(r.kernel)) {
			s.readings[cookie] = r
			return true, nil
		}
		if r.first = old.first; r.first == nil {
			r.first = &old
		}
	}
	s.readings[cookie] = r
	return false, nil
}

// compared leaves what is compared: other counters may move as they like.
func compared(all netstat.Counters) map[string]int64 {
	values := make(map[string]int64)
	for _, c := range counters(true) {
		values[c.name] = c.kernel(all)
	}
	return values
}
