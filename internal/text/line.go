// Package text writes aligned lines, durations, addresses and names for people.
package text

import (
	"bufio"
	"io"
	"os"
	"strconv"
	"unicode/utf8"

	"finwait/tracer"

	"golang.org/x/term"
)

// Widths of columns that several tables have. A cell that is wider pushes the
// rest of its line to the right.
const (
	PIDWidth   = 8
	CommWidth  = 15
	AddrWidth  = 21
	StateWidth = 11 // all but NEW_SYN_RECV
)

// ANSI escape codes.
const (
	Dim    = "\x1b[2m"
	Green  = "\x1b[32m"
	Yellow = "\x1b[33m"
	Red    = "\x1b[31m"
	Plain  = "\x1b[0m"
)

// A Line is built cell by cell and written by End.
type Line struct {
	w      *bufio.Writer
	colour bool
	line   []byte
}

// NewLine writes to w, with ANSI colours if colour is set.
func NewLine(w *bufio.Writer, colour bool) *Line {
	return &Line{w: w, colour: colour, line: make([]byte, 0, 256)}
}

// Head writes a line of column titles: pairs of a string and a width.
func (l *Line) Head(columns ...any) error {
	l.Begin()
	for i := 0; i+1 < len(columns); i += 2 {
		l.Cell(Dim, []byte(columns[i].(string)), columns[i+1].(int))
	}
	return l.End()
}

// Begin starts a new line.
func (l *Line) Begin() { l.line = l.line[:0] }

// Cell adds text, padded with spaces to width runes and one more. A width of 0
// adds the text as it is, for the last cell of a line. colour is an escape code or "".
func (l *Line) Cell(colour string, text []byte, width int) {
	if l.colour && colour != "" && len(text) > 0 {
		l.line = append(append(append(l.line, colour...), text...), Plain...)
	} else {
		l.line = append(l.line, text...)
	}
	if width > 0 {
		l.Pad(width - utf8.RuneCount(text) + 1)
	}
}

// Known is Cell, with "-" for what is not known.
func (l *Line) Known(known bool, text []byte, width int) {
	if !known {
		l.Cell(Dim, []byte{'-'}, width)
		return
	}
	l.Cell("", text, width)
}

// Process adds the cells of a pid and a name.
func (l *Line) Process(p *tracer.Process) {
	var buf [64]byte
	l.Known(p.PID != 0, strconv.AppendUint(buf[:0], uint64(p.PID), 10), PIDWidth)
	l.Known(p.PID != 0, AppendName(buf[:0], &p.Comm), CommWidth)
}

// State adds the cell of a state in its colour.
func (l *Line) State(s tracer.State, width int) {
	var buf [16]byte
	l.Cell(stateColour(s), append(buf[:0], s.String()...), width)
}

// Pad adds n spaces, and at least one.
func (l *Line) Pad(n int) {
	for ; n > 1; n-- {
		l.line = append(l.line, ' ')
	}
	l.line = append(l.line, ' ')
}

// End writes the line without the spaces at its end.
func (l *Line) End() error {
	for len(l.line) > 0 && l.line[len(l.line)-1] == ' ' {
		l.line = l.line[:len(l.line)-1]
	}
	_, err := l.w.Write(append(l.line, '\n'))
	return err
}

func stateColour(s tracer.State) string {
	switch s {
	case tracer.Established:
		return Green
	case tracer.FinWait1, tracer.FinWait2, tracer.TimeWait, tracer.Closing, tracer.CloseWait, tracer.LastAck:
		return Yellow
	}
	return ""
}

// Coloured says whether to colour what goes to w: when is always, never, or auto,
// which colours for a terminal unless NO_COLOR is set or TERM is dumb. A writer
// that only passes on to another has a method Unwrap.
func Coloured(w io.Writer, when string) bool {
	switch when {
	case "always":
		return true
	case "never":
		return false
	}
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && IsTerminal(w)
}

// IsTerminal reports whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	if wrapped, ok := w.(interface{ Unwrap() io.Writer }); ok {
		w = wrapped.Unwrap()
	}
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
