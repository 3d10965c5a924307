package metrics

import (
	"math"
	"strings"
	"time"

	"finwait/tracer"

	"github.com/prometheus/client_golang/prometheus"
)

// A kind is what the samples of a family mean.
type kind string

// The kinds, as docs/metrics.md names them.
const (
	gauge   kind = "gauge"
	counter kind = "counter"
	classic kind = "histogram"
	native  kind = "native histogram"
	summary kind = "summary" // without quantiles: a sum and a count
)

// A family is all series of one name.
type family struct {
	name   string
	kind   kind
	labels []string
	help   string

	// usual and most are how many series there are: on a host that does a bit of everything, and at
	// most. Those of a histogram or summary count for each value of its labels.
	usual, most func(o *Options) int

	bounds  []uint64 // of a classic histogram: the upper ends of buckets of the kernel side, in ns
	collect func(r *reading, e *emitter)
}

// perValue is how many series there are for each value of the labels.
func (f *family) perValue() int {
	switch f.kind {
	case classic:
		return len(f.bounds) + 3 // +Inf, sum and count
	case native:
		return 1
	case summary:
		return 2
	}
	return 1
}

// always is a number of series that is the same for all hosts.
func always(n int) func(*Options) int { return func(*Options) int { return n } }

// An emitter makes the samples of one family.
type emitter struct {
	family  *family
	desc    *prometheus.Desc
	started time.Time // when the counters began at 0
	to      chan<- prometheus.Metric
}

func (e *emitter) send(m prometheus.Metric, err error) {
	if err != nil {
		m = prometheus.NewInvalidMetric(e.desc, err)
	}
	e.to <- m
}

// gauge is a value of now.
func (e *emitter) gauge(v float64, labels ...string) {
	e.send(prometheus.NewConstMetric(e.desc, prometheus.GaugeValue, v, labels...))
}

// count is a value that only grows.
func (e *emitter) count(v float64, labels ...string) { e.countSince(e.started, v, labels...) }

func (e *emitter) countSince(since time.Time, v float64, labels ...string) {
	e.send(prometheus.NewConstMetricWithCreatedTimestamp(e.desc, prometheus.CounterValue, v, since, labels...))
}

// durations is a histogram or summary of durations.
func (e *emitter) durations(since time.Time, d *tracer.Durations, labels ...string) {
	switch e.family.kind {
	case classic:
		e.send(prometheus.NewConstHistogramWithCreatedTimestamp(e.desc, d.Count(), d.Total.Seconds(), cumulate(d, e.family.bounds), since, labels...))
	case native:
		zero, buckets := rebin(d)
		e.send(prometheus.NewConstNativeHistogram(e.desc, d.Count(), d.Total.Seconds(), buckets, nil, zero, nativeSchema, nativeZero, since, labels...))
	case summary:
		e.send(prometheus.NewConstSummaryWithCreatedTimestamp(e.desc, d.Count(), d.Total.Seconds(), nil, since, labels...))
	}
}

// cumulate counts for each bound the durations that are shorter. A bound is an edge of the kernel
// side's buckets, so no bucket lies on both sides of it.
func cumulate(d *tracer.Durations, bounds []uint64) map[float64]uint64 {
	counts := make(map[float64]uint64, len(bounds))
	for _, bound := range bounds {
		n := uint64(0)
		for b := range d.Buckets() {
			if uint64(b.High) <= bound {
				n += b.Count
			}
		}
		counts[seconds(bound)] = n
	}
	return counts
}

func seconds(ns uint64) float64 { return float64(ns) / 1e9 }

// A native histogram has 8 buckets for each power of two of seconds. Below nativeZero, which is 1 ns,
// is its zero bucket.
const (
	nativeSchema = 3
	nativeZero   = 1e-9
)

// rebin puts each bucket of the kernel side into the native bucket that has its middle, as the edges
// of the two do not agree. The same bucket always goes to the same place, so the counts only grow.
func rebin(d *tracer.Durations) (zero uint64, buckets map[int]int64) {
	buckets = make(map[int]int64)
	for b := range d.Buckets() {
		middle := b.Low.Seconds()
		if b.High != math.MaxInt64 {
			middle = (b.Low.Seconds() + b.High.Seconds()) / 2
		}
		// Bucket i has what is over 2^((i-1)/8) s, up to 2^(i/8) s.
		buckets[int(math.Ceil(math.Log2(middle)*(1<<nativeSchema)))] += int64(b.Count)
	}
	return 0, buckets
}

// word is how OpenTelemetry spells a state (semantic conventions, network.connection.state).
func word(s tracer.State) string {
	if s == tracer.SynRecv {
		return "syn_received"
	}
	return strings.ToLower(s.String())
}
