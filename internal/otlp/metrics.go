package otlp

import (
	"math"
	"slices"
	"time"

	"finwait/internal/families"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// collect takes a reading of all families.
func (e *Exporter) collect() (*metricdata.ResourceMetrics, error) {
	set := e.options.Families
	all := make([]*collected, len(set.Families))
	err := set.Collect(func(i int, p families.Point) {
		if all[i] == nil {
			all[i] = &collected{family: set.Families[i]}
		}
		all[i].add(&p)
	})
	if err != nil {
		return nil, err
	}
	scope := metricdata.ScopeMetrics{Scope: e.scope}
	now := time.Now()
	for _, c := range all {
		if c != nil { // what is not known is not sent
			scope.Metrics = append(scope.Metrics, c.metric(now))
		}
	}
	return &metricdata.ResourceMetrics{Resource: e.resource, ScopeMetrics: []metricdata.ScopeMetrics{scope}}, nil
}

// collected is the points of one family, in the form that its kind has.
type collected struct {
	family      *families.Family
	values      []metricdata.DataPoint[float64]
	counts      []metricdata.DataPoint[int64]
	histograms  []metricdata.HistogramDataPoint[float64]
	exponential []metricdata.ExponentialHistogramDataPoint[float64]
	summaries   []metricdata.SummaryDataPoint
}

func (c *collected) add(p *families.Point) {
	var attributes []attribute.KeyValue
	for i, label := range c.family.Labels {
		attributes = append(attributes, attribute.String(families.Attribute(label), p.Labels[i]))
	}
	if c.family.UpDown {
		attributes = append(attributes, attribute.String("network.transport", "tcp"))
	}
	set := attribute.NewSet(attributes...)
	d := p.Durations
	switch c.family.Kind {
	case families.Classic:
		c.histograms = append(c.histograms, metricdata.HistogramDataPoint[float64]{
			Attributes: set, StartTime: p.Since, Count: d.Count(), Sum: d.Total.Seconds(),
			Bounds: seconds(c.family.Bounds), BucketCounts: apart(d.Count(), p, c.family.Bounds),
		})
	case families.Native:
		c.exponential = append(c.exponential, exponential(set, p))
	case families.Summary:
		c.summaries = append(c.summaries, metricdata.SummaryDataPoint{Attributes: set, StartTime: p.Since, Count: p.Count, Sum: p.Value})
	default:
		if c.family.UpDown {
			c.counts = append(c.counts, metricdata.DataPoint[int64]{Attributes: set, Value: int64(p.Value)})
			return
		}
		c.values = append(c.values, metricdata.DataPoint[float64]{Attributes: set, StartTime: p.Since, Value: p.Value})
	}
}

func seconds(bounds []uint64) (all []float64) {
	for _, b := range bounds {
		all = append(all, families.Seconds(b))
	}
	return all
}

// apart has the counts between bounds, and at last what is over all of them.
func apart(all uint64, p *families.Point, bounds []uint64) (counts []uint64) {
	below := uint64(0)
	for _, b := range bounds {
		n := families.Shorter(p.Durations, b)
		counts = append(counts, n-below)
		below = n
	}
	return append(counts, all-below)
}

// exponential has the buckets of a native histogram. OpenTelemetry's bucket i has what is over
// 2^(i/8) s, so its numbers are one less.
func exponential(set attribute.Set, p *families.Point) metricdata.ExponentialHistogramDataPoint[float64] {
	point := metricdata.ExponentialHistogramDataPoint[float64]{
		Attributes: set, StartTime: p.Since, Count: p.Durations.Count(), Sum: p.Durations.Total.Seconds(), Scale: families.NativeSchema,
	}
	buckets := families.Rebin(p.Durations)
	if len(buckets) == 0 {
		return point
	}
	first, last := math.MaxInt, math.MinInt
	for i := range buckets {
		first, last = min(first, i), max(last, i)
	}
	point.PositiveBucket.Offset = int32(first - 1)
	point.PositiveBucket.Counts = make([]uint64, last-first+1)
	for i, n := range buckets {
		point.PositiveBucket.Counts[i-first] = uint64(n)
	}
	return point
}

// metric is what was collected until now.
func (c *collected) metric(now time.Time) metricdata.Metrics {
	m := metricdata.Metrics{Name: c.family.OTelName(), Description: c.family.Help, Unit: c.family.Unit()}
	const cumulative = metricdata.CumulativeTemporality
	switch c.family.Kind {
	case families.Classic:
		for i := range c.histograms {
			c.histograms[i].Time = now
		}
		m.Data = metricdata.Histogram[float64]{DataPoints: c.histograms, Temporality: cumulative}
	case families.Native:
		for i := range c.exponential {
			c.exponential[i].Time = now
		}
		m.Data = metricdata.ExponentialHistogram[float64]{DataPoints: c.exponential, Temporality: cumulative}
	case families.Summary:
		for i := range c.summaries {
			c.summaries[i].Time = now
		}
		m.Data = metricdata.Summary{DataPoints: c.summaries}
	case families.Counter:
		m.Data = metricdata.Sum[float64]{DataPoints: at(now, c.values), Temporality: cumulative, IsMonotonic: true}
	default:
		if c.family.UpDown {
			m.Data = metricdata.Sum[int64]{DataPoints: at(now, c.counts), Temporality: cumulative}
		} else {
			m.Data = metricdata.Gauge[float64]{DataPoints: at(now, c.values)}
		}
	}
	return m
}

func at[N int64 | float64](now time.Time, points []metricdata.DataPoint[N]) []metricdata.DataPoint[N] {
	points = slices.Clone(points)
	for i := range points {
		points[i].Time = now
	}
	return points
}
