package demo

import (
	"bufio"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"finwait/internal/scenario"
	"finwait/internal/text"
	"finwait/tracer"
)

// Widths of the Ladder, which has to fit into 100 columns.
const (
	wOffset  = 10 // s, from the first thing that happened
	wAfter   = 15
	wHalf    = 14 // of the way from one end to the other
	wMargin  = wOffset + 1
	wExplain = 96
)

// A Ladder draws the two ends of connections side by side. It holds back what
// it is given until that is released, in the order in which it happened.
type Ladder struct {
	t     *text.Line
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

// NewLadder writes to out, with ANSI colours if colour is set.
func NewLadder(out *bufio.Writer, colour bool) *Ladder {
	return &Ladder{
		t: text.NewLine(out, colour), out: out,
		sockets: make(map[uint64]connection), states: make(map[end]tracer.State),
	}
}

// List writes the names and sentences of scenarios.
func (l *Ladder) List(all []scenario.Scenario) error {
	for _, sc := range all {
		sentence := sc.Sentence
		if sc.Minute() {
			sentence += " [a minute]"
		}
		l.t.Begin()
		l.t.Cell(text.Green, []byte(sc.Name), 16)
		l.t.Cell("", []byte(sentence), 0)
		if err := l.t.End(); err != nil {
			return err
		}
	}
	return nil
}

// Transition holds a transition back until Release.
func (l *Ladder) Transition(t *tracer.Transition) error {
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

// Note holds a note back until Release.
func (l *Ladder) Note(at time.Duration, words string) {
	l.held = append(l.held, ladderItem{at: at, note: words})
}

// Release draws what happened until then, in order.
func (l *Ladder) Release(until time.Duration) error {
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

func (l *Ladder) draw(it *ladderItem) error {
	if !l.begun {
		l.begun, l.start = true, it.at
		if err := l.t.Head("   SECONDS", wOffset, "CLIENT", text.StateWidth+1+wAfter, "SEGMENT", 2*wHalf, "SERVER", 0); err != nil {
			return err
		}
	}
	if it.note != "" {
		l.offset(it.at)
		l.t.Cell(text.Dim, append([]byte("# "), it.note...), 0)
		return l.t.End()
	}
	if it.tr.Role == tracer.RoleListener {
		l.offset(it.at)
		l.t.Cell("", nil, text.StateWidth+1+wAfter)
		l.t.Cell(text.Dim, fmt.Appendf(nil, "%*s", 2*wHalf, "listener"), 2*wHalf)
		l.moved(&it.tr)
		return l.t.End()
	}
	return l.step(&it.tr)
}

func (l *Ladder) offset(at time.Duration) {
	l.t.Begin()
	l.t.Cell("", fmt.Appendf(nil, "%*.6f", wOffset, (at-l.start).Seconds()), wOffset)
}

// step draws a transition of one end, beside the state that the other is in.
func (l *Ladder) step(t *tracer.Transition) error {
	c := l.sockets[t.Cookie]
	named := l.last.client.Port() == 0 && t.Cookie == l.cookie // it has got its port only now
	if c != l.last && !named {
		l.t.Begin()
		l.t.Cell("", nil, wMargin-1)
		l.t.Cell(text.Dim, fmt.Appendf(nil, "-- %s to %s", text.AppendEndpoint(nil, c.client, tracer.Scope{}), text.AppendEndpoint(nil, c.server, tracer.Scope{})), 0)
		if err := l.t.End(); err != nil {
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
	return l.t.End()
}

func (l *Ladder) moved(t *tracer.Transition) {
	l.t.State(t.To, text.StateWidth)
	after := []byte(nil)
	if t.Known() {
		after = text.AppendDuration([]byte("after "), t.Duration, t.Precision)
	}
	l.t.Cell("", after, wAfter)
}

func (l *Ladder) still(s tracer.State) {
	name := ""
	if s != 0 && s != tracer.Closed {
		name = s.String()
	}
	l.t.Cell(text.Dim, []byte(name), text.StateWidth)
	l.t.Cell("", nil, wAfter)
}

// unsent reports whether a socket that entered SYN_SENT then found no port, or its
// addresses in use, and sent no SYN. It left at once: that is held, and not drawn yet.
func (l *Ladder) unsent(t *tracer.Transition) bool {
	return t.To == tracer.SynSent && slices.ContainsFunc(l.held, func(it ladderItem) bool {
		return it.tr.Cookie == t.Cookie && (it.tr.Reason == tracer.ReasonNoPort || it.tr.Reason == tracer.ReasonInUse)
	})
}

// segment draws the half of a segment's way at the end that moved, or says what else moved it.
func (l *Ladder) segment(t *tracer.Transition) {
	s := scenario.SegmentOf(t)
	if l.unsent(t) {
		s = scenario.Segment{}
	}
	client := t.Role != tracer.RoleServer
	right := !client // the half that is drawn
	words := ""
	colour := ""
	switch {
	case s.Name == "":
		if t.To == tracer.Closed {
			words = t.Reason.String()
			if t.Detail != tracer.DetailNone && t.Reason != tracer.ReasonExpired { // of that the state says it
				words += " " + t.Detail.String()
			}
		}
	case s.Sent == client:
		words = "── " + s.Name + " " + strings.Repeat("─", wHalf-5-len(s.Name)) + ">"
	default:
		words = "<" + strings.Repeat("─", wHalf-5-len(s.Name)) + " " + s.Name + " ──"
	}
	if s.Name == "RST" {
		colour = text.Red
	}
	if t.Reason == tracer.ReasonRecycled {
		words += " recycled"
	}
	if t.Rearms > 0 {
		words += fmt.Sprintf(", re-armed %d times", t.Rearms) // or more: docs/limitations.md
	}
	if pad := 2*wHalf - utf8.RuneCountInString(words); right && pad > 0 {
		l.t.Cell("", nil, pad-1)
	}
	l.t.Cell(colour, []byte(words), 0)
	if right {
		l.t.Pad(1)
	} else {
		l.t.Pad(2*wHalf - utf8.RuneCountInString(words) + 1)
	}
}

// End writes what it means.
func (l *Ladder) End(_, result, words string) error {
	if result == NotRun {
		words = "not run: " + words
	}
	if result != Unexpected { // which is an error, and said as such
		if l.begun {
			fmt.Fprintln(l.out)
		}
		text.Wrap(l.out, words, wExplain)
	}
	return l.out.Flush()
}
