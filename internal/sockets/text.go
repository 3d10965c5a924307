package sockets

import (
	"bufio"
	"strconv"
	"strings"

	"finwait/internal/text"
)

// Widths of the columns of the table of states.
const (
	stateWidth = 12 // NEW_SYN_RECV
	countWidth = 9
)

// Text writes aligned lines for people.
type Text struct {
	line       *text.Line
	columns    Columns
	cgroupPath func(uint64) (string, bool)
	begun      bool
}

// NewText writes to w, which goes to a terminal that wide, or to none: 0. cgroupPath gives the
// path of a cgroup, where there is one.
func NewText(w *bufio.Writer, colour bool, wide int, columns Columns, cgroupPath func(uint64) (string, bool)) *Text {
	columns.fit(wide)
	return &Text{line: text.NewLine(w, colour), columns: columns, cgroupPath: cgroupPath}
}

// Count writes how many sockets are in a state.
func (t *Text) Count(c *StateCount) error {
	l := t.line
	if !t.begun {
		t.begun = true
		head := []any{"STATE", stateWidth, "COUNT", countWidth}
		if c.Owners {
			head = append(head, "OWNER_UNKNOWN", 0)
		}
		if err := l.Head(head...); err != nil {
			return err
		}
	}
	l.Begin()
	var buf [64]byte
	l.State(c.State, stateWidth)
	l.Known(c.Known, strconv.AppendUint(buf[:0], c.Count, 10), countWidth)
	if c.Owners {
		l.Cell("", strconv.AppendUint(buf[:0], c.Unsure, 10), 0)
	}
	return l.End()
}

// Socket writes a socket.
func (t *Text) Socket(r *Row) error {
	l := t.line
	if !t.begun {
		t.begun = true
		l.Begin()
		for i, c := range t.columns.list {
			l.Cell(text.Dim, []byte(strings.ToUpper(c.name)), t.width(i))
		}
		if err := l.End(); err != nil {
			return err
		}
	}
	l.Begin()
	var buf [64]byte
	for i, c := range t.columns.list {
		switch {
		case c.name == "state":
			l.State(r.TCPState(), t.width(i))
		case c.known != nil && !c.known(r):
			l.Known(false, nil, t.width(i))
		default:
			l.Cell("", c.cell(t, buf[:0], r), t.width(i))
		}
	}
	return l.End()
}

// width of a column; 0, which is as wide as its text, of the last.
func (t *Text) width(i int) int {
	if i == len(t.columns.list)-1 {
		return 0
	}
	c := t.columns.list[i]
	return max(c.width, len(c.name))
}

// appendCgroup writes a path where there is one, and else the number.
func (t *Text) appendCgroup(b []byte, id uint64) []byte {
	if path, ok := t.cgroupPath(id); ok {
		return text.AppendPrintable(b, path)
	}
	return strconv.AppendUint(b, id, 10)
}
