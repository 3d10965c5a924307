package saved

import (
	"context"
	"time"

	"finwait/internal/source"
	"finwait/tracer"
)

// A Source hands over a saved run: what a recording would be to the commands. Its
// totals are those of the transitions handed over so far.
type Source struct {
	run    *Run
	stats  tracer.Stats
	totals tracer.Totals
	now    time.Duration
}

var _ source.Source = (*Source)(nil)

// NewSource gives a source of a run.
func NewSource(r *Run) *Source { return &Source{run: r, now: time.Duration(r.Mono)} }

// Run hands over the transitions.
func (s *Source) Run(ctx context.Context, handle func(*tracer.Transition) error) error {
	for i := range s.run.Transitions {
		if ctx.Err() != nil {
			return nil
		}
		t := s.run.Transitions[i].Tracer()
		s.now = max(s.now, t.Ktime)
		s.stats.Seen++
		s.stats.Delivered++
		s.totals.Add(&t)
		if err := handle(&t); err != nil {
			return err
		}
	}
	return nil
}

// RunRaw hands over the raw events.
func (s *Source) RunRaw(ctx context.Context, handle func(*tracer.RawEvent) error) error {
	for i := range s.run.Raws {
		if ctx.Err() != nil {
			return nil
		}
		r := s.run.Raws[i].Tracer()
		s.now = max(s.now, r.Ktime)
		s.stats.Seen++
		s.stats.Delivered++
		if err := handle(&r); err != nil {
			return err
		}
	}
	return nil
}

// Stats says what was handed over.
func (s *Source) Stats() (tracer.Stats, error) { return s.stats, nil }

// Totals are of what was handed over.
func (s *Source) Totals() (*tracer.Totals, error) {
	totals := s.totals
	return &totals, nil
}

// Groups are those of the whole run.
func (s *Source) Groups() (map[string]*tracer.Group, error) { return s.run.TracerGroups(), nil }

// Hooks is the set that was in use.
func (s *Source) Hooks() (h tracer.HookSet) {
	_ = h.UnmarshalText([]byte(s.run.Hooks)) // it was written by MarshalText
	return h
}

// Now is where the reading stands.
func (s *Source) Now() (monotonic time.Duration, wall time.Time) {
	return s.now, time.Unix(0, s.run.Wall+int64(s.now)-s.run.Mono)
}

// Close has nothing to give back.
func (s *Source) Close() error { return nil }
