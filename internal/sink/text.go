package sink

import (
	"bufio"
	"strconv"
	"time"

	"finwait/internal/jsonl"
	"finwait/internal/text"
	"finwait/tracer"
)

// Widths of the columns that only these tables have.
const (
	timeWidth     = 15
	durationWidth = 11
	hookWidth     = 19
	cookieWidth   = 8
	cpuWidth      = 3

	timeFormat = "15:04:05.000000"
)

// Text writes one aligned line a transition or raw event.
type Text struct {
	line    *text.Line
	begun   bool
	options Options
	tally   jsonl.Tally

	timed       bool // there was a line
	first, last time.Duration
}

// NewText writes to w, with ANSI colours if colour is set.
func NewText(w *bufio.Writer, colour bool) *Text { return &Text{line: text.NewLine(w, colour)} }

// head writes a line of titles, the first time.
func (s *Text) head() error {
	if s.begun {
		return nil
	}
	s.begun = true
	return s.line.Head("TIME", s.options.Clock.width(), "PID", text.PIDWidth, "COMM", text.CommWidth, "LOCAL", text.AddrWidth,
		"REMOTE", text.AddrWidth, "FROM", text.StateWidth, "TO", text.StateWidth, "LASTED", durationWidth, "WHY", 0)
}

// Segment writes a line among those of transitions. In place of states it says what the segment is.
func (s *Text) Segment(seg *tracer.Segment) error {
	if err := s.head(); err != nil {
		return err
	}
	var buf [64]byte
	why := append(buf[:0], seg.Reason...)
	what, direction := "RST", "sent"
	switch seg.Kind {
	case tracer.SegmentRSTReceived:
		direction = "received"
	case tracer.SegmentSYNACKAgain:
		what, direction = "SYN-ACK", "sent again"
		why = strconv.AppendUint(append(why, "retransmits="...), uint64(seg.Retransmits), 10)
	}
	l := s.line
	l.Begin()
	var cell [64]byte
	l.Cell("", s.when(cell[:0], seg.Time, seg.Ktime), s.options.Clock.width())
	l.Process(&tracer.Process{})
	l.Cell("", text.AppendEndpoint(cell[:0], seg.Local, seg.Scope), text.AddrWidth)
	l.Cell("", text.AppendEndpoint(cell[:0], seg.Remote, seg.Scope), text.AddrWidth)
	l.Cell(text.Red, append(cell[:0], what...), text.StateWidth)
	l.Cell("", append(cell[:0], direction...), text.StateWidth)
	l.Cell("", append(cell[:0], '-'), durationWidth)
	l.Cell(text.Red, why, 0)
	return l.End()
}

// Transition writes a line, the first time below a line of titles.
func (s *Text) Transition(t *tracer.Transition) error {
	s.tally.Add(t)
	if err := s.head(); err != nil {
		return err
	}
	l := s.line
	l.Begin()
	var buf [64]byte
	l.Cell("", s.when(buf[:0], t.Time, t.Ktime), s.options.Clock.width())
	l.Process(&t.Owner.Process)
	l.Cell("", text.AppendEndpoint(buf[:0], t.Local, t.Scope), text.AddrWidth)
	l.Cell("", text.AppendEndpoint(buf[:0], t.Remote, t.Scope), text.AddrWidth)
	l.State(t.From, text.StateWidth)
	l.State(t.To, text.StateWidth)
	l.Cell("", text.AppendDuration(buf[:0], t.Duration, t.Precision), durationWidth)
	s.why(t)
	if err := l.End(); err != nil {
		return err
	}
	return s.stack(t.Stack, t.Owner.PID)
}

func (s *Text) why(t *tracer.Transition) {
	colour := ""
	switch t.Reason {
	case tracer.ReasonNone, tracer.ReasonFinReceived, tracer.ReasonExpired, tracer.ReasonClosed:
	default:
		colour = text.Red
	}
	var buf [64]byte
	b := append(buf[:0], t.Reason.String()...)
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
	s.line.Cell(colour, s.metrics(b, t.Metrics), 0)
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
		case m.Name == "rtt_ns":
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
	if !s.begun {
		s.begun = true
		if err := s.line.Head("TIME", s.options.Clock.width(), "CPU", cpuWidth, "PID", text.PIDWidth, "TASK", text.CommWidth, "HOOK", hookWidth,
			"COOKIE", cookieWidth, "LOCAL", text.AddrWidth, "REMOTE", text.AddrWidth, "WHAT", 0); err != nil {
			return err
		}
	}
	l := s.line
	l.Begin()
	var buf [128]byte
	l.Cell("", s.when(buf[:0], r.Time, r.Ktime), s.options.Clock.width())
	l.Cell("", strconv.AppendUint(buf[:0], uint64(r.CPU), 10), cpuWidth)
	l.Process(&r.Task)
	l.Cell("", append(buf[:0], r.Hook.String()...), hookWidth)
	l.Cell("", strconv.AppendUint(buf[:0], r.Cookie, 10), cookieWidth)
	l.Cell("", text.AppendEndpoint(buf[:0], r.Local, r.Scope), text.AddrWidth)
	l.Cell("", text.AppendEndpoint(buf[:0], r.Remote, r.Scope), text.AddrWidth)
	b := append(buf[:0], r.From.String()...)
	if r.Minisock == 0 {
		b = append(append(b, " -> "...), r.To.String()...)
		if r.Err != 0 {
			b = strconv.AppendUint(append(b, " err="...), uint64(r.Err), 10)
		}
	} else {
		b = strconv.AppendUint(append(b, " tw=0x"...), r.Minisock, 16)
		b = strconv.AppendInt(append(b, " timer="...), int64(r.TimerLeft), 10)
	}
	l.Cell("", b, 0)
	if err := l.End(); err != nil {
		return err
	}
	return s.stack(r.Stack, r.Task.PID)
}

// End writes nothing: the command says the accounts on stderr.
func (s *Text) End(tracer.Stats, tracer.HookSet) error { return nil }

// Tally is that of the transitions that were written.
func (s *Text) Tally() *jsonl.Tally { return &s.tally }
