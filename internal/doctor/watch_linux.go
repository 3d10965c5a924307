package doctor

import (
	"context"
	"fmt"
	"time"

	"finwait/internal/cgroup"
	"finwait/internal/ktime"
	"finwait/tracer"

	"github.com/rs/zerolog"
)

// A watching reads transitions until it is ended.
type watching struct {
	tracer *tracer.Tracer
	watch  *watch
	since  time.Time
	cancel context.CancelFunc
	done   chan error
}

// startWatching attaches the programs. They need rights that the rest of a Collector does not.
func startWatching(filter tracer.Filter, log *zerolog.Logger) (*watching, error) {
	if len(filter.Cgroups) > 0 {
		if _, err := cgroup.Whole(); err != nil {
			return nil, fmt.Errorf("find the cgroups of transitions: %w", err)
		}
	}
	t, err := tracer.New(tracer.Config{Filter: filter, NoTotals: true, Metrics: true, Logger: *log})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &watching{tracer: t, watch: newWatch(), since: time.Now(), cancel: cancel, done: make(chan error, 1)}
	go func() {
		w.done <- t.Run(ctx, func(tr *tracer.Transition) error {
			w.watch.add(tr)
			return nil
		})
	}()
	return w, nil
}

// end detaches the programs. What was seen is still without its namespaces.
func (w *watching) end() (*Stream, error) {
	w.cancel()
	window := time.Since(w.since)
	ended, _ := ktime.Now()
	err := <-w.done
	stats, statsErr := w.tracer.Stats()
	w.tracer.Close()
	if err == nil {
		err = statsErr
	}
	if err != nil {
		return nil, fmt.Errorf("read transitions: %w", err)
	}
	return &Stream{Window: window, Ended: time.Duration(ended), Lost: stats.Lost}, nil
}

// watchedSpaces finds the namespaces of a stream. One that is gone, or that could not be entered, is
// known by its number only.
func watchedSpaces(in *Input, name func(uint32) string) func(uint32) *Space {
	all := make(map[uint32]*Space)
	for _, s := range in.Spaces {
		all[s.Inode] = s
	}
	return func(inode uint32) *Space {
		if all[inode] == nil {
			all[inode] = &Space{Inode: inode, Name: name(inode)}
		}
		return all[inode]
	}
}
