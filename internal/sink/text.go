package sink

import (
	"bufio"
	"strconv"
	"strings"
	"time"

	"finwait/internal/jsonl"
	"finwait/internal/text"
	"finwait/tracer"
)

// Text writes one aligned line a transition or raw event.
type Text struct {
	table   *text.Table[Entry]
	raw     *text.Table[rawEntry]
	side    *text.Line // of stacks
	options Options
	times   text.Times
	tally   jsonl.Tally
}

// NewText writes to w.
func NewText(w *bufio.Writer, o Options) *Text {
	if len(o.Columns.Names()) == 0 {
		o.Columns = text.Usual(Columns)
	}
	raw := text.Usual(rawColumns)
	if o.KeepTime {
		raw.Keep("time")
	}
	if o.Clock == text.ClockNone {
		o.Columns.Remove("time")
		raw.Remove("time")
	}
	s := &Text{
		table: text.NewTable(w, o.Form, o.Columns), raw: text.NewTable(w, o.Form, raw), side: text.NewLine(w, o.Form.Colour),
		options: o, times: text.Times{Clock: o.Clock, Began: o.Began, Decimals: 6},
	}
	s.table.Widen("time", s.times.Width())
	s.raw.Widen("time", s.times.Width())
	return s
}

// Segment writes a line among those of transitions. In place of states it says what the segment is.
func (s *Text) Segment(seg *tracer.Segment) error { return s.table.Row(Entry{to: s, s: seg}) }

// Transition writes a line, the first time below a line of titles.
func (s *Text) Transition(t *tracer.Transition) error {
	s.tally.Add(t)
	if err := s.table.Row(Entry{to: s, t: t}); err != nil {
		return err
	}
	return s.stack(t.Stack, t.Owner.PID)
}

// why is the reason, and what else is known of it.
func (s *Text) why(b []byte, t *tracer.Transition) []byte {
	b = append(b, t.Reason.String()...)
	if t.Detail != tracer.DetailNone {
		b = append(append(b, ' '), t.Detail.String()...)
	}
	switch t.Reason {
	case tracer.ReasonUnreachable, tracer.ReasonGivenUp, tracer.ReasonKilled: // the others imply it
		if t.Errno != 0 {
			b = append(append(b, ' '), t.Errno.String()...)
		}
	}
	if t.Retransmits > 0 {
		b = append(b, " retransmits="...)
		b = strconv.AppendUint(b, uint64(t.Retransmits), 10)
	}
	if t.Rearms > 0 {
		b = append(b, " rearmed="...)
		b = strconv.AppendUint(b, uint64(t.Rearms), 10)
	}
	if t.Owner.Holder {
		if len(b) > 0 {
			b = append(b, ' ')
		}
		b = append(b, "owner=holder"...)
	}
	if by := &t.RSTBy; by.PID != 0 {
		b = appendProcess(b, "rst_by", &by.Process)
	} else if by.End != tracer.RSTEndUnknown {
		b = append(append(b, " rst_by="...), by.End.String()...)
	}
	if t.Handler.PID != t.Owner.PID {
		b = appendProcess(b, "handler", &t.Handler)
	}
	if t.Closer.PID != t.Owner.PID && t.From != tracer.TimeWait {
		b = appendProcess(b, "closer", &t.Closer)
	}
	b = text.AppendNames(b, s.options.Names, t.Owner.CgroupID, t.NetNS, t.NetNSCookie)
	return s.metrics(b, t.Metrics)
}

// metrics adds those that were asked for; "-" is one that is not known.
func (s *Text) metrics(b []byte, from *tracer.Metrics) []byte {
	if from == nil {
		return b
	}
	for i := range jsonl.Metrics {
		m := &jsonl.Metrics[i]
		n, known, asked := m.Of(from, s.options.Fields)
		if !asked {
			continue
		}
		if len(b) > 0 {
			b = append(b, ' ')
		}
		b = append(append(b, m.Short...), '=')
		switch {
		case !known:
			b = append(b, '-')
		case strings.HasSuffix(m.Name, "_ns"):
			b = text.AppendTime(b, time.Duration(n))
		default:
			b = strconv.AppendUint(b, n, 10)
		}
	}
	return b
}

// appendProcess adds a process beside the owner, if it is known.
func appendProcess(b []byte, what string, p *tracer.Process) []byte {
	if p.PID == 0 {
		return b
	}
	if len(b) > 0 {
		b = append(b, ' ')
	}
	b = append(append(b, what...), '=')
	b = strconv.AppendUint(b, uint64(p.PID), 10)
	b = append(b, '/')
	return text.AppendName(b, &p.Comm)
}

// Raw writes a line, the first time below a line of titles.
func (s *Text) Raw(r *tracer.RawEvent) error {
	if err := s.raw.Row(rawEntry{s, r}); err != nil {
		return err
	}
	return s.stack(r.Stack, r.Task.PID)
}

// End writes nothing: the command says the accounts on stderr.
func (s *Text) End(tracer.Stats, tracer.HookSet) error { return nil }

// Tally is that of the transitions that were written.
func (s *Text) Tally() *jsonl.Tally { return &s.tally }
