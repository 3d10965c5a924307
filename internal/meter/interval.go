package meter

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"finwait/internal/text"
	"finwait/tracer"
)

// headEvery is after how many intervals their head is repeated.
const headEvery = 20

// A column is one of the lines of intervals.
type column struct {
	title string
	width int // negative: aligned to the left
	goes  int // which one is left out first, second, … where the line does not fit; 0: never
}

var columns = [...]column{
	{"TIME", -12, 0}, {"OPENED", 7, 0}, {"ACCEPTED", 8, 9}, {"FAILED", 6, 0}, {"RESET", 6, 8}, {"ESTAB", 7, 10},
	{"CLOSE_WAIT", 10, 7}, {"FIN_WAIT_1", 10, 1}, {"FIN_WAIT_2", 10, 5}, {"TIME_WAIT", 9, 11},
	{"TW_CAME", 8, 3}, {"TW_WENT", 8, 2}, {"TW_P50", 10, 4}, {"LOST", 6, 0},
}

// The last column is as wide as its reasons, or as what is left of the terminal.
const (
	whyTitle = "WHY_FAILED"
	whyGoes  = 6
	allGo    = 11 // the columns that can be left out
	gap      = "  "
)

// intervals is what Text remembers of the lines of intervals.
type intervals struct {
	width func() int
	lines int
	wide  int // columns of the terminal; 0: any number
	left  int // how many columns are left out
	name  int // columns of the longest name of a group, and at least of a process
}

// fit chooses the columns for a report, and says whether they are others than before.
func (t *intervals) fit(r *Report) (changed bool) {
	wide := 0
	if t.width != nil {
		wide = t.width()
	}
	t.name = max(t.name, text.CommWidth)
	for _, g := range r.Groups {
		t.name = max(t.name, utf8.RuneCountInString(groupName(g)))
	}
	left := 0
	for wide > 0 && left < allGo && t.need(left, r.By != tracer.SplitNone) > wide {
		left++
	}
	changed = left != t.left
	t.wide, t.left = wide, left
	return changed
}

// need is how wide a line is without the columns that go first.
func (t *intervals) need(left int, named bool) (n int) {
	for _, c := range columns {
		if c.goes == 0 || c.goes > left {
			n += max(c.width, -c.width) + 1
		}
	}
	n-- // between two columns only
	if named {
		n += len(gap) + t.name
	}
	if left < whyGoes {
		n += len(gap + whyTitle)
	}
	return n
}

// Interval writes a line, and one for each group.
func (t *Text) Interval(r *Report) error {
	if changed := t.fit(r); changed || t.lines%headEvery == 0 {
		t.lines = 0
		t.head(r.ByWord)
	}
	t.lines++
	var failed uint64
	var why []string
	for _, e := range r.Failures() {
		failed += e.Count
		why = append(why, fmt.Sprintf("%v %d", e.Reason, e.Count))
	}
	t.intervalLine(r, [3]string{fmt.Sprint(failed), fmt.Sprint(r.Resets()), fmt.Sprint(r.Lost.Total())}, "all", why, r.Totals.State)
	notSplit := [3]string{"-", "-", ""} // groups have no ends
	for _, g := range r.Groups {
		if g.Moves() > 0 {
			t.intervalLine(r, notSplit, groupName(g), nil, g.State)
		}
	}
	if r.Rest != nil && r.Rest.Moves() > 0 {
		t.intervalLine(r, notSplit, "(others)", nil, r.Rest.State)
	}
	return t.w.Flush()
}

func (t *Text) head(by string) {
	var titles [len(columns)]any
	for i, c := range columns {
		titles[i] = c.title
	}
	line := t.cells(titles)
	why := t.left < whyGoes
	switch {
	case by != "" && why:
		line += fmt.Sprintf("%s%-*s", gap, text.CommWidth, strings.ToUpper(by))
	case by != "":
		line += gap + strings.ToUpper(by)
	}
	if why {
		line += gap + whyTitle
	}
	t.printf("%s\n", line)
}

func (t *Text) intervalLine(r *Report, failedResetLost [3]string, name string, why []string, state func(tracer.State) tracer.StateTotals) {
	waits := state(tracer.TimeWait)
	line := t.cells([len(columns)]any{
		r.At.Format("15:04:05.000"), state(tracer.SynSent).Entered, state(tracer.SynRecv).Entered, failedResetLost[0], failedResetLost[1],
		state(tracer.Established).Live, state(tracer.CloseWait).Live, state(tracer.FinWait1).Live, state(tracer.FinWait2).Live,
		waits.Live, waits.Entered, waits.Left, quantile(&waits, 0.5), failedResetLost[2],
	})
	if t.left >= whyGoes {
		why = nil
	}
	switch {
	case r.By != tracer.SplitNone && len(why) > 0:
		line += fmt.Sprintf("%s%-*s", gap, text.CommWidth, name)
	case r.By != tracer.SplitNone:
		line += gap + name
	}
	if len(why) > 0 {
		line += gap + text.Fit(why, t.wide-utf8.RuneCountInString(line+gap), t.wide > 0)
	}
	t.printf("%s\n", line)
}

// cells are the columns that are not left out.
func (t *Text) cells(values [len(columns)]any) string {
	var b strings.Builder
	for i, c := range columns {
		if c.goes != 0 && c.goes <= t.left {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%*v", c.width, values[i])
	}
	return b.String()
}
