package main

import (
	"bufio"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"finwait/internal/scenario"
	"finwait/tracer"
)

// Widths of the ladder, which has to fit into 100 columns.
const (
	wOffset  = 10 // s, from the first thing that happened
	wAfter   = 15
	wHalf    = 14 // of the way from one end to the other
	wMargin  = wOffset + 1
	wExplain = 96
)

// A ladder draws the two ends of connections side by side. It holds back what
// it is given until that is released, in the order in which it happened.
type ladder struct {
	t     *textSink
	out   *bufio.Writer
	held  []ladderItem
	start time.Duration
	begun bool

	// Of what was held too: a new socket's port is known from its second transition on.
	sockets map[uint64]connection // by cookie
	states  map[end]tracer.State
	last    connection // that a line was of, and its socket
	cookie  uint64
}

// A ladderItem is a transition or a note.
type ladderItem struct {
	at   time.Duration
	note string
	tr   tracer.Transition
}

// A connection is known by the addresses of its ends.
type connection struct{ client, server netip.AddrPort }

type end struct {
	connection
	role tracer.Role
}

func newLadder(out *bufio.Writer, colour bool) *ladder {
	return &ladder{
		t: newTextSink(out, false, colour), out: out,
		sockets: make(map[uint64]connection), states: make(map[end]tracer.State),
	}
}

func (l *ladder) list(all []scenario.Scenario) error {
	for _, sc := range all {
		text := sc.Sentence
		if sc.Minute() {
			text += " [a minute]"
		}
		l.t.line = l.t.line[:0]
		l.t.cell(green, []byte(sc.Name), 16)
		l.t.cell("", []byte(text), 0)
		if err := l.t.end(); err != nil {
			return err
		}
	}
	return nil
}

func (l *ladder) transition(t *tracer.Transition) error {
	c := connection{t.Local, t.Remote}
	if t.Role == tracer.RoleServer {
		c = connection{t.Remote, t.Local}
	}
	if known, ok := l.sockets[t.Cookie]; !ok || known.client.Port() == 0 {
		l.sockets[t.Cookie] = c
	}
	l.held = append(l.held, ladderItem{at: t.Ktime, tr: *t})
	return nil
}

func (l *ladder) note(at time.Duration, text string) {
	l.held = append(l.held, ladderItem{at: at, note: text})
}

func (l *ladder) release(until time.Duration) error {
	slices.SortStableFunc(l.held, func(a, b ladderItem) int { return int(a.at - b.at) })
	n := 0
	for _, it := range l.held {
		if it.at > until {
			break
		}
		if err := l.draw(&it); err != nil {
			return err
		}
		n++
	}
	l.held = slices.Delete(l.held, 0, n)
	return l.out.Flush()
}

func (l *ladder) draw(it *ladderItem) error {
	if !l.begun {
		l.begun, l.start = true, it.at
		if err := l.t.head("   SECONDS", wOffset, "CLIENT", wState+1+wAfter, "SEGMENT", 2*wHalf, "SERVER", 0); err != nil {
			return err
		}
	}
	if it.note != "" {
		l.offset(it.at)
		l.t.cell(dim, append([]byte("# "), it.note...), 0)
		return l.t.end()
	}
	if it.tr.Role == tracer.RoleListener {
		l.offset(it.at)
		l.t.cell("", nil, wState+1+wAfter)
		l.t.cell(dim, fmt.Appendf(nil, "%*s", 2*wHalf, "listener"), 2*wHalf)
		l.moved(&it.tr)
		return l.t.end()
	}
	return l.step(&it.tr)
}

func (l *ladder) offset(at time.Duration) {
	l.t.line = l.t.line[:0]
	l.t.cell("", fmt.Appendf(nil, "%*.6f", wOffset, (at-l.start).Seconds()), wOffset)
}

