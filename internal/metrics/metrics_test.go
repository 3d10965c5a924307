package metrics

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"log"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"finwait/internal/audit"
	"finwait/internal/doctor"
	"finwait/internal/histogram"
	"finwait/internal/meter"
	"finwait/tracer"

	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
)

var started = time.Date(2026, 11, 27, 13, 0, 0, 0, time.UTC)

// everything is a reading in which each vocabulary has all its words, and each label all its values.
func everything(limit int) *Options {
	totals := new(tracer.Totals)
	for _, from := range tracer.States() {
		for _, to := range tracer.States() {
			if from != to && from != tracer.NewSynRecv && to != tracer.NewSynRecv {
				totals.Edges[from][to] = 3
			}
		}
		if from != tracer.Closed && from != tracer.NewSynRecv {
			totals.Live[from] = 5
			for _, reason := range tracer.Reasons()[1:] {
				totals.Ends[from][reason] = 2
			}
			totals.Durations[from].Add(61 * time.Second)
		}
	}
	report := &meter.Report{At: started.Add(time.Second), Span: time.Second, Totals: totals, Hooks: tracer.HooksTracepoint,
		Lost: tracer.Lost{MapFull: 7}}
	for i := range limit + 5 {
		g := &tracer.Group{States: make(map[tracer.State]*tracer.StateTotals), Ends: make(map[tracer.Reason]uint64)}
		if i > 0 {
			g.Name = fmt.Sprint("evil \xff\n\"\\", i)
		}
		for _, s := range meter.LifeOrder() {
			g.States[s] = &tracer.StateTotals{Live: 1, Entered: 4, Left: 3}
		}
		for _, reason := range tracer.Reasons() {
			g.Ends[reason] = 1
		}
		report.Groups = append(report.Groups, g)
	}
	var findings []Findings
	for _, r := range doctor.Rules() {
		for _, severity := range []string{"risk", "note"} {
			findings = append(findings, Findings{r.ID, severity, 1})
		}
	}
	var programs []tracer.ProgramStats
	for i := range nPrograms {
		programs = append(programs, tracer.ProgramStats{Name: fmt.Sprint("p", i), Attached: true, Runs: 1, RunTime: 1})
	}
	var maps []tracer.MapFill
	for i := range nMaps {
		maps = append(maps, tracer.MapFill{Name: fmt.Sprint("m", i), Capacity: 9})
	}
	return &Options{
		By: "comm", Limit: limit, Refresh: true, Rules: len(doctor.Rules()), Version: "v1",
		Read: func() (*Reading, error) {
			groups := meter.NewPlaces(limit, started)
			groups.Add(report)
			return &Reading{Started: started, Whole: report, Groups: groups, Programs: programs}, nil
		},
		Refreshed: func() *Refreshed {
			return &Refreshed{At: started, Findings: findings, PortsKnown: true, PortsUsed: 3, PortsUsable: 4,
				Audit: map[string]int{string(audit.Agrees): 1, string(audit.Explained): 2, string(audit.Disagrees): 3}, Maps: maps}
		},
	}
}

func gather(t *testing.T, o *Options) map[string]*dto.MetricFamily {
	t.Helper()
	all, err := newRegistry(o).Gather()
	if err != nil {
		t.Fatal(err)
	}
	byName := make(map[string]*dto.MetricFamily)
	for _, f := range all {
		byName[f.GetName()] = f
	}
	return byName
}

