package meter

import (
	"bufio"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

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
	audit bool // each comparison, not only how many
	intervals
}

// NewText writes to w; audit shows each comparison with the kernel, not only how many.
// The lines of intervals fit into as many columns as width says that there are now; it is
// nil, or says 0, where lines may be as long as they like.
func NewText(w *bufio.Writer, audit bool, width func() int) *Text {
	return &Text{w: w, audit: audit, intervals: intervals{width: width}}
}

func (t *Text) printf(format string, args ...any) { fmt.Fprintf(t.w, format, args...) }

// Report writes the tables of the whole run.
func (t *Text) Report(r *Report) error {
	if t.lines > 0 {
		t.printf("\n")
	}
	t.states(r)
	t.edges(r)
	t.ends(r)
	t.segments(r)
	t.timeWait(r)
	t.lost(r)
	t.audits(r.Audit)
	t.printf("\nhooks: %s\n", r.Hooks)
	return t.w.Flush()
}

func (t *Text) states(r *Report) {
	of := ""
	if r.Command {
		of = ": the sockets of the command and of what it started"
	}
	t.printf("%.3f s of TCP%s\n\n", r.Span.Seconds(), of)
	group := ""
	if r.By != tracer.SplitNone {
		group = "  " + strings.ToUpper(r.ByWord)
	}
	t.printf("%-11s %9s %9s %9s %10s %10s %10s %10s %11s%s\n", "STATE", "LIVE", "ENTERED", "LEFT", "P50", "P90", "P99", "MAX", "TOTAL", group)
	t.stateLines("all", r.By, r.Totals.State)
	for _, g := range r.Groups {
		t.printf("\n")
		t.stateLines(groupName(g), r.By, g.State)
		t.groupEnds(g)
	}
	if r.Rest != nil {
		t.printf("\n")
		t.stateLines(fmt.Sprintf("(%d others)", r.Others), r.By, r.Rest.State)
		t.groupEnds(r.Rest)
	}
}

// groupEnds says why sockets of a group have ended, and how long one is remembered for how
// long it works.
func (t *Text) groupEnds(g *tracer.Group) {
	line := ""
	for i, end := range EndsOf(g) {
		if i > 0 {
			line += ", "
		}
		line += fmt.Sprintf("%v %d", end.Reason, end.Count)
	}
	if line != "" {
		t.printf("closed: %s\n", line)
	}
	if useful, held, ok := UsefulHeld(g); ok {
		t.printf("works %s, is remembered %s: 1 : %s\n", text.Span(useful), text.Span(held), text.Count(uint64(held/useful)))
	}
}

// stateLines leaves out states that had nothing to do.
func (t *Text) stateLines(name string, by tracer.Split, state func(tracer.State) tracer.StateTotals) {
	for _, s := range LifeOrder() {
		st := state(s)
		if st.Live == 0 && st.Entered == 0 && st.Left == 0 {
			continue
		}
		total, longest := "-", "-"
		if st.Durations.Count() > 0 {
			total = text.Time(st.Durations.Total)
			longest = text.Time(st.Durations.Max)
		}
		t.printf("%-11s %9d %9d %9d %10s %10s %10s %10s %11s", s, st.Live, st.Entered, st.Left,
			quantile(&st, 0.5), quantile(&st, 0.9), quantile(&st, 0.99), longest, total)
		if by != tracer.SplitNone {
			t.printf("  %s", name)
		}
		t.printf("\n")
	}
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

func (t *Text) segments(r *Report) {
	if !r.Segmented {
		return
	}
	t.printf("\n%-28s %10s  %-27s %9s\n", "WITHOUT A TRANSITION", "LOCAL PORT", "REMOTE", "COUNT")
	for _, s := range r.Segments[:min(len(r.Segments), busiest)] {
		what := "RST sent " + s.Reason
		switch s.Kind {
		case tracer.SegmentRSTReceived:
			what = "RST received"
		case tracer.SegmentSYNACKAgain:
			what = "SYN-ACK sent again"
		}
		local, remote := "-", s.Remote.String()
		if s.Remote.Port() == 0 {
			local, remote = strconv.Itoa(int(s.Local)), s.Remote.Addr().String()
		}
		t.printf("%-28s %10s  %-27s %9d\n", what, local, remote, s.Count)
	}
	if n := len(r.Segments) - busiest; n > 0 {
		t.printf("(%d more)\n", n)
	}
	if r.Uncounted > 0 {
		t.printf("(%d of further ports and peers: there was no room)\n", r.Uncounted)
	}
}

func (t *Text) timeWait(r *Report) {
	waits := r.Totals.State(tracer.TimeWait)
	if waits.Entered == 0 && waits.Left == 0 {
		return
	}
	t.printf("\nTIME_WAIT")
	if low, high, err := ktime.TimeWaitBand(); err == nil {
		t.printf(": undisturbed, %s to %s here (one slot of the kernel's timer wheel, and a jiffy)", text.Time(low), text.Time(high))
	}
	t.printf("; started again %d times\n", r.Totals.Rearms)
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
	if n := r.Lost.Total(); n > 0 {
		t.printf("\n%d transitions of the host were lost of %d seen", n, r.Seen)
		separator := ": "
		for cause, n := range r.Lost.All() {
			if cause != tracer.LossRingFull { // stat has no stream
				t.printf("%s%v %d", separator, cause, n)
				separator = ", "
			}
		}
		separator = "; sockets that were gone: "
		for _, s := range LifeOrder() {
			if n := r.Totals.Gone[s]; n > 0 {
				t.printf("%s%v %d", separator, s, n)
				separator = ", "
			}
		}
		t.printf("\n")
	}
}

// audits shows what differs, and with --audit what agrees.
func (t *Text) audits(rows []audit.Row) {
	if rows == nil {
		return
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
	t.printf("\naudit: %d counters in %d network namespaces: %d agree with the kernel's, %d differ for a known reason, %d disagree\n",
		len(rows)-apart, len(spaces), counts[audit.Agrees], counts[audit.Explained], counts[audit.Disagrees])
	if apart > 0 {
		t.printf("       %d network namespaces could not be compared\n", apart)
	}
	if len(shown) == 0 {
		return
	}
	t.printf("%-10s %-26s %9s %9s  %s\n", "NETNS", "COUNTER", "KERNEL", "FINWAIT", "VERDICT")
	for _, r := range shown {
		verdict := string(r.Verdict)
		if r.Cause != "" {
			verdict += ": " + r.Cause
		}
		if r.Counter == "" {
			t.printf("%-10d %-26s %9s %9s  %s\n", r.NetNS, "-", "-", "-", verdict)
			continue
		}
		t.printf("%-10d %-26s %9d %9d  %s\n", r.NetNS, r.Counter, r.Kernel, r.Finwait, verdict)
	}
}
