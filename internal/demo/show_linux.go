// Package demo shows a scenario while it is played: as a ladder of both ends for
// people, or as JSON.
package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"finwait/internal/jsonl"
	"finwait/internal/scenario"
	"finwait/tracer"
)

// A Sink shows scenarios.
type Sink interface {
	List([]scenario.Scenario) error
	Transition(*tracer.Transition) error
	Note(at time.Duration, words string)
	Release(until time.Duration) error // show what happened up to then
	End(name, result, words string) error
}

// How a scenario went.
const (
	AsExpected = "as_expected"
	Unexpected = "unexpected"
	NotRun     = "not_run"
)

// A Show hands what happens to a sink, from several goroutines.
type Show struct {
	mu   sync.Mutex
	sink Sink
}

// NewShow hands to sink.
func NewShow(sink Sink) *Show { return &Show{sink: sink} }

// Transition hands over a transition.
func (s *Show) Transition(t *tracer.Transition) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sink.Transition(t)
}

// Note hands over a note of what is about to happen at a time of CLOCK_MONOTONIC.
func (s *Show) Note(at time.Duration, words string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sink.Note(at, words)
}

// Release shows what happened up to a time of CLOCK_MONOTONIC.
func (s *Show) Release(until time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sink.Release(until)
}

// settled: a transition takes up to 50 ms from the kernel to here (Tracer.Run).
// What is older is in order.
const settled = 150 * time.Millisecond

// Stream shows what happens, in the order in which it did, until ctx is done.
// now reads CLOCK_MONOTONIC.
func (s *Show) Stream(ctx context.Context, now func() time.Duration, fail context.CancelCauseFunc) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := s.Release(now() - settled); err != nil {
			fail(err)
			return
		}
	}
}

// End shows how the scenario went and what that means; played is what Stage.Play
// returned. It returns an error if the scenario went otherwise than it must.
func (s *Show) End(sc *scenario.Scenario, seen scenario.Seen, played error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var cannot *scenario.NotRunError
	switch {
	case errors.As(played, &cannot):
		return s.sink.End(sc.Name, NotRun, cannot.Why)
	case played != nil:
		return errors.Join(s.sink.End(sc.Name, Unexpected, played.Error()), fmt.Errorf("demo %s: %w", sc.Name, played))
	}
	return s.sink.End(sc.Name, AsExpected, sc.Explain(seen))
}

// JSON writes transitions as trace does, and one object at the end.
type JSON struct {
	*jsonl.Writer
	Fast bool // a minute is skipped
	out  *bufio.Writer
}

// NewJSON writes to out.
func NewJSON(out *bufio.Writer) *JSON { return &JSON{Writer: jsonl.NewWriter(out), out: out} }

// List writes an object for each scenario.
func (j *JSON) List(all []scenario.Scenario) error {
	for _, sc := range all {
		j.Event().Str("event", "demo_listed").Str("name", sc.Name).Str("sentence", sc.Sentence).Bool("minute", sc.Minute()).Send()
	}
	return j.Err()
}

// Note writes nothing.
func (j *JSON) Note(time.Duration, string) {}

// Release flushes what was written.
func (j *JSON) Release(time.Duration) error { return j.out.Flush() }

// End writes how it went.
func (j *JSON) End(name, result, words string) error {
	j.Event().Str("event", "demo").Str("name", name).Str("result", result).Bool("fast", j.Fast).Str("text", words).Send()
	return errors.Join(j.Err(), j.out.Flush())
}
