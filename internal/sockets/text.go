package sockets

import (
	"bufio"
	"cmp"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"finwait/internal/text"
)

// Widths of the columns of the table of states.
const (
	stateWidth = 12 // NEW_SYN_RECV
	countWidth = 9
)

// Text writes aligned lines for people.
type Text struct {
	line     *text.Line
	columns  Columns
	names    *Names
	wide     int // columns of the terminal; 0: any number
	begun    bool
	headless bool
}

// NewText writes to w, which goes to a terminal that wide, or to none: 0.
func NewText(w *bufio.Writer, colour bool, wide int, columns Columns, names *Names) *Text {
	columns.fit(wide)
	return &Text{line: text.NewLine(w, colour), columns: columns, names: names, wide: wide}
}

// NoHead leaves the line of titles out.
func (t *Text) NoHead() { t.begun, t.headless = true, true }

// Reading writes when what follows was read.
func (t *Text) Reading(r *Reading) error {
	t.line.Begin()
	t.line.Cell(text.Dim, r.Time.AppendFormat(nil, time.DateTime), 0)
	return t.line.End()
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
	if path, ok := t.names.CgroupPath(id); ok {
		return text.AppendPrintable(b, path)
	}
	return strconv.AppendUint(b, id, 10)
}

// Groups writes a line for each group, one for the sum of those that are not shown, and one for
// what nothing is known of.
func (t *Text) Groups(table *Table) error {
	head, names := table.names()
	for _, k := range table.keys {
		if k.word == destination {
			head.ports = true
		}
	}
	lines := []groupLine{head}
	for i, g := range table.Groups {
		lines = append(lines, groupLine{names: names[i], group: g, ports: head.ports})
	}
	if table.Others != nil {
		lines = append(lines, groupLine{names: []string{fmt.Sprintf("(%d others)", table.Left)}, group: table.Others, ports: head.ports})
	}
	if table.Unknown != nil {
		lines = append(lines, groupLine{names: []string{"-"}, group: table.Unknown, ports: head.ports})
	}
	widths := make([]int, len(head.names))
	for _, l := range lines {
		for i, name := range l.names {
			widths[i] = max(widths[i], min(utf8.RuneCountInString(name), widestName))
		}
	}
	if t.headless {
		lines = lines[1:]
	}
	for i := range lines {
		if err := t.group(&lines[i], widths); err != nil {
			return err
		}
	}
	return nil
}

// widestName is how wide a column of names is at most. A longer one moves the rest of its line.
const widestName = 40

// A groupLine is the names of a group, or of the columns, and the group.
type groupLine struct {
	names []string
	group *Group // nil: it is the head
	ports bool   // the ports are shown
}

// names are the titles of the columns of names, and the names of each group.
func (t *Table) names() (head groupLine, all [][]string) {
	spaces := make(map[uint32]bool)
	for i, k := range t.keys {
		switch k.word {
		case "pid":
			head.names = append(head.names, "PID", "COMM")
		case "netns":
			head.names = append(head.names, "NETNS", "NAME")
		case destination:
			for _, g := range t.Groups {
				spaces[g.values[i].netns] = true
			}
			if len(spaces) > 1 {
				head.names = append(head.names, "NETNS")
			}
			head.names = append(head.names, "LOCAL", "REMOTE")
		default:
			head.names = append(head.names, strings.ToUpper(k.word))
		}
	}
	for _, g := range t.Groups {
		var names []string
		for i, k := range t.keys {
			v := &g.values[i]
			name := func(of string) string {
				if !v.known {
					return "-"
				}
				return text.Printable(of)
			}
			switch k.word {
			case "netns":
				names = append(names, name(t.name(i, v)), text.Printable(cmp.Or(t.labels.netNSOf(v.netns, v.cookie), "-")))
			case "pid":
				names = append(names, name(strconv.FormatUint(v.number, 10)), name(v.comm.String()))
			case destination:
				if len(spaces) > 1 {
					names = append(names, name(strconv.FormatUint(uint64(v.netns), 10)))
				}
				names = append(names, name(v.scope.Zoned(netip.AddrPortFrom(v.local, 0)).Addr().String()), name(k.name(v, nil)))
			default:
				of := ""
				if v.known {
					of = t.name(i, v)
				}
				names = append(names, name(of))
			}
		}
		all = append(all, names)
	}
	return head, all
}

func (t *Text) group(l *groupLine, widths []int) error {
	var b strings.Builder
	for i, width := range widths {
		name := ""
		if i < len(l.names) {
			name = l.names[i]
		}
		fmt.Fprintf(&b, "%-*s ", width, name)
	}
	g := l.group
	switch {
	case g == nil && l.ports:
		fmt.Fprintf(&b, "%8s %9s %11s %5s  ", "SOCKETS", "OLDEST", "PORTS", "BOUND")
	case g == nil:
		fmt.Fprintf(&b, "%8s %9s  ", "SOCKETS", "OLDEST")
	default:
		oldest := text.AppendAge(nil, g.Oldest, g.Precision())
		fmt.Fprintf(&b, "%8d %9s ", g.Sockets, oldest)
		if l.ports {
			b.WriteString(g.Ports.cells())
		}
		b.WriteByte(' ')
	}
	line := b.String()
	t.line.Begin()
	if g == nil {
		t.line.Cell(text.Dim, []byte(line+"STATES"), 0)
		return t.line.End()
	}
	t.line.Cell("", []byte(line+text.Fit(g.states(), t.wide-utf8.RuneCountInString(line), t.wide > 0)), 0)
	return t.line.End()
}

// cells are the ports of a destination, of others "-".
func (p *Ports) cells() string {
	ports, bound := "-", "-"
	if p != nil {
		ports = fmt.Sprintf("%d/%d", p.Used, p.Usable)
		if p.HeldKnown {
			bound = strconv.Itoa(p.Held)
		}
	}
	return fmt.Sprintf("%11s %5s ", ports, bound)
}

// states are those that there are, with how many sockets are in each.
func (g *Group) states() (all []string) {
	for _, s := range groupStates() {
		if n := g.States[s]; n > 0 {
			all = append(all, fmt.Sprintf("%v %d", s, n))
		}
	}
	return all
}
