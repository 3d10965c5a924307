package conns

import (
	"bufio"
	"strconv"
	"time"

	"finwait/internal/label"
	"finwait/internal/text"
	"finwait/tracer"
)

// Widths of the columns that only this table has.
const (
	openedWidth   = 12
	roleWidth     = 6
	durationWidth = 9
	bytesWidth    = 8
	finWidth      = 6

	openedFormat = "15:04:05.000"
)

// Text writes a line a connection.
type Text struct {
	line  *text.Line
	names label.Names // nil: none
	begun bool
}

// NewText writes to w, with ANSI colours if colour is set, names if there are some, and a
// line of titles, if head is set.
func NewText(w *bufio.Writer, colour, head bool, names label.Names) *Text {
	return &Text{line: text.NewLine(w, colour), names: names, begun: !head}
}

// Conn writes a line, the first time below a line of titles.
func (s *Text) Conn(c *Conn) error {
	if !s.begun {
		s.begun = true
		if err := s.line.Head("OPENED", openedWidth, "PID", text.PIDWidth, "COMM", text.CommWidth, "LOCAL", text.AddrWidth,
			"REMOTE", text.AddrWidth, "ROLE", roleWidth, "SHAKE", durationWidth, "LASTED", durationWidth, "CLOSING", durationWidth,
			"TIMEWAIT", durationWidth, "FIN", finWidth, "SENT", bytesWidth, "RECEIVED", bytesWidth, "RTT", durationWidth, "RETR", 4, "WHY", 0); err != nil {
			return err
		}
	}
	l := s.line
	l.Begin()
	var buf [96]byte
	l.Known(c.Whole, c.Opened.Local().AppendFormat(buf[:0], openedFormat), openedWidth)
	l.Process(&c.Owner.Process)
	l.Cell("", text.AppendEndpoint(buf[:0], c.Local, c.Scope), text.AddrWidth)
	l.Cell("", text.AppendEndpoint(buf[:0], c.Remote, c.Scope), text.AddrWidth)
	l.Known(c.Role != tracer.RoleUnknown, append(buf[:0], c.Role.String()...), roleWidth)
	shake, known := c.Handshake()
	s.duration(shake, known && c.Role == tracer.RoleClient)
	for _, part := range []struct {
		key  string
		last func() (time.Duration, bool)
	}{{"established_ns", c.Established}, {"closing_ns", c.Closing}, {"time_wait_ns", c.TimeWait}} {
		d, known := part.last()
		s.duration(d, known && c.over(part.key))
	}
	l.Known(c.FirstFIN != FINUnknown, append(buf[:0], c.FirstFIN.String()...), finWidth)
	m := &c.Metrics
	l.Known(m.Known, strconv.AppendUint(buf[:0], m.BytesSent, 10), bytesWidth)
	l.Known(m.Known, strconv.AppendUint(buf[:0], m.BytesReceived, 10), bytesWidth)
	s.duration(m.RTT, m.Known && m.RTT > 0)
	l.Known(m.Known, strconv.AppendUint(buf[:0], uint64(m.Retransmitted), 10), 4)
	l.Cell(s.why(buf[:0], c))
	return l.End()
}

func (s *Text) duration(d time.Duration, known bool) {
	var buf [32]byte
	b := append(buf[:0], '0')
	if d != 0 {
		b = append(buf[:0], text.Rough(d)...)
	}
	s.line.Known(known, b, durationWidth)
}

// why is what the last column has: the reason of the end, or the state that it is in.
func (s *Text) why(b []byte, c *Conn) (colour string, why []byte, width int) {
	if c.State != tracer.Closed {
		b = append(append(b, "in "...), c.State.String()...)
	}
	switch c.Reason {
	case tracer.ReasonNone, tracer.ReasonExpired, tracer.ReasonClosed:
	default:
		colour = text.Red
	}
	b = append(b, c.Reason.String()...)
	if c.Detail != tracer.DetailNone {
		b = append(append(b, ' '), c.Detail.String()...)
	}
	if c.Closer.PID != 0 && c.Closer.PID != c.Owner.PID {
		b = append(b, " closer="...)
		b = append(strconv.AppendUint(b, uint64(c.Closer.PID), 10), '/')
		b = text.AppendName(b, &c.Closer.Comm)
	}
	if c.Handler.PID != 0 && c.Handler.PID != c.Owner.PID {
		b = append(b, " handler="...)
		b = append(strconv.AppendUint(b, uint64(c.Handler.PID), 10), '/')
		b = text.AppendName(b, &c.Handler.Comm)
	}
	b = text.AppendNames(b, s.names, c.Owner.CgroupID, c.NetNS, c.NetNSCookie)
	if c.Missed > 0 {
		b = strconv.AppendInt(append(b, " missed="...), int64(c.Missed), 10)
	}
	return colour, b, 0
}

// End writes nothing: the command says the summary on stderr.
func (s *Text) End(*Summary) error { return nil }
