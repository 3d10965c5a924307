package meter

import (
	"bufio"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"finwait/internal/audit"
	"finwait/internal/ktime"
	"finwait/internal/text"
	"finwait/tracer"
)

// busiest is how many edges are shown.
const busiest = 12

// Text writes tables for people.
type Text struct {
	w     *bufio.Writer
	form  text.Form
	audit bool // each comparison, not only how many
	brief bool // a line for each group, not for each of its states

	intervals *text.Table[*interval]
	lines     int // of intervals, since their head
}

// NewText writes to w; audit shows each comparison with the kernel, not only how many, and brief
// only one line for each group.
func NewText(w *bufio.Writer, form text.Form, audit, brief bool) *Text {
	return &Text{w: w, form: form, audit: audit, brief: brief}
}

func (t *Text) printf(format string, args ...any) { fmt.Fprintf(t.w, format, args...) }

// sentence writes words after a head. On a terminal it uses as many lines as they need.
func (t *Text) sentence(head, words string) {
	if wide := t.wide(); wide > 0 {
		text.Indent(t.w, head, len(head)+1, wide, words)
		return
	}
	t.printf("%s %s\n", head, words)
}

// wide is how many columns the terminal has; 0: there is none.
func (t *Text) wide() int {
	if t.form.Width == nil {
		return 0
	}
	return t.form.Width()
}

// Report writes the tables of the whole run.
func (t *Text) Report(r *Report) error {
	if t.lines > 0 {
		t.printf("\n")
	}
	if err := t.states(r); err != nil {
		return err
	}
	t.edges(r)
	t.ends(r)
	if err := t.segments(r); err != nil {
		return err
	}
	t.timeWait(r)
	t.lost(r)
	if err := t.audits(r.Audit); err != nil {
		return err
	}
	t.printf("\nhooks: %s\n", r.Hooks)
	return t.w.Flush()
}

// leastGroup is to what a terminal reduces the names of groups.
const leastGroup = 28

// A stateLine is a state of all sockets, or of those of a group.
type stateLine struct {
	state tracer.State
	tracer.StateTotals
	name string
}

var stateColumns = []text.Column[*stateLine]{
	{Name: "STATE", Width: text.StateWidth, Goes: text.Never, Cell: func(b []byte, l *stateLine) []byte { return append(b, l.state.String()...) }},
	stateNumber("LIVE", text.Never, live),
	stateNumber("ENTERED", 6, entered),
	stateNumber("LEFT", 4, left),
	stateQuantile("P50", text.Never, 0.5),
	stateQuantile("P90", 1, 0.9),
	stateQuantile("P99", 2, 0.99),
	stateTime("MAX", 10, 3, func(st *tracer.StateTotals) time.Duration { return st.Durations.Max }),
	stateTime("TOTAL", 11, 5, func(st *tracer.StateTotals) time.Duration { return st.Spent }),
	{Name: groupColumn, Goes: text.Never, Cut: text.Middle, Cell: func(b []byte, l *stateLine) []byte { return append(b, l.name...) }},
}

func stateNumber(title string, goes int, of func(*tracer.StateTotals) int64) text.Column[*stateLine] {
	return text.Column[*stateLine]{Name: title, Width: 9, Least: 7, Goes: goes, Right: true, Cell: func(b []byte, l *stateLine) []byte {
		return strconv.AppendInt(b, of(&l.StateTotals), 10)
	}}
}

func stateQuantile(title string, goes int, q float64) text.Column[*stateLine] {
	return text.Column[*stateLine]{Name: title, Width: 10, Least: 8, Goes: goes, Right: true, Cell: func(b []byte, l *stateLine) []byte {
		return append(b, quantile(&l.StateTotals, q)...)
	}}
}

func stateTime(title string, width, goes int, of func(*tracer.StateTotals) time.Duration) text.Column[*stateLine] {
	return text.Column[*stateLine]{Name: title, Width: width, Least: 9, Goes: goes, Right: true, Cell: func(b []byte, l *stateLine) []byte {
		if l.Durations.Count() == 0 {
			return b
		}
		return text.AppendTime(b, of(&l.StateTotals))
	}}
}

// GoingStates are the columns that a terminal loses which is too narrow for the table of states.
func GoingStates() string { return text.Going(stateColumns) }

func (t *Text) states(r *Report) error {
	of := ""
	if r.Command {
		of = ": the sockets of the command and of what it started"
	}
	t.printf("%.3f s of TCP%s\n\n", r.Span.Seconds(), of)
	by := ""
	if r.By != tracer.SplitNone && !t.brief {
		by = r.ByWord
	}
	columns := named(stateColumns, by)
	if by != "" {
		longest := 0
		for _, g := range r.Groups {
			longest = max(longest, utf8.RuneCountInString(groupName(g)))
		}
		last := &columns[len(columns)-1]
		last.Width, last.Least = longest, min(longest, leastGroup)
	}
	table := text.NewTable(t.w, t.form, text.Usual(columns))
	if err := table.Head(); err != nil {
		return err
	}
	if err := stateLines(table, "all", r.Totals.State); err != nil {
		return err
	}
	if t.brief {
		return t.groups(r)
	}
	group := func(name string, g *tracer.Group) error {
		t.printf("\n")
		if err := stateLines(table, name, g.State); err != nil {
			return err
		}
		t.groupEnds(g)
		return nil
	}
	for _, g := range r.Groups {
		if err := group(groupName(g), g); err != nil {
			return err
		}
	}
	if r.Rest != nil {
		return group(othersName(r), r.Rest)
	}
	return nil
}

