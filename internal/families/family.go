package families

import (
	"strings"
	"time"

	"finwait/tracer"
)

// A Kind is what the points of a family mean.
type Kind string

// The kinds, as docs/metrics.md names them.
const (
	Gauge   Kind = "gauge"
	Counter Kind = "counter"          // only grows
	Classic Kind = "histogram"        // with the bounds of the family
	Native  Kind = "native histogram" // with buckets that Prometheus and OpenTelemetry choose
	Summary Kind = "summary"          // without quantiles: a sum and a count
)

// A Family is all points of one name.
type Family struct {
	Name   string // that of Prometheus
	Kind   Kind
	Labels []string
	Help   string
	Bounds []uint64 // of a classic histogram: the upper ends of buckets of the kernel side, in ns

	// otel is its name in OpenTelemetry, where the rule of OTelName does not give it.
	otel string
	// UpDown: the points of a gauge can be added up, as those of OpenTelemetry's UpDownCounter.
	UpDown bool

	// usual and most are how many series there are: on a host that does a bit of everything, and at
	// most. Those of a histogram or summary count for each value of its labels.
	usual, most func(o *Options) int

	collect func(r *reading, e *emitter)
}

// Usual is how many series of Prometheus there are on a host that does a bit of everything.
func (f *Family) Usual(o *Options) int { return f.usual(o) * f.perValue() }

// Most is how many series of Prometheus there are at most.
func (f *Family) Most(o *Options) int { return f.most(o) * f.perValue() }

// perValue is how many series there are for each value of the labels.
func (f *Family) perValue() int {
	switch f.Kind {
	case Classic:
		return len(f.Bounds) + 3 // +Inf, sum and count
	case Summary:
		return 2
	}
	return 1
}

// OTelName is the name in OpenTelemetry: that of the semantic conventions where they have one, else
// the name without the unit, which OpenTelemetry keeps apart, and without "total".
func (f *Family) OTelName() string {
	if f.otel != "" {
		return f.otel
	}
	name := strings.TrimSuffix(strings.TrimSuffix(f.Name, "_total"), "_seconds")
	return strings.Replace(name, "_", ".", 1)
}

// Unit is the unit in OpenTelemetry (UCUM).
func (f *Family) Unit() string {
	switch {
	case strings.HasSuffix(strings.TrimSuffix(f.Name, "_total"), "_seconds"):
		return "s"
	case f.Name == "finwait_connections", f.Name == "finwait_group_connections":
		return "{connection}"
	}
	return "1"
}

// Attribute is what OpenTelemetry calls a label.
func Attribute(label string) string {
	if label == "state" {
		return "network.connection.state" // semantic conventions, as are its values
	}
	return "finwait." + label
}

// A Point is the value of one set of.Labels.
type Point struct {
	Labels    []string          // values, in the order of Family.Labels
	Value     float64           // of a gauge, a counter, and the sum of a summary
	Count     uint64            // of a summary
	Durations *tracer.Durations // of the others
	Since     time.Time         // when it began at 0; the zero time of a gauge
}

// always is a number of series that is the same for all hosts.
func always(n int) func(*Options) int { return func(*Options) int { return n } }

// An emitter makes the points of one family.
type emitter struct {
	started time.Time // when the counters began at 0
	to      func(Point)
}

// gauge is a value of now.
func (e *emitter) gauge(v float64, labels ...string) { e.to(Point{Labels: labels, Value: v}) }

// count is a value that only grows.
func (e *emitter) count(v float64, labels ...string) { e.countSince(e.started, v, labels...) }

func (e *emitter) countSince(since time.Time, v float64, labels ...string) {
	e.to(Point{Labels: labels, Value: v, Since: since})
}

// summary is how many durations there are, and their sum.
func (e *emitter) summary(since time.Time, n uint64, sum time.Duration, labels ...string) {
	e.to(Point{Labels: labels, Value: sum.Seconds(), Count: n, Since: since})
}

// durations is a histogram of durations.
func (e *emitter) durations(since time.Time, d *tracer.Durations, labels ...string) {
	e.to(Point{Labels: labels, Durations: d, Since: since})
}

// StateWord is how OpenTelemetry spells a state (semantic conventions, network.connection.state).
func StateWord(s tracer.State) string {
	if s == tracer.SynRecv {
		return "syn_received"
	}
	return strings.ToLower(s.String())
}
