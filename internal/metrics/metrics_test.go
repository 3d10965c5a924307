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

	"finwait/internal/families"
	"finwait/internal/test/sample"
	"finwait/tracer"

	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
)

func gather(t *testing.T, o *families.Options) map[string]*dto.MetricFamily {
	t.Helper()
	all, err := newRegistry(families.New(o)).Gather()
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
	problems, err := testutil.GatherAndLint(newRegistry(families.New(sample.Everything(3))))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// The estimate is what a reading has that has everything.
func TestEstimate(t *testing.T) {
	o := sample.Everything(3)
	got := gather(t, o)
	sum := 0
	for _, f := range families.New(o).Families {
		n := f.Most(o)
		if u := f.Usual(o); u > n {
			t.Errorf("%s: usually %d series, and at most %d", f.Name, u, n)
		}
		if series := seriesOf(got[f.Name]); series != n {
			t.Errorf("%s: %d series, want %d", f.Name, series, n)
		}
		sum += n
	}
	if most := families.Most(o); most < sum || most > sum+9 {
		t.Errorf("%d series of all, want %d and those of the process", most, sum)
	}
	for name, f := range got {
		if strings.HasPrefix(name, "process_") {
			sum += seriesOf(f)
		}
	}
	if sum != families.Most(o) {
		t.Errorf("%d series, want %d", sum, families.Most(o))
	}
	var b bytes.Buffer
	if err := families.Estimate(&b, o); err != nil || !strings.Contains(b.String(), fmt.Sprint(families.Most(o))) {
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

// Buckets of a classic histogram count exactly, and a quantile of the native one is off by no more
// than its help says.
func TestDurations(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var bounds []uint64
	for _, f := range families.New(sample.Everything(3)).Families {
		if f.Name == "finwait_state_duration_seconds" {
			bounds = f.Bounds
		}
	}
	var d tracer.Durations
	var all []time.Duration
	for range 20000 {
		v := time.Duration(math.Exp2(10 + 38*random.Float64())) // 1 us to 3 days
		all = append(all, v)
		d.Add(v)
	}
	slices.Sort(all)
	for bound, n := range cumulate(&d, bounds) {
		want, _ := slices.BinarySearchFunc(all, bound, func(v time.Duration, bound float64) int { return cmp.Compare(v.Seconds(), bound) })
		if n != uint64(want) {
			t.Errorf("%d are shorter than %v s, want %d", n, bound, want)
		}
	}
	buckets := families.Rebin(&d)
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
	for name, f := range gather(t, sample.Everything(3)) {
		if strings.HasPrefix(name, "process_") {
			continue
		}
		for _, m := range f.Metric {
			switch {
			case m.Counter != nil && !m.Counter.CreatedTimestamp.AsTime().Equal(sample.Started),
				m.Histogram != nil && !m.Histogram.CreatedTimestamp.AsTime().Equal(sample.Started),
				m.Summary != nil && !m.Summary.CreatedTimestamp.AsTime().Equal(sample.Started):
				t.Errorf("%s begins at another time: %v", name, m)
			}
		}
	}
}

// What is not known has no series: before the first refresh, and where a kernel does not measure it.
func TestUnknown(t *testing.T) {
	o := sample.Everything(3)
	o.Refreshed = func() *families.Refreshed { return nil }
	read := o.Read
	o.Read = func() (*families.Reading, error) {
		r, err := read()
		r.Programs = []tracer.ProgramStats{{Name: "set_state", Attached: true}, {Name: "kfree_skb"}}
		return r, err
	}
	got := gather(t, o)
	for _, name := range []string{"finwait_findings", "finwait_ports_used_max", "finwait_audit_counters", "finwait_map_entries", "finwait_refresh_timestamp_seconds"} {
		if got[name] != nil {
			t.Errorf("%s is known before the first refresh", name)
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
	for _, f := range gather(t, sample.Everything(3)) {
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
	o := sample.Everything(3)
	o.Read = func() (*families.Reading, error) { return nil, errors.New("the tracer is closed") }
	var said bytes.Buffer
	w := httptest.NewRecorder()
	Handler(families.New(o), log.New(&said, "", 0)).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "the tracer is closed") || strings.Contains(w.Body.String(), "finwait_connections{") {
		t.Errorf("%d: %s", w.Code, w.Body)
	}
}
