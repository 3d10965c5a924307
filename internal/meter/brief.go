package meter

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"finwait/internal/text"
	"finwait/tracer"
)

// A groupLine is a group, and what it is called.
type groupLine struct {
	name string
	*tracer.Group
}

var groupColumns = []text.Column[*groupLine]{
	{Name: groupColumn, Goes: text.Never, Cut: text.Middle, Cell: func(b []byte, l *groupLine) []byte { return append(b, l.name...) }},
	groupNumber("LIVE", text.Never, func(g *tracer.Group) int64 { return g.Live() }),
	groupNumber("OPENED", text.Never, func(g *tracer.Group) int64 { return int64(g.State(tracer.SynSent).Entered) }),
	groupNumber("ACCEPTED", 2, func(g *tracer.Group) int64 { return int64(g.State(tracer.SynRecv).Entered) }),
	groupNumber("CLOSED", text.Never, func(g *tracer.Group) (n int64) {
		for _, end := range EndsOf(g) {
			n += int64(end.Count)
		}
		return n
	}),
	groupQuantile("EST_P50", 1, tracer.Established),
	groupQuantile("TW_P50", 3, tracer.TimeWait),
	{Name: "WHY_CLOSED", Width: 30, Least: 18, Goes: text.Never, Cut: text.Items, Blank: true, Cell: func(b []byte, l *groupLine) []byte {
		return append(b, strings.Join(endWords(l.Group), ", ")...)
	}},
}

func groupNumber(title string, goes int, of func(*tracer.Group) int64) text.Column[*groupLine] {
	return text.Column[*groupLine]{Name: title, Width: 8, Least: 6, Goes: goes, Right: true, Cell: func(b []byte, l *groupLine) []byte {
		return strconv.AppendInt(b, of(l.Group), 10)
	}}
}

func groupQuantile(title string, goes int, s tracer.State) text.Column[*groupLine] {
	return text.Column[*groupLine]{Name: title, Width: 8, Least: 7, Goes: goes, Right: true, Cell: func(b []byte, l *groupLine) []byte {
		st := l.State(s)
		return append(b, quantile(&st, 0.5)...)
	}}
}

// GoingGroups are the columns that a terminal loses which is too narrow for a line a group.
func GoingGroups() string { return text.Going(groupColumns) }

// groups writes a line for each group, the busiest first, and one for the sum of the others.
func (t *Text) groups(r *Report) error {
	var lines []*groupLine
	for _, g := range r.Groups {
		lines = append(lines, &groupLine{groupName(g), g})
	}
	if r.Rest != nil {
		lines = append(lines, &groupLine{othersName(r), r.Rest})
	}
	longest := 0
	for _, l := range lines {
		longest = max(longest, utf8.RuneCountInString(l.name))
	}
	columns := named(groupColumns, r.ByWord)
	columns[0].Width, columns[0].Least = longest, min(longest, leastGroup)
	t.printf("\n")
	table := text.NewTable(t.w, t.form, text.Usual(columns))
	if err := table.Head(); err != nil {
		return err
	}
	for _, l := range lines {
		if err := table.Row(l); err != nil {
			return err
		}
	}
	return nil
}
