package sockets

import (
	"bufio"
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"finwait/internal/text"
)

// Text writes aligned lines for people.
type Text struct {
	w       *bufio.Writer
	form    text.Form
	names   *Names
	sockets *text.Table[Entry]
	counts  *text.Table[*StateCount]
}

// NewText writes to w; columns are those of sockets.
func NewText(w *bufio.Writer, form text.Form, columns text.Columns[Entry], names *Names) *Text {
	return &Text{w: w, form: form, names: names, sockets: text.NewTable(w, form, columns)}
}

// The columns of the table of states.
var (
	countColumns = []text.Column[*StateCount]{
		{Name: "state", Width: len("NEW_SYN_RECV"), Goes: text.Never,
			Cell:   func(b []byte, c *StateCount) []byte { return append(b, c.State.String()...) },
			Colour: func(c *StateCount) string { return text.StateColour(c.State) }},
		{Name: "count", Width: 9, Goes: text.Never,
			Cell: func(b []byte, c *StateCount) []byte {
				if !c.Known {
					return b
				}
				return strconv.AppendUint(b, c.Count, 10)
			}},
	}
	unsureColumn = text.Column[*StateCount]{Name: "owner_unknown", Goes: text.Never,
		Cell: func(b []byte, c *StateCount) []byte { return strconv.AppendUint(b, c.Unsure, 10) }}
)

// Reading writes when what follows was read.
func (t *Text) Reading(r *Reading) error {
	l := text.NewLine(t.w, t.form.Colour)
	l.Begin()
	l.Cell(text.Dim, r.Time.AppendFormat(nil, time.DateTime), 0)
	return l.End()
}

// Count writes how many sockets are in a state.
func (t *Text) Count(c *StateCount) error {
	if t.counts == nil {
		columns := countColumns
		if c.Owners {
			columns = append(slices.Clip(columns), unsureColumn)
		}
		t.counts = text.NewTable(t.w, t.form, text.Usual(columns))
	}
	return t.counts.Row(c)
}

// Socket writes a socket.
func (t *Text) Socket(r *Row) error { return t.sockets.Row(Entry{r, t.names}) }

// appendCgroup writes a path where there is one, and else the number.
func appendCgroup(b []byte, id uint64, names *Names) []byte {
	if path, ok := names.CgroupPath(id); ok {
		return text.AppendPrintable(b, path)
	}
	return strconv.AppendUint(b, id, 10)
}

// A groupLine is a group, and what it is called.
type groupLine struct {
	names []string
	*Group
}

// Groups writes a line for each group, one for the sum of those that are not shown, and one for
// what nothing is known of.
func (t *Text) Groups(table *Table) error {
	titles, names := table.names()
	var lines []groupLine
	for i, g := range table.Groups {
		lines = append(lines, groupLine{names[i], g})
	}
	if table.Others != nil {
		lines = append(lines, groupLine{[]string{fmt.Sprintf("(%d others)", table.Left)}, table.Others})
	}
	if table.Unknown != nil {
		lines = append(lines, groupLine{[]string{"-"}, table.Unknown})
	}
	var columns []text.Column[groupLine]
	for i, title := range titles {
		columns = append(columns, nameColumn(i, title, lines))
	}
	columns = append(columns, groupColumns...)
	if slices.ContainsFunc(table.keys, func(k *key) bool { return k.word == destination }) {
		columns = append(columns, portColumns...)
	}
	to := text.NewTable(t.w, t.form, text.Usual(append(columns, statesColumn)))
	if err := to.Head(); err != nil {
		return err
	}
	for _, l := range lines {
		if err := to.Row(l); err != nil {
			return err
		}
	}
	return nil
}

// widestName is how wide a column of names is at most where the width of the terminal is not known,
// and leastName to what a terminal reduces it.
const (
	widestName = 40
	leastName  = text.AddrWidth
)

// nameColumn is as wide as the names.
func nameColumn(i int, title string, lines []groupLine) text.Column[groupLine] {
	longest := 0
	for _, l := range lines {
		if i < len(l.names) {
			longest = max(longest, utf8.RuneCountInString(l.names[i]))
		}
	}
	return text.Column[groupLine]{
		Name: title, Width: min(longest, widestName), Least: min(longest, leastName), Most: longest, Goes: text.Never, Blank: true, Cut: text.Middle,
		Cell: func(b []byte, l groupLine) []byte {
			if i < len(l.names) {
				b = append(b, l.names[i]...)
			}
			return b
		},
	}
}

// The columns beside the names.
var (
	groupColumns = []text.Column[groupLine]{
		{Name: "sockets", Width: 8, Goes: text.Never, Right: true,
			Cell: func(b []byte, l groupLine) []byte { return strconv.AppendUint(b, l.Sockets, 10) }},
		{Name: "oldest", Width: 9, Goes: 2, Right: true,
			Cell: func(b []byte, l groupLine) []byte {
				return text.AppendAge(b, l.Oldest, l.Precision())
			}},
	}
	portColumns = []text.Column[groupLine]{
		{Name: "ports", Width: 11, Goes: text.Never, Right: true,
			Cell: func(b []byte, l groupLine) []byte {
				if l.Ports == nil {
					return b
				}
				return fmt.Appendf(b, "%d/%d", l.Ports.Used, l.Ports.Usable)
			}},
		{Name: "bound", Width: 5, Goes: 1, Right: true,
			Cell: func(b []byte, l groupLine) []byte {
				if l.Ports == nil || !l.Ports.HeldKnown {
					return b
				}
				return strconv.AppendInt(b, int64(l.Ports.Held), 10)
			}},
	}
	statesColumn = text.Column[groupLine]{Name: "states", Width: 24, Least: len("TIME_WAIT 1234"), Goes: text.Never, Cut: text.Items,
		Cell: func(b []byte, l groupLine) []byte { return append(b, strings.Join(l.states(), ", ")...) }}
)

// names are the titles of the columns of names, and the names of each group.
func (t *Table) names() (titles []string, all [][]string) {
	spaces := make(map[uint32]bool)
	for i, k := range t.keys {
		switch k.word {
		case "pid":
			titles = append(titles, "PID", "COMM")
		case "netns":
			titles = append(titles, "NETNS", "NAME")
		case destination:
			for _, g := range t.Groups {
				spaces[g.values[i].netns] = true
			}
			if len(spaces) > 1 {
				titles = append(titles, "NETNS")
			}
			titles = append(titles, "LOCAL", "REMOTE")
		default:
			titles = append(titles, strings.ToUpper(k.word))
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
	return titles, all
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
