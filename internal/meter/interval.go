package meter

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"finwait/internal/text"
	"finwait/tracer"
)

// headEvery is after how many intervals their head is repeated.
const headEvery = 20

// An interval is what a line has: of all, or of a group.
type interval struct {
	at                   time.Time
	name                 string
	failed, resets, lost string
	state                func(tracer.State) tracer.StateTotals
	why                  []string
}

// intervalColumns are those of the lines of intervals; the name of the group is only there if there
// are groups.
var intervalColumns = []text.Column[*interval]{
	{Name: "TIME", Width: 12, Goes: text.Never, Cell: func(b []byte, l *interval) []byte { return l.at.AppendFormat(b, "15:04:05.000") }},
	intervalNumber("OPENED", 7, text.Never, tracer.SynSent, entered),
	intervalNumber("ACCEPTED", 8, 9, tracer.SynRecv, entered),
	intervalWord("FAILED", text.Never, func(l *interval) string { return l.failed }),
	intervalWord("RESET", 8, func(l *interval) string { return l.resets }),
	intervalNumber("ESTAB", 7, 10, tracer.Established, live),
	intervalNumber("CLOSE_WAIT", 10, 7, tracer.CloseWait, live),
	intervalNumber("FIN_WAIT_1", 10, 1, tracer.FinWait1, live),
	intervalNumber("FIN_WAIT_2", 10, 5, tracer.FinWait2, live),
	intervalNumber("TIME_WAIT", 9, 11, tracer.TimeWait, live),
	intervalNumber("TW_CAME", 8, 3, tracer.TimeWait, entered),
	intervalNumber("TW_WENT", 8, 2, tracer.TimeWait, left),
	{Name: "TW_P50", Width: 10, Goes: 4, Right: true, Cell: func(b []byte, l *interval) []byte {
		st := l.state(tracer.TimeWait)
		return append(b, quantile(&st, 0.5)...)
	}},
	intervalWord("LOST", text.Never, func(l *interval) string { return l.lost }),
	{Name: groupColumn, Width: text.CommWidth, Goes: text.Never, Cut: text.Middle, Cell: func(b []byte, l *interval) []byte { return append(b, l.name...) }},
	{Name: "WHY_FAILED", Goes: 6, Cut: text.Items, Blank: true, Cell: func(b []byte, l *interval) []byte {
		return append(b, strings.Join(l.why, ", ")...)
	}},
}

// groupColumn is the place of the column that is called by what the groups are.
const groupColumn = "group"

func entered(st *tracer.StateTotals) int64 { return int64(st.Entered) }
func left(st *tracer.StateTotals) int64    { return int64(st.Left) }
func live(st *tracer.StateTotals) int64    { return st.Live }

func intervalNumber(title string, width, goes int, s tracer.State, of func(*tracer.StateTotals) int64) text.Column[*interval] {
	return text.Column[*interval]{Name: title, Width: width, Goes: goes, Right: true, Cell: func(b []byte, l *interval) []byte {
		st := l.state(s)
		return strconv.AppendInt(b, of(&st), 10)
	}}
}

func intervalWord(title string, goes int, of func(*interval) string) text.Column[*interval] {
	return text.Column[*interval]{Name: title, Width: 6, Goes: goes, Right: true, Blank: true, Cell: func(b []byte, l *interval) []byte {
		return append(b, of(l)...)
	}}
}

// GoingIntervals are the columns that a terminal loses which is too narrow for lines of intervals.
func GoingIntervals() string { return text.Going(intervalColumns) }

// named are columns with that of the groups' names called by what the groups are; with "", without.
func named[R any](columns []text.Column[R], by string) (all []text.Column[R]) {
	for _, c := range columns {
		if c.Name == groupColumn {
			if by == "" {
				continue
			}
			c.Name = by
		}
		all = append(all, c)
	}
	return all
}

// Interval writes a line, and one for each group.
func (t *Text) Interval(r *Report) error {
	by := ""
	if r.By != tracer.SplitNone {
		by = cmp.Or(r.ByWord, groupColumn)
	}
	if t.intervals == nil {
		t.intervals = text.NewTable(t.w, t.form, text.Usual(named(intervalColumns, by)))
	}
	for _, g := range r.Groups {
		t.intervals.Widen(by, utf8.RuneCountInString(groupName(g)))
	}
	if changed := t.intervals.Fit(); changed || t.lines%headEvery == 0 {
		t.lines = 0
		if err := t.intervals.Head(); err != nil {
			return err
		}
	}
	t.lines++
	var failed uint64
	var why []string
	for _, e := range r.Failures() {
		failed += e.Count
		why = append(why, fmt.Sprintf("%v %d", e.Reason, e.Count))
	}
	lines := []*interval{{r.At, "all", fmt.Sprint(failed), fmt.Sprint(r.Resets()), fmt.Sprint(r.Lost.Total()), r.Totals.State, why}}
	const unknown = "-" // groups have no failures
	for _, g := range r.Groups {
		if g.Moves() > 0 {
			lines = append(lines, &interval{r.At, groupName(g), unknown, unknown, "", g.State, nil})
		}
	}
	if r.Rest != nil && r.Rest.Moves() > 0 {
		lines = append(lines, &interval{r.At, "(others)", unknown, unknown, "", r.Rest.State, nil})
	}
	for _, l := range lines {
		if err := t.intervals.Row(l); err != nil {
			return err
		}
	}
	return t.w.Flush()
}
