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
	paths, err := netns.All()
	if err != nil {
		return nil, fmt.Errorf("find network namespaces: %w", err)
	}
	s := &Snapshot{readings: make(map[uint64]reading)}
	for try := range tries {
		unsettled := make(map[uint32]string)
		for inode, path := range paths {
			settled, err := s.read(t, inode, path)
			if err != nil {
				return nil, err
			}
			if !settled {
				unsettled[inode] = path
			}
		}
		if len(unsettled) == 0 {
			break
		}
		paths = unsettled
		if try < tries-1 {
			time.Sleep(pause)
		}
	}
	if s.seen, err = t.NetNS(); err != nil {
		return nil, err
	}
	if s.untold, err = t.NetNSTotals(0); err != nil {
		return nil, err
	}
	st, err := t.Stats()
	if err != nil {
		return nil, err
	}
	s.lost = st.Lost.Total() - st.Lost.RingFull // what the ring had no room for was counted
	return s, nil
}

// read takes one namespace; settled says that a second look found all as the first.
func (s *Snapshot) read(t *tracer.Tracer, inode uint32, path string) (settled bool, err error) {
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
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EINVAL) {
		return true, nil // it went away, or may not be entered: Compare will miss it
	}
	if err != nil {
		return false, fmt.Errorf("read the counters of network namespace %d: %w", inode, err)
	}
	old, again := s.readings[cookie]
	s.readings[cookie] = r
	return again && !r.moved() && old.after == r.before && maps.Equal(tcp(old.kernel), tcp(r.kernel)), nil
}

// tcp leaves what is compared: other counters may move as they like.
func tcp(all netstat.Counters) map[string]int64 {
	values := make(map[string]int64)
	for _, c := range counters(true) {
		values[c.name] = c.kernel(all)
	}
	return values
}
