// Package metrics shows totals, groups and what finwait knows of itself to Prometheus. A scrape
// reads them at that moment. docs/metrics.md is made from its list of families.
package metrics

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"finwait/internal/meter"
	"finwait/tracer"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// A Reading is what was counted until one moment.
type Reading struct {
	Started  time.Time     // when counting began
	Whole    *meter.Report // since then
	Groups   *meter.Places // nil: there are none
	Programs []tracer.ProgramStats
}

// Refreshed is what costs more than a scrape may, and is read apart.
type Refreshed struct {
	At   time.Time // when it was read
	Took time.Duration

	Findings   []Findings
	NotChecked int // rules that could not be asked, or only in part

	Visited, Unvisited int // network namespaces

	// Ports are those towards the destination for which the largest part of the usable ones is used;
	// PortsKnown is false if that is not known.
	PortsKnown             bool
	PortsUsed, PortsUsable uint64

	Audit map[string]int // counters by verdict; nil: there is no audit
	Maps  []tracer.MapFill
}

// Findings are how many findings with one id and severity there are; 0: the rule was asked, and found
// nothing.
type Findings struct {
	ID, Severity string
	Count        int
}

// Options say what there is to show, and how to read it.
type Options struct {
	By      string // the label of groups; "": there are none
	Limit   int    // of groups
	Refresh bool   // something is refreshed
	Rules   int    // how many kinds of findings are looked for
	Version string

	// Read takes a reading, at each scrape.
	Read func() (*Reading, error)
	// Refreshed is what was refreshed last; nil: nothing yet, or the last time failed.
	Refreshed func() *Refreshed
}

// reading is what the families show.
type reading struct {
	*Options
	*Reading
	refreshed *Refreshed
	took      time.Duration
}

// families are all that these options have.
func families(o *Options) (all []*family) {
	all = slices.Concat(trafficFamilies(), durationFamilies())
	if o.By != "" {
		all = append(all, groupFamilies(o)...)
	}
	if o.Refresh {
		all = append(all, refreshedFamilies()...)
	}
	return append(all, selfFamilies()...)
}

// A collector takes one reading at a time, because groups change with each.
type collector struct {
	mu       sync.Mutex
	o        *Options
	families []*family
	descs    []*prometheus.Desc
}

// Handler answers scrapes. Programs that speak the protobuf format of Prometheus get native
// histograms and the times at which counters began, too.
func Handler(o *Options, log interface{ Println(...any) }) http.Handler {
	registry := newRegistry(o)
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorLog: log, EnableOpenMetrics: true, CoalesceGather: true})
}

func newRegistry(o *Options) *prometheus.Registry {
	c := &collector{o: o, families: families(o)}
	for _, f := range c.families {
		c.descs = append(c.descs, prometheus.NewDesc(f.name, f.help, f.labels, nil))
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
	c.mu.Lock()
	defer c.mu.Unlock()
	begun := time.Now()
	read, err := c.o.Read()
	if err != nil {
		to <- prometheus.NewInvalidMetric(c.descs[0], fmt.Errorf("read the totals: %w", err))
		return
	}
	r := &reading{Options: c.o, Reading: read, took: time.Since(begun)}
	if c.o.Refreshed != nil {
		r.refreshed = c.o.Refreshed()
	}
	for i, f := range c.families {
		f.collect(r, &emitter{family: f, desc: c.descs[i], started: read.Started, to: to})
	}
}

// Estimate writes how many series there will be, family by family. It reads nothing.
func Estimate(w io.Writer, o *Options) error {
	var usual, most int
	_, err := fmt.Fprintf(w, "%-42s %7s %7s\n", "METRIC", "USUAL", "MOST")
	for _, f := range families(o) {
		u, m := f.usual(o)*f.perValue(), f.most(o)*f.perValue()
		usual, most = usual+u, most+m
		if err == nil {
			_, err = fmt.Fprintf(w, "%-42s %7d %7d\n", f.name, u, m)
		}
	}
	if err == nil {
		_, err = fmt.Fprintf(w, "%-42s %7d %7d\n", "process_*", processSeries, processSeries)
	}
	if err == nil {
		_, err = fmt.Fprintf(w, "%-42s %7d %7d\n", "all", usual+processSeries, most+processSeries)
	}
	return err
}

// processSeries is how many series client_golang's collector of /proc/self has.
const processSeries = 9

// Most is how many series there can be.
func Most(o *Options) (n int) {
	for _, f := range families(o) {
		n += f.most(o) * f.perValue()
	}
	return n + processSeries
}
