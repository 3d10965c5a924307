package sockets

import (
	"bufio"
	"strconv"

	"finwait/internal/sockdiag"
	"finwait/internal/text"
	"finwait/tracer"
)

// Widths of the columns that only these tables have.
const (
	netNSWidth = 10
	stateWidth = 12 // NEW_SYN_RECV
	uidWidth   = 6
	timerWidth = 10
	leftWidth  = 8
	ageWidth   = 8
	heldWidth  = 6
	countWidth = 9
)

// Text writes aligned lines for people.
type Text struct {
	line       *text.Line
	cgroupPath func(uint64) (string, bool)
	begun      bool
}

// NewText writes to w. cgroupPath gives the path of a cgroup, where there is one.
func NewText(w *bufio.Writer, colour bool, cgroupPath func(uint64) (string, bool)) *Text {
	return &Text{line: text.NewLine(w, colour), cgroupPath: cgroupPath}
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
		if err := l.Head("NETNS", netNSWidth, "STATE", stateWidth, "LOCAL", text.AddrWidth, "REMOTE", text.AddrWidth,
			"PID", text.PIDWidth, "COMM", text.CommWidth, "UID", uidWidth, "TIMER", timerWidth, "LEFT", leftWidth,
			"AGE", ageWidth, "HELD", heldWidth, "CGROUP", 0); err != nil {
			return err
		}
	}
	l.Begin()
	var buf [64]byte
	l.Cell("", strconv.AppendUint(buf[:0], uint64(r.NetNS), 10), netNSWidth)
	l.State(r.TCPState(), stateWidth)
	l.Cell("", text.AppendEndpoint(buf[:0], r.Local, r.Scope), text.AddrWidth)
	l.Cell("", text.AppendEndpoint(buf[:0], r.Remote, r.Scope), text.AddrWidth)
	l.Process(&r.Owner)
	l.Known(r.UIDKnown, strconv.AppendUint(buf[:0], uint64(r.UID), 10), uidWidth)
	ticking := r.Timer != sockdiag.NoTimer
	l.Known(ticking, append(buf[:0], r.Timer.String()...), timerWidth)
	l.Known(ticking, text.AppendTime(buf[:0], r.TimerLeft), leftWidth)
	age, known := r.Age()
	l.Known(known, text.AppendDuration(buf[:0], age, tracer.PrecisionAtLeast), ageWidth)
	orphan, known := r.Orphan()
	held := "held"
	if orphan {
		held = "orphan"
	}
	l.Known(known, append(buf[:0], held...), heldWidth)
	l.Known(r.CgroupID != 0, t.appendCgroup(buf[:0], r.CgroupID), 0)
	return l.End()
}

// appendCgroup writes a path where there is one, and else the number.
func (t *Text) appendCgroup(b []byte, id uint64) []byte {
	if path, ok := t.cgroupPath(id); ok {
		return text.AppendPrintable(b, path)
	}
	return strconv.AppendUint(b, id, 10)
}
