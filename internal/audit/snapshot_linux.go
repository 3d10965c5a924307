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

// A namespace whose counters change is read up to tries times. The pause between two
// readings lets each CPU finish the transition that it is counting.
const (
	tries = 8
	pause = 2 * time.Millisecond
)

// Take reads the kernel's counters, and the tracer's, in every network namespace
// that can be entered. The tracer must have Config.Audit.
func Take(t *tracer.Tracer) (*Snapshot, error) {
	s := &Snapshot{readings: make(map[uint64]reading)}
	settled := make(map[uint32]bool) // by inode
	for try := range tries {
		if try > 0 {
			time.Sleep(pause)
		}
		// The paths are found anew, because the process of a path may have ended while
		// others keep its namespace.
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

// finish adds the counts that do not belong to a single namespace.
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
	s.lost = int64(st.Lost.Total() - st.Lost.RingFull) // the totals include what the ring had no room for
	return nil
}

// read reads one namespace. settled: this reading equals the one before.
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
		return true, nil // it may not be entered: Compare reports it as missing
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ESRCH):
		return false, nil // the path is gone
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

// compared returns the counters that are compared. Others may change between readings.
func compared(all netstat.Counters) map[string]int64 {
	values := make(map[string]int64)
	for _, c := range counters(true) {
		values[c.name] = c.kernel(all)
		if c.more != nil {
			values["more "+c.name] = c.more(all, &tracer.NetNSTotals{})
		}
	}
	return values
}