func TestLint(t *testing.T) {
	problems, err := testutil.GatherAndLint(newRegistry(everything(3)))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// The estimate is what a reading has that has everything.
func TestEstimate(t *testing.T) {
	o := everything(3)
	got := gather(t, o)
	sum := 0
	for _, f := range families(o) {
		n := f.most(o) * f.perValue()
		if u := f.usual(o) * f.perValue(); u > n {
			t.Errorf("%s: usually %d series, and at most %d", f.name, u, n)
		}
		if series := seriesOf(got[f.name]); series != n {
			t.Errorf("%s: %d series, want %d", f.name, series, n)
		}
		sum += n
	}
	if most := Most(o); most < sum || most > sum+processSeries {
		t.Errorf("%d series of all, want %d and those of the process", most, sum)
	}
	for name, f := range got {
		if strings.HasPrefix(name, "process_") {
			sum += seriesOf(f)
		}
	}
	if sum != Most(o) {
		t.Errorf("%d series, want %d", sum, Most(o))
	}
	var b bytes.Buffer
	if err := Estimate(&b, o); err != nil || !strings.Contains(b.String(), fmt.Sprint(Most(o))) {
		t.Errorf("%v: %s", err, &b)
	}
}

// seriesOf is how many series Prometheus makes of a family.
func seriesOf(f *dto.MetricFamily) (n int) {
	for _, m := range f.GetMetric() {
		switch {
		case m.Histogram != nil && m.Histogram.Schema != nil:
			n++
		case m.Histogram != nil:
			n += len(m.Histogram.Bucket) + 3
		case m.Summary != nil:
			n += 2
		default:
			n++
		}
	}
	return n
}

// The edges of classic buckets are edges of the kernel side's, and those of TIME_WAIT's are all that
// there are where a TIME_WAIT ends.
func TestBounds(t *testing.T) {
	edges := make(map[uint64]bool)
	for i := range histogram.Buckets {
		low, _ := histogram.Bounds(i)
		edges[low] = true
	}
	for _, bounds := range [][]uint64{timeWaitBounds, stateBounds} {
		if !slices.IsSorted(bounds) {
			t.Errorf("not in order: %v", bounds)
		}
		for _, b := range bounds {
			if !edges[b] {
				t.Errorf("%d ns is no edge", b)
			}
		}
	}
	for edge := range edges {
		if edge >= uint64(55*time.Second) && edge <= uint64(68700*time.Millisecond) && !slices.Contains(timeWaitBounds, edge) {
			t.Errorf("%d ns is missing", edge)
		}
	}
	for _, want := range []uint64{60129542144, 61203283968, 62277025792, 63350767616, 64424509440} {
		if !slices.Contains(timeWaitBounds, want) {
			t.Errorf("%d ns is missing", want)
		}
	}
}

// Buckets of a classic histogram count exactly, and a quantile of the native one is off by no more
// than its help says.
func TestDurations(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var d tracer.Durations
	var all []time.Duration
	for range 20000 {
		v := time.Duration(math.Exp2(10 + 38*random.Float64())) // 1 us to 3 days
		all = append(all, v)
		d.Add(v)
	}
	slices.Sort(all)
	for bound, n := range cumulate(&d, stateBounds) {
		want, _ := slices.BinarySearchFunc(all, bound, func(v time.Duration, bound float64) int { return cmp.Compare(v.Seconds(), bound) })
		if n != uint64(want) {
			t.Errorf("%d are shorter than %v s, want %d", n, bound, want)
		}
	}
	zero, buckets := rebin(&d)
	if zero != 0 {
		t.Errorf("%d are in the zero bucket", zero)
	}
	var seen int64
	for i, v := range all {
		if int64(i) >= seen {
			first := slices.Min(keys(buckets))
			seen += buckets[first]
			delete(buckets, first)
			low, high := math.Exp2(float64(first-1)/8), math.Exp2(float64(first)/8)
			// A bucket of the kernel side reaches 1/17 below its middle, and above it.
			if s := v.Seconds(); s < low*(1-1./16.9) || s > high*(1+1./16.9) {
				t.Errorf("the shortest in the bucket from %v to %v s is %v", low, high, v)
			}
		}
	}
	if len(buckets) != 0 || seen != int64(len(all)) {
		t.Errorf("%d of %d were found, %v is left", seen, len(all), buckets)
	}
}

func keys(m map[int]int64) (all []int) {
	for k := range m {
		all = append(all, k)
	}
	return all
}

// Counters, histograms and summaries say when they began, so that the first event is a rate, too.
func TestCreated(t *testing.T) {
	for name, f := range gather(t, everything(3)) {
		if strings.HasPrefix(name, "process_") {
			continue
		}
		for _, m := range f.Metric {
			switch {
			case m.Counter != nil && !m.Counter.CreatedTimestamp.AsTime().Equal(started),
				m.Histogram != nil && !m.Histogram.CreatedTimestamp.AsTime().Equal(started),
				m.Summary != nil && !m.Summary.CreatedTimestamp.AsTime().Equal(started):
				t.Errorf("%s begins at another time: %v", name, m)
			}
		}
	}
}

// What is not known has no series: before the first refresh, and where a kernel does not measure it.
func TestUnknown(t *testing.T) {
	o := everything(3)
	o.Refreshed = func() *Refreshed { return nil }
	read := o.Read
	o.Read = func() (*Reading, error) {
		r, err := read()
		r.Programs = []tracer.ProgramStats{{Name: "set_state", Attached: true}, {Name: "kfree_skb"}}
		return r, err
	}
	got := gather(t, o)
	for _, f := range refreshedFamilies() {
		if got[f.name] != nil {
			t.Errorf("%s is known before the first refresh", f.name)
		}
	}
	if got["finwait_program_runs_total"] != nil || got["finwait_program_run_seconds_total"] != nil {
		t.Error("runs that the kernel does not count are shown")
	}
	if n := len(got["finwait_program_skipped_total"].Metric); n != 1 {
		t.Errorf("%d programs were skipped 0 times, want that which is attached", n)
	}
}

// States are spelled as OpenTelemetry does, and names of processes are escaped.
func TestWords(t *testing.T) {
	var b strings.Builder
	for _, f := range gather(t, everything(3)) {
		for _, m := range f.Metric {
			for _, l := range m.Label {
				fmt.Fprintf(&b, "%s=%s\n", l.GetName(), l.GetValue())
			}
		}
	}
	for _, want := range []string{"state=syn_received\n", "state=time_wait\n", "state=fin_wait_1\n", "from=closed\n", "comm=other\n", "comm=\n", `comm=evil \xff\n"\1` + "\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no label %q", want)
		}
	}
	if strings.Contains(b.String(), "syn_recv\n") {
		t.Error("a label syn_recv")
	}
}

// A scrape that cannot be read fails: it does not show what is left.
func TestReadFails(t *testing.T) {
	o := everything(3)
	o.Read = func() (*Reading, error) { return nil, errors.New("the tracer is closed") }
	var said bytes.Buffer
	w := httptest.NewRecorder()
	Handler(o, log.New(&said, "", 0)).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "the tracer is closed") || strings.Contains(w.Body.String(), "finwait_connections{") {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
}
