package main

import (
	"bufio"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"finwait/internal/audit"
	"finwait/internal/ktime"
	"finwait/tracer"
)

// Of the edges, the busiest are shown; intervals repeat their head now and then.
const (
	busiest   = 12
	headEvery = 20
)

// A statText writes tables for people.
type statText struct {
	w     *bufio.Writer
	audit bool // each comparison, not only how many
	lines int
}

func (t *statText) printf(format string, args ...any) { fmt.Fprintf(t.w, format, args...) }

// interval is a line, and one for each group.
func (t *statText) interval(r *statReport) error {
	if t.lines%headEvery == 0 {
		t.printf("%-12s %7s %8s %7s %10s %10s %10s %9s %8s %8s %10s %6s", "TIME", "OPENED", "ACCEPTED", "ESTAB",
			"CLOSE_WAIT", "FIN_WAIT_1", "FIN_WAIT_2", "TIME_WAIT", "TW_CAME", "TW_WENT", "TW_P50", "LOST")
		if r.by != tracer.SplitNone {
			t.printf("  %s", strings.ToUpper(r.by.String()))
		}
		t.printf("\n")
	}
	t.lines++
	lost := fmt.Sprint(r.lost.Total())
	t.intervalLine(r, lost, "all", r.totals.State)
	for _, g := range r.groups {
		if g.Moves() > 0 {
			t.intervalLine(r, "", groupName(g), g.State)
		}
	}
	if r.rest != nil && r.rest.Moves() > 0 {
		t.intervalLine(r, "", "(others)", r.rest.State)
	}
	return t.w.Flush()
}

func (t *statText) intervalLine(r *statReport, lost, name string, state func(tracer.State) tracer.StateTotals) {
	waits := state(tracer.TimeWait)
	t.printf("%-12s %7d %8d %7d %10d %10d %10d %9d %8d %8d %10s %6s", r.end.Format("15:04:05.000"),
		state(tracer.SynSent).Entered, state(tracer.SynRecv).Entered, state(tracer.Established).Live,
		state(tracer.CloseWait).Live, state(tracer.FinWait1).Live, state(tracer.FinWait2).Live,
		waits.Live, waits.Entered, waits.Left, quantile(&waits, 0.5), lost)
	if r.by != tracer.SplitNone {
		t.printf("  %s", name)
	}
	t.printf("\n")
}

func (t *statText) report(r *statReport) error {
	if t.lines == 0 {
		t.states(r)
		t.edges(r)
		t.ends(r)
		t.timeWait(r)
		t.lost(r)
	}
	t.audits(r.audit)
	t.printf("\nhooks: %s\n", r.hooks)
	return t.w.Flush()
}

func (t *statText) states(r *statReport) {
	t.printf("%.3f s of TCP\n\n", r.span.Seconds())
	group := ""
	if r.by != tracer.SplitNone {
		group = "  " + strings.ToUpper(r.by.String())
	}
	t.printf("%-11s %9s %9s %9s %10s %10s %10s %10s %11s%s\n", "STATE", "LIVE", "ENTERED", "LEFT", "P50", "P90", "P99", "MAX", "TOTAL", group)
	t.stateLines("all", r.by, r.totals.State)
	for _, g := range r.groups {
		t.printf("\n")
		t.stateLines(groupName(g), r.by, g.State)
	}
	if r.rest != nil {
		t.printf("\n")
		t.stateLines(fmt.Sprintf("(%d others)", r.others), r.by, r.rest.State)
	}
}

// stateLines leaves out states that had nothing to do.
func (t *statText) stateLines(name string, by tracer.Split, state func(tracer.State) tracer.StateTotals) {
	for _, s := range lifeOrder {
		st := state(s)
		if st.Live == 0 && st.Entered == 0 && st.Left == 0 {
			continue
		}
		total, longest := "-", "-"
		if st.Durations.Count() > 0 {
			total = string(appendTime(nil, st.Durations.Total))
			longest = string(appendTime(nil, st.Durations.Max))
		}
		t.printf("%-11s %9d %9d %9d %10s %10s %10s %10s %11s", s, st.Live, st.Entered, st.Left,
			quantile(&st, 0.5), quantile(&st, 0.9), quantile(&st, 0.99), longest, total)
		if by != tracer.SplitNone {
			t.printf("  %s", name)
		}
		t.printf("\n")
	}
}

