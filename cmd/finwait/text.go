package main

import (
	"bufio"
	"net/netip"
	"os"
	"strconv"
	"time"
	"unicode/utf8"

	"finwait/tracer"

	"golang.org/x/term"
)

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// Widths of the columns; what is wider pushes the rest of its line to the right.
const (
	wTime  = 15
	wPID   = 8
	wComm  = 15
	wAddr  = 21
	wState = 11
	wLast  = 11
)

// ANSI escape codes.
const (
	dim    = "\x1b[2m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	red    = "\x1b[31m"
	plain  = "\x1b[0m"
)

// A textSink writes one aligned line a transition, for people.
type textSink struct {
	w      *bufio.Writer
	colour bool
	raws   bool
	line   []byte
	width  int // of the line so far, without colours
	begun  bool
}

func newTextSink(w *bufio.Writer, raws, colour bool) *textSink {
	return &textSink{w: w, raws: raws, colour: colour, line: make([]byte, 0, 256)}
}

func (s *textSink) head(columns ...any) error {
	s.line, s.width = s.line[:0], 0
	for i := 0; i+1 < len(columns); i += 2 {
		s.cell(dim, []byte(columns[i].(string)), columns[i+1].(int))
	}
	return s.end()
}

func (s *textSink) transition(t *tracer.Transition) error {
	if !s.begun {
		s.begun = true
		if err := s.head("TIME", wTime, "PID", wPID, "COMM", wComm, "LOCAL", wAddr, "REMOTE", wAddr,
			"FROM", wState, "TO", wState, "LASTED", wLast, "WHY", 0); err != nil {
			return err
		}
	}
	s.line, s.width = s.line[:0], 0
	var buf [64]byte
	s.cell("", t.Time.Local().AppendFormat(buf[:0], "15:04:05.000000"), wTime)
	s.process(t.Owner.PID, &t.Owner.Comm)
	s.cell("", appendEndpoint(buf[:0], t.Local), wAddr)
	s.cell("", appendEndpoint(buf[:0], t.Remote), wAddr)
	s.cell(stateColour(t.From), append(buf[:0], t.From.String()...), wState)
	s.cell(stateColour(t.To), append(buf[:0], t.To.String()...), wState)
	s.cell("", appendDuration(buf[:0], t), wLast)
	s.why(t)
	return s.end()
}

func (s *textSink) why(t *tracer.Transition) {
	colour := ""
	switch t.Reason {
	case tracer.ReasonNone, tracer.ReasonFinReceived, tracer.ReasonExpired, tracer.ReasonClosed:
	default:
		colour = red
	}
	var buf [64]byte
	b := append(buf[:0], t.Reason.String()...)
	if t.Rearms > 0 {
		b = append(b, " rearmed="...)
		b = strconv.AppendUint(b, uint64(t.Rearms), 10)
	}
	if t.Closer.PID != 0 && t.Closer.PID != t.Owner.PID && t.From != tracer.TimeWait {
		if len(b) > 0 {
			b = append(b, ' ')
		}
		b = append(b, "closer="...)
		b = strconv.AppendUint(b, uint64(t.Closer.PID), 10)
		b = append(b, '/')
		b = appendName(b, &t.Closer.Comm)
	}
	s.cell(colour, b, 0)
}

func (s *textSink) raw(r *tracer.RawEvent) error {
	if !s.begun {
		s.begun = true
		if err := s.head("TIME", wTime, "CPU", 3, "PID", wPID, "TASK", wComm, "HOOK", 19, "COOKIE", 8,
			"LOCAL", wAddr, "REMOTE", wAddr, "WHAT", 0); err != nil {
			return err
		}
	}
	s.line, s.width = s.line[:0], 0
	var buf [128]byte
	s.cell("", r.Time.Local().AppendFormat(buf[:0], "15:04:05.000000"), wTime)
	s.cell("", strconv.AppendUint(buf[:0], uint64(r.CPU), 10), 3)
	s.process(r.Task.PID, &r.Task.Comm)
	s.cell("", append(buf[:0], r.Hook.String()...), 19)
	s.cell("", strconv.AppendUint(buf[:0], r.Cookie, 10), 8)
	s.cell("", appendEndpoint(buf[:0], r.Local), wAddr)
	s.cell("", appendEndpoint(buf[:0], r.Remote), wAddr)
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
	s.cell("", b, 0)
	return s.end()
}

// summary is said on stderr.
func (s *textSink) summary(tracer.Stats, string) error { return nil }

func (s *textSink) process(pid uint32, comm *tracer.Comm) {
	var buf [64]byte
	if pid == 0 {
		s.cell(dim, append(buf[:0], '-'), wPID)
		s.cell(dim, append(buf[:0], '-'), wComm)
		return
	}
	s.cell("", strconv.AppendUint(buf[:0], uint64(pid), 10), wPID)
	s.cell("", appendName(buf[:0], comm), wComm)
}

// cell adds text, padded to width; 0: as it is, at the end of a line.
func (s *textSink) cell(colour string, text []byte, width int) {
	if s.colour && colour != "" && len(text) > 0 {
		s.line = append(append(append(s.line, colour...), text...), plain...)
	} else {
		s.line = append(s.line, text...)
	}
	if width == 0 {
		return
	}
	for n := utf8.RuneCount(text); n < width; n++ {
		s.line = append(s.line, ' ')
	}
	s.line = append(s.line, ' ')
}

func (s *textSink) end() error {
	for len(s.line) > 0 && s.line[len(s.line)-1] == ' ' {
		s.line = s.line[:len(s.line)-1]
	}
	_, err := s.w.Write(append(s.line, '\n'))
	return err
}

func stateColour(st tracer.State) string {
	switch st {
	case tracer.Established:
		return green
	case tracer.FinWait1, tracer.FinWait2, tracer.TimeWait, tracer.Closing:
		return yellow
	case tracer.CloseWait, tracer.LastAck:
		return yellow
	}
	return ""
}

func appendEndpoint(b []byte, a netip.AddrPort) []byte {
	if a.Port() != 0 {
		return a.AppendTo(b)
	}
	if a.Addr().Is6() {
		b = append(a.Addr().AppendTo(append(b, '[')), ']')
	} else {
		b = a.Addr().AppendTo(b)
	}
	return append(b, ":*"...)
}

// appendDuration is appendTime with what is known of it; "-" is a start that was not seen.
func appendDuration(b []byte, t *tracer.Transition) []byte {
	switch t.Precision {
	case tracer.PrecisionUnknown:
		return append(b, '-')
	case tracer.PrecisionAtLeast:
		b = append(b, '>')
	case tracer.PrecisionJiffy:
		b = append(b, '~')
	}
	return appendTime(b, t.Duration)
}

// appendTime gives three decimals in the unit that fits.
func appendTime(b []byte, d time.Duration) []byte {
	switch {
	case d < time.Millisecond:
		return append(strconv.AppendFloat(b, float64(d)/float64(time.Microsecond), 'f', 3, 64), "us"...)
	case d < time.Second:
		return append(strconv.AppendFloat(b, float64(d)/float64(time.Millisecond), 'f', 3, 64), "ms"...)
	default:
		return append(strconv.AppendFloat(b, d.Seconds(), 'f', 3, 64), 's')
	}
}