// groupEnds says why sockets of a group have ended, and how long one is remembered for how
// long it works.
func (t *Text) groupEnds(g *tracer.Group) {
	if ends := endWords(g); len(ends) > 0 {
		t.sentence("closed:", strings.Join(ends, ", "))
	}
	if useful, held, ok := UsefulHeld(g); ok {
		t.sentence("works", fmt.Sprintf("%s, is remembered %s: 1 : %s", text.Span(useful), text.Span(held), text.Count(uint64(held/useful))))
	}
}

// endWords are the reasons for which sockets of a group have ended, and how often.
func endWords(g *tracer.Group) (words []string) {
	for _, end := range EndsOf(g) {
		words = append(words, fmt.Sprintf("%s %d", cmp.Or(end.Reason.String(), "-"), end.Count))
	}
	return words
}

func othersName(r *Report) string { return fmt.Sprintf("(%d others)", r.Others) }

// stateLines leaves out states that had nothing to do.
func stateLines(table *text.Table[*stateLine], name string, state func(tracer.State) tracer.StateTotals) error {
	for _, s := range LifeOrder() {
		st := state(s)
		if st.Live == 0 && st.Entered == 0 && st.Left == 0 {
			continue
		}
		if err := table.Row(&stateLine{s, st, name}); err != nil {
			return err
		}
	}
	return nil
}

func quantile(st *tracer.StateTotals, q float64) string {
	d, ok := st.Durations.Quantile(q)
	if !ok {
		return "-"
	}
	return text.Rough(d)
}

func groupName(g *tracer.Group) string {
	if g.Name == "" {
		return "-"
	}
	return text.Printable(g.Name)
}

func (t *Text) edges(r *Report) {
	edges := r.Edges()
	if len(edges) == 0 {
		return
	}
	slices.SortStableFunc(edges, func(a, b Edge) int { return cmp.Compare(b.Count, a.Count) })
	t.printf("\n%-26s %9s\n", "TRANSITION", "COUNT")
	for _, e := range edges[:min(len(edges), busiest)] {
		t.printf("%-26s %9d\n", fmt.Sprintf("%v -> %v", e.From, e.To), e.Count)
	}
	if n := len(edges) - busiest; n > 0 {
		t.printf("(%d more kinds)\n", n)
	}
}

func (t *Text) ends(r *Report) {
	ends := r.Totals.Endings()
	if len(ends) == 0 {
		return
	}
	t.printf("\n%-38s %9s\n", "CLOSED FROM, WHY", "COUNT")
	for _, e := range ends {
		t.printf("%-38s %9d\n", strings.TrimSpace(fmt.Sprintf("%v %v %v", e.State, e.Reason, e.Detail)), e.Count)
	}
}

var segmentColumns = []text.Column[*tracer.SegmentCount]{
	{Name: "WITHOUT A TRANSITION", Width: 28, Goes: text.Never, Cell: func(b []byte, s *tracer.SegmentCount) []byte {
		switch s.Kind {
		case tracer.SegmentRSTReceived:
			return append(b, "RST received"...)
		case tracer.SegmentSYNACKAgain:
			return append(b, "SYN-ACK sent again"...)
		}
		return append(append(b, "RST sent "...), s.Reason...)
	}},
	{Name: "LOCAL PORT", Width: 10, Goes: text.Never, Right: true, Cell: func(b []byte, s *tracer.SegmentCount) []byte {
		if s.Remote.Port() != 0 {
			return b
		}
		return strconv.AppendUint(b, uint64(s.Local), 10)
	}},
	{Name: "REMOTE", Width: 27, Least: text.AddrWidth, Most: text.AddrMost, Goes: text.Never, Cut: text.Middle,
		Cell: func(b []byte, s *tracer.SegmentCount) []byte {
			if s.Remote.Port() == 0 {
				return s.Remote.Addr().AppendTo(b)
			}
			return s.Remote.AppendTo(b)
		}},
	{Name: "COUNT", Width: 9, Goes: text.Never, Right: true, Cell: func(b []byte, s *tracer.SegmentCount) []byte {
		return strconv.AppendUint(b, s.Count, 10)
	}},
}

func (t *Text) segments(r *Report) error {
	if !r.Segmented {
		return nil
	}
	t.printf("\n")
	table := text.NewTable(t.w, t.form, text.Usual(segmentColumns))
	if err := table.Head(); err != nil {
		return err
	}
	for i := range r.Segments[:min(len(r.Segments), busiest)] {
		if err := table.Row(&r.Segments[i]); err != nil {
			return err
		}
	}
	if n := len(r.Segments) - busiest; n > 0 {
		t.printf("(%d more)\n", n)
	}
	if r.Uncounted > 0 {
		t.printf("(%d of further ports and peers: there was no room)\n", r.Uncounted)
	}
	return nil
}

