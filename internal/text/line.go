// Package text writes aligned lines, durations, addresses and names for people.
package text

import (
	"bufio"
	"io"
	"os"
	"unicode/utf8"

	"finwait/tracer"

	"golang.org/x/term"
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

// State adds the cell of a state in its colour.
func (l *Line) State(s tracer.State, width int) {
	var buf [16]byte
	l.Cell(StateColour(s), append(buf[:0], s.String()...), width)
}

const spaces = "                                                                "

// Pad adds n spaces, and at least one.
func (l *Line) Pad(n int) {
	for n = max(n, 1); n > len(spaces); n -= len(spaces) {
		l.line = append(l.line, spaces...)
	}
	l.line = append(l.line, spaces[:n]...)
}

// End writes the line without the spaces at its end.
func (l *Line) End() error {
	for len(l.line) > 0 && l.line[len(l.line)-1] == ' ' {
		l.line = l.line[:len(l.line)-1]
	}
	_, err := l.w.Write(append(l.line, '\n'))
	return err
}

// StateColour is the escape code of a state, or "".
func StateColour(s tracer.State) string {
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
