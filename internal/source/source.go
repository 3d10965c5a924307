// Package source is the one interface by which trace, stat and demo read
// transitions and totals, whether the kernel makes them now or a recording has them.
package source

import (
	"context"
	"time"

	"finwait/internal/ktime"
	"finwait/tracer"
)

// A Source hands over transitions and has the totals of what it handed over.
// *tracer.Tracer implements all but Now: see Live.
type Source interface {
	// Run and RunRaw are as Tracer.Run and Tracer.RunRaw: a value is valid until
	// handle returns, and only one of them can be called, once.
	Run(ctx context.Context, handle func(*tracer.Transition) error) error
	RunRaw(ctx context.Context, handle func(*tracer.RawEvent) error) error

	// Stats says where every transition went so far, also after Close.
	Stats() (tracer.Stats, error)
	// Totals and Groups are what was counted so far.
	Totals() (*tracer.Totals, error)
	Groups() (map[string]*tracer.Group, error)
	// Hooks is the set of hooks that saw it all.
	Hooks() tracer.HookSet
	// Now is the moment up to which transitions have happened: CLOCK_MONOTONIC and
	// the wall clock. A recording's clock is where its reading stands.
	Now() (monotonic time.Duration, wall time.Time)
	Close() error
}

// Live is a Source of what the kernel makes now.
type Live struct{ *tracer.Tracer }

// Now reads the clocks of this moment.
func (Live) Now() (monotonic time.Duration, wall time.Time) {
	mono, ns := ktime.Now()
	return time.Duration(mono), time.Unix(0, ns)
}

var _ Source = Live{}
