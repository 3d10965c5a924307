//go:build !linux

package tracer

import "context"

// A Tracer follows TCP sockets. There is none on this system: New fails.
type Tracer struct{}

// New fails with ErrNotLinux.
func New(Config) (*Tracer, error) { return nil, ErrNotLinux }

// Run is never reached.
func (*Tracer) Run(context.Context, func(*Transition) error) error { return ErrNotLinux }

// RunRaw is never reached.
func (*Tracer) RunRaw(context.Context, func(*RawEvent) error) error { return ErrNotLinux }

// Stats is never reached.
func (*Tracer) Stats() (Stats, error) { return Stats{}, ErrNotLinux }

// Hooks is never reached.
func (*Tracer) Hooks() HookSet { return HooksAuto }

// Close is never reached.
func (*Tracer) Close() error { return nil }

// Features fails with ErrNotLinux.
func Features() ([]Feature, error) { return nil, ErrNotLinux }

// Totals is never reached.
func (*Tracer) Totals() (*Totals, error) { return nil, ErrNotLinux }

// Groups is never reached.
func (*Tracer) Groups() (map[string]*Group, error) { return nil, ErrNotLinux }

// NetNS is never reached.
func (*Tracer) NetNS() (map[uint64]uint32, error) { return nil, ErrNotLinux }

// NetNSTotals is never reached.
func (*Tracer) NetNSTotals(uint64) (NetNSTotals, error) { return NetNSTotals{}, ErrNotLinux }

// SegmentCounts is never reached.
func (*Tracer) SegmentCounts() ([]SegmentCount, error) { return nil, ErrNotLinux }

// SocketHolders fails with ErrNotLinux.
func SocketHolders(func(*SocketHolder)) error { return ErrNotLinux }

// Listeners fails with ErrNotLinux.

// LiveSockets is never reached.
func (*Tracer) LiveSockets(string, func(*LiveSocket)) error { return ErrNotLinux }

// Programs is never reached.
func (*Tracer) Programs() ([]ProgramStats, error) { return nil, ErrNotLinux }

// MapFill is never reached.
func (*Tracer) MapFill() ([]MapFill, error) { return nil, ErrNotLinux }