// lifeOrder is the order in which a connection passes through the states.
var lifeOrder = []tracer.State{
	tracer.Listen, tracer.SynSent, tracer.SynRecv, tracer.Established, tracer.FinWait1, tracer.FinWait2,
	tracer.Closing, tracer.TimeWait, tracer.CloseWait, tracer.LastAck,
}

func quantile(st *tracer.StateTotals, q float64) string {
	d, ok := st.Durations.Quantile(q)
	if !ok {
		return "-"
	}
	return roughly(d)
}

// roughly gives no more decimals than a histogram's bucket is good for.
func roughly(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return strconv.FormatFloat(float64(d)/float64(time.Microsecond), 'f', 1, 64) + "us"
	case d < time.Second:
		return strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', 1, 64) + "ms"
	}
	return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + "s"
}

func groupName(g *tracer.Group) string {
	if g.Name == "" {
		return "-"
	}
	return string(appendPrintable(nil, g.Name))
}

func (t *statText) edges(r *statReport) {
	edges := r.edges()
	if len(edges) == 0 {
		return
	}
	slices.SortStableFunc(edges, func(a, b edge) int { return cmp.Compare(b.count, a.count) })
	t.printf("\n%-26s %9s\n", "TRANSITION", "COUNT")
	for _, e := range edges[:min(len(edges), busiest)] {
		t.printf("%-26s %9d\n", fmt.Sprintf("%v -> %v", e.from, e.to), e.count)
	}
	if n := len(edges) - busiest; n > 0 {
		t.printf("(%d more kinds)\n", n)
	}
}

func (t *statText) ends(r *statReport) {
	ends := r.ends()
	if len(ends) == 0 {
		return
	}
	t.printf("\n%-26s %9s\n", "CLOSED FROM, WHY", "COUNT")
	for _, e := range ends {
		t.printf("%-26s %9d\n", strings.TrimSpace(fmt.Sprintf("%v %v", e.from, e.reason)), e.count)
	}
}

func (t *statText) timeWait(r *statReport) {
	waits := r.totals.State(tracer.TimeWait)
	if waits.Entered == 0 && waits.Left == 0 {
		return
	}
	t.printf("\nTIME_WAIT")
	if low, high, err := timeWaitBand(); err == nil {
		t.printf(": undisturbed, %s to %s here (one slot of the kernel's timer wheel)", appendTime(nil, low), appendTime(nil, high))
	}
	t.printf("; started again %d times\n", r.totals.Rearms)
	const widest = 40
	var most uint64
	for b := range waits.Durations.Buckets() {
		most = max(most, b.Count)
	}
	for b := range waits.Durations.Buckets() {
		t.printf("%10s to %-10s %9d  %s\n", roughly(b.Low), roughly(b.High), b.Count,
			strings.Repeat("#", int((b.Count*widest+most-1)/most)))
	}
}

func (t *statText) lost(r *statReport) {
	if n := r.lost.Total(); n > 0 {
		t.printf("\n%d transitions were lost", n)
		separator := ": "
		for cause, n := range r.lost.All() {
			if cause != tracer.LossRingFull { // stat has no stream
				t.printf("%s%v %d", separator, cause, n)
				separator = ", "
			}
		}
		t.printf("\n")
	}
}

// audits shows what differs, and with --audit what agrees.
func (t *statText) audits(rows []audit.Row) {
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

// timeWaitBand is how long a TIME_WAIT lasts that nothing disturbs.
func timeWaitBand() (low, high time.Duration, err error) {
	hz, err := ktime.HZ()
	if err != nil {
		return 0, 0, err
	}
	return ktime.TimeWaitLen, ktime.TimeWaitLen + ktime.Slot(ktime.TimeWaitLen, hz), nil
}

// An edge is a transition with how often it was made; an end, why.
type edge struct {
	from, to tracer.State
	reason   tracer.Reason
	count    uint64
}

func (r *statReport) edges() (all []edge) {
	for _, from := range tracer.States() {
		for _, to := range tracer.States() {
			if n := r.totals.Edges[from][to]; n > 0 {
				all = append(all, edge{from: from, to: to, count: n})
			}
		}
	}
	return all
}

func (r *statReport) ends() (all []edge) {
	for _, from := range tracer.States() {
		for reason, n := range r.totals.Ends[from] {
			if n > 0 {
				all = append(all, edge{from: from, to: tracer.Closed, reason: tracer.Reason(reason), count: n})
			}
		}
	}
	return all
}
