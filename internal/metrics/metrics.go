// Package metrics shows the families of metrics to Prometheus. A scrape reads them at that moment.
package metrics

import (
	"net/http"

	"finwait/internal/families"
	"finwait/tracer"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// A collector takes a reading at each scrape.
type collector struct {
	set   *families.Set
	descs []*prometheus.Desc
}

// Handler answers scrapes. Programs that speak the protobuf format of Prometheus get native
// histograms and the times at which counters began, too.
func Handler(set *families.Set, log interface{ Println(...any) }) http.Handler {
	return promhttp.HandlerFor(newRegistry(set), promhttp.HandlerOpts{ErrorLog: log, EnableOpenMetrics: true, CoalesceGather: true})
}

func newRegistry(set *families.Set) *prometheus.Registry {
	c := &collector{set: set}
	for _, f := range set.Families {
		c.descs = append(c.descs, prometheus.NewDesc(f.Name, f.Help, f.Labels, nil))
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(c, collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// Describe is for the registry.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		to <- d
	}
}

// Collect takes a reading and shows it.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	err := c.set.Collect(func(i int, p families.Point) {
		m, err := metric(c.set.Families[i], c.descs[i], &p)
		if err != nil {
			m = prometheus.NewInvalidMetric(c.descs[i], err)
		}
		to <- m
	})
	if err != nil {
		to <- prometheus.NewInvalidMetric(c.descs[0], err)
	}
}

func metric(f *families.Family, desc *prometheus.Desc, p *families.Point) (prometheus.Metric, error) {
	d := p.Durations
	switch f.Kind {
	case families.Gauge:
		return prometheus.NewConstMetric(desc, prometheus.GaugeValue, p.Value, p.Labels...)
	case families.Counter:
		return prometheus.NewConstMetricWithCreatedTimestamp(desc, prometheus.CounterValue, p.Value, p.Since, p.Labels...)
	case families.Classic:
		return prometheus.NewConstHistogramWithCreatedTimestamp(desc, d.Count(), d.Total.Seconds(), cumulate(d, f.Bounds), p.Since, p.Labels...)
	case families.Native:
		return prometheus.NewConstNativeHistogram(desc, d.Count(), d.Total.Seconds(), families.Rebin(d), nil, 0, families.NativeSchema, nativeZero, p.Since, p.Labels...)
	default:
		return prometheus.NewConstSummaryWithCreatedTimestamp(desc, p.Count, p.Value, nil, p.Since, p.Labels...)
	}
}

// cumulate counts for each bound, in seconds, the durations that are shorter.
func cumulate(d *tracer.Durations, bounds []uint64) map[float64]uint64 {
	counts := make(map[float64]uint64, len(bounds))
	for _, bound := range bounds {
		counts[families.Seconds(bound)] = families.Shorter(d, bound)
	}
	return counts
}

// nativeZero is where the zero bucket of a native histogram ends, in seconds. It stays empty.
const nativeZero = 1e-9