func (t *Text) timeWait(r *Report) {
	waits := r.Totals.State(tracer.TimeWait)
	if waits.Entered == 0 && waits.Left == 0 {
		return
	}
	again := fmt.Sprintf("started again %d times", r.Totals.Rearms)
	t.printf("\n")
	if low, high, err := ktime.TimeWaitBand(); err == nil {
		t.sentence("TIME_WAIT:", fmt.Sprintf("undisturbed, %s to %s here (one slot of the kernel's timer wheel, and a jiffy); %s", text.Time(low), text.Time(high), again))
	} else {
		t.sentence("TIME_WAIT:", again)
	}
	const widest = 40
	var most uint64
	for b := range waits.Durations.Buckets() {
		most = max(most, b.Count)
	}
	for b := range waits.Durations.Buckets() {
		t.printf("%10s to %-10s %9d  %s\n", text.Rough(b.Low), text.Rough(b.High), b.Count,
			strings.Repeat("#", int((b.Count*widest+most-1)/most)))
	}
}

func (t *Text) lost(r *Report) {
	n := r.Lost.Total()
	if n == 0 {
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "transitions of the host were lost of %d seen", r.Seen)
	separator := ": "
	for cause, n := range r.Lost.All() {
		if cause != tracer.LossRingFull { // stat has no stream
			fmt.Fprintf(&b, "%s%v %d", separator, cause, n)
			separator = ", "
		}
	}
	separator = "; sockets that were gone: "
	for _, s := range LifeOrder() {
		if n := r.Totals.Gone[s]; n > 0 {
			fmt.Fprintf(&b, "%s%v %d", separator, s, n)
			separator = ", "
		}
	}
	t.printf("\n")
	t.sentence(strconv.FormatUint(n, 10), b.String())
}

// Widths of the columns of the audit, and where the verdict begins.
const (
	netnsWidth   = 10
	counterWidth = 26
	numberWidth  = 9
	verdictAt    = netnsWidth + 1 + counterWidth + 1 + numberWidth + 1 + numberWidth + 2
)

var auditColumns = []text.Column[*audit.Row]{
	{Name: "NETNS", Width: netnsWidth, Goes: text.Never, Cell: func(b []byte, r *audit.Row) []byte { return strconv.AppendUint(b, uint64(r.NetNS), 10) }},
	{Name: "COUNTER", Width: counterWidth, Goes: text.Never, Cell: func(b []byte, r *audit.Row) []byte { return append(b, r.Counter...) }},
	auditNumber("KERNEL", func(r *audit.Row) int64 { return r.Kernel }),
	auditNumber("FINWAIT", func(r *audit.Row) int64 { return r.Finwait }),
	{Name: "VERDICT", Goes: text.Never, Cell: func(b []byte, r *audit.Row) []byte {
		if b = append(b, r.Verdict...); r.Cause != "" {
			b = append(append(b, ": "...), r.Cause...)
		}
		return b
	}},
}

func auditNumber(title string, of func(*audit.Row) int64) text.Column[*audit.Row] {
	return text.Column[*audit.Row]{Name: title, Width: numberWidth, Goes: text.Never, Right: true, Cell: func(b []byte, r *audit.Row) []byte {
		if r.Counter == "" {
			return b
		}
		return strconv.AppendInt(b, of(r), 10)
	}}
}

// audits shows what differs, and with --audit what agrees.
func (t *Text) audits(rows []audit.Row) error {
	if rows == nil {
		return nil
	}
	counts := make(map[audit.Verdict]int)
	spaces := make(map[uint32]bool)
	var shown []audit.Row
	apart := 0
	for _, r := range rows {
		if r.Counter == "" {
			apart++
		} else {
			spaces[r.NetNS] = true
			counts[r.Verdict]++
		}
		if t.audit || r.Verdict == audit.Disagrees {
			shown = append(shown, r)
		}
	}
	t.printf("\n")
	t.sentence("audit:", fmt.Sprintf("%d counters in %d network namespaces: %d agree with the kernel's, %d differ for a known reason, %d disagree",
		len(rows)-apart, len(spaces), counts[audit.Agrees], counts[audit.Explained], counts[audit.Disagrees]))
	if apart > 0 {
		t.sentence("      ", fmt.Sprintf("%d network namespaces could not be compared", apart))
	}
	if len(shown) == 0 {
		return nil
	}
	table := text.NewTable(t.w, t.form, text.Usual(auditColumns))
	wide := t.wide()
	for _, r := range shown {
		below := "" // a cause that has no room in the line
		if wide > 0 && verdictAt+len(r.Verdict)+len(": ")+utf8.RuneCountInString(r.Cause) > wide {
			below, r.Cause = r.Cause, ""
		}
		if err := table.Row(&r); err != nil {
			return err
		}
		if below != "" {
			text.Indent(t.w, "", netnsWidth+1, wide, below)
		}
	}
	return nil
}