// step draws a transition of one end, beside the state that the other is in.
func (l *ladder) step(t *tracer.Transition) error {
	c := l.sockets[t.Cookie]
	named := l.last.client.Port() == 0 && t.Cookie == l.cookie // it has got its port only now
	if c != l.last && !named {
		l.t.line = l.t.line[:0]
		l.t.cell("", nil, wMargin-1)
		l.t.cell(dim, fmt.Appendf(nil, "-- %s to %s", appendEndpoint(nil, c.client), appendEndpoint(nil, c.server)), 0)
		if err := l.t.end(); err != nil {
			return err
		}
	}
	l.last, l.cookie = c, t.Cookie
	l.states[end{c, t.Role}] = t.To
	l.offset(t.Ktime)
	if t.Role == tracer.RoleServer {
		l.still(l.states[end{c, tracer.RoleClient}])
		l.segment(t)
		l.moved(t)
	} else {
		l.moved(t)
		l.segment(t)
		l.still(l.states[end{c, tracer.RoleServer}])
	}
	return l.t.end()
}

func (l *ladder) moved(t *tracer.Transition) {
	l.t.cell(stateColour(t.To), []byte(t.To.String()), wState)
	after := []byte(nil)
	if t.Known() {
		after = appendDuration([]byte("after "), t)
	}
	l.t.cell("", after, wAfter)
}

func (l *ladder) still(s tracer.State) {
	name := ""
	if s != 0 && s != tracer.Closed {
		name = s.String()
	}
	l.t.cell(dim, []byte(name), wState)
	l.t.cell("", nil, wAfter)
}

// unsent reports whether a socket that entered SYN_SENT then found no port, and sent
// no SYN. It left at once: that is held, and not drawn yet.
func (l *ladder) unsent(t *tracer.Transition) bool {
	return t.To == tracer.SynSent && slices.ContainsFunc(l.held, func(it ladderItem) bool {
		return it.tr.Cookie == t.Cookie && it.tr.Reason == tracer.ReasonNoPort
	})
}

// segment draws the half of a segment's way at the end that moved, or says what else moved it.
func (l *ladder) segment(t *tracer.Transition) {
	s := scenario.SegmentOf(t)
	if l.unsent(t) {
		s = scenario.Segment{}
	}
	client := t.Role != tracer.RoleServer
	right := !client // the half that is drawn
	text := ""
	colour := ""
	switch {
	case s.Name == "":
		if t.To == tracer.Closed {
			text = t.Reason.String()
		}
	case s.Sent == client:
		text = "── " + s.Name + " " + strings.Repeat("─", wHalf-5-len(s.Name)) + ">"
	default:
		text = "<" + strings.Repeat("─", wHalf-5-len(s.Name)) + " " + s.Name + " ──"
	}
	if s.Name == "RST" {
		colour = red
	}
	if t.Reason == tracer.ReasonRecycled {
		text += " recycled"
	}
	if t.Rearms > 0 {
		text += fmt.Sprintf(", re-armed %d times", t.Rearms) // or more: docs/limitations.md
	}
	if pad := 2*wHalf - utf8.RuneCountInString(text); right && pad > 0 {
		l.t.cell("", nil, pad-1)
	}
	l.t.cell(colour, []byte(text), 0)
	for n := utf8.RuneCountInString(text); !right && n < 2*wHalf; n++ {
		l.t.line = append(l.t.line, ' ')
	}
	l.t.line = append(l.t.line, ' ')
}

func (l *ladder) end(_, result, text string) error {
	if result == notRun {
		text = "not run: " + text
	}
	if result != unexpected { // which is an error, and said as such
		if l.begun {
			fmt.Fprintln(l.out)
		}
		wrap(l.out, text, wExplain)
	}
	return l.out.Flush()
}

// wrap writes text in lines of a width.
func wrap(w *bufio.Writer, text string, width int) {
	n := 0
	for _, word := range strings.Fields(text) {
		k := utf8.RuneCountInString(word)
		switch {
		case n == 0:
		case n+1+k > width:
			w.WriteByte('\n')
			n = 0
		default:
			w.WriteByte(' ')
			n++
		}
		w.WriteString(word)
		n += k
	}
	w.WriteByte('\n')
}
