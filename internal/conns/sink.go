package conns

import (
	"slices"
	"time"

	"finwait/tracer"
)

// An Output writes connections, and in the end what is to be said of all.
type Output interface {
	Conn(*Conn) error
	End(*Summary) error
}

// Options say which connections are shown, and when.
type Options struct {
	AtClose     bool            // when TIME_WAIT begins, and not when that has ended
	Live        bool            // in the end also those that last
	MinDuration time.Duration   // in ESTABLISHED, as far as known
	Reasons     []tracer.Reason // of the end; none: any
	Most        int             // connections at a time
}

// A Summary is what is said of all connections of a run.
type Summary struct {
	Stats     tracer.Stats
	Hooks     tracer.HookSet
	Shown     uint64
	Hidden    uint64 // that MinDuration and Reasons have left out
	Open      uint64 // that had not ended, and were not shown as they closed
	Untracked uint64 // for which there was no room

	// Established and TimeWait are the sums of those that were shown, as far as both are known.
	Established, TimeWait time.Duration
	Measured              uint64 // of how many
}

// A Sink joins what a source reports, and hands each connection to an Output.
type Sink struct {
	joiner *Joiner
	opt    Options
	out    Output
	sum    Summary
	shown  map[*Conn]bool // those in TIME_WAIT, with AtClose
}

// NewSink makes one.
func NewSink(out Output, opt Options) *Sink {
	return &Sink{joiner: NewJoiner(opt.Most), opt: opt, out: out, shown: make(map[*Conn]bool)}
}

// Transition shows the connection, if it has ended.
func (s *Sink) Transition(t *tracer.Transition) error {
	c := s.joiner.Add(t)
	if c == nil {
		return nil
	}
	switch {
	case t.To == tracer.Closed && s.shown[c]:
		delete(s.shown, c)
	case t.To == tracer.Closed:
		return s.show(c)
	case t.To == tracer.TimeWait && s.opt.AtClose:
		s.shown[c] = true
		return s.show(c)
	}
	return nil
}

func (s *Sink) show(c *Conn) error {
	established, known := c.Established()
	if s.opt.MinDuration > 0 && (!known || established < s.opt.MinDuration) ||
		len(s.opt.Reasons) > 0 && !slices.Contains(s.opt.Reasons, c.Reason) {
		s.sum.Hidden++
		return nil
	}
	s.sum.Shown++
	if wait, ok := c.TimeWait(); ok && known && c.State == tracer.Closed {
		s.sum.Established += established
		s.sum.TimeWait += wait
		s.sum.Measured++
	}
	return s.out.Conn(c)
}

// Segment is never called: nobody asks for segments.
func (s *Sink) Segment(*tracer.Segment) error { return nil }

// Raw is never called.
func (s *Sink) Raw(*tracer.RawEvent) error { return nil }

// End shows the connections that last, if they were asked for, and the summary.
func (s *Sink) End(st tracer.Stats, hooks tracer.HookSet) error {
	for c := range s.joiner.Open {
		if s.shown[c] {
			continue // it is in TIME_WAIT
		}
		s.sum.Open++
		if s.opt.Live {
			if err := s.show(c); err != nil {
				return err
			}
		}
	}
	s.sum.Stats, s.sum.Hooks, s.sum.Untracked = st, hooks, s.joiner.Untracked
	return s.out.End(&s.sum)
}

// Shown is how many connections were shown so far.
func (s *Sink) Shown() uint64 { return s.sum.Shown }

// Untracked is for how many there was no room so far.
func (s *Sink) Untracked() uint64 { return s.joiner.Untracked }

// Summary is what End has said.
func (s *Sink) Summary() *Summary { return &s.sum }
