// Package families defines the metrics: their names, labels and meanings, and how they are read from
// totals, groups and what finwait knows of itself. internal/metrics shows them to Prometheus and
// internal/otlp sends them to OpenTelemetry. docs/metrics.md is made from them.
package families

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"finwait/internal/meter"
	"finwait/tracer"
)

// A Reading is what was counted until one moment.
type Reading struct {
	Started  time.Time     // when counting began
	Whole    *meter.Report // since then
	Groups   *meter.Places // nil: there are none
	Programs []tracer.ProgramStats
	// LostExport is how many log records could not be sent; nil: none are sent.
	LostExport *uint64
	// Untracked is for how many connections there was no room; nil: no records of connections are sent.
	Untracked *uint64
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
	Export  bool   // log records are sent
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
func families(o *Options) (all []*Family) {
	all = slices.Concat(trafficFamilies(), durationFamilies())
	if o.By != "" {
		all = append(all, groupFamilies(o)...)
	}
	if o.Refresh {
		all = append(all, refreshedFamilies()...)
	}
	return append(all, selfFamilies()...)
}

// A Set is the families of some options. It takes one reading at a time, because groups change with
// each.
type Set struct {
	Families []*Family
	Options  *Options
	mu       sync.Mutex
}

// New gives the families that these options have.
func New(o *Options) *Set { return &Set{Families: families(o), Options: o} }

// Collect takes a reading and hands over its points, family by family. The points are valid until fn
// returns.
func (s *Set) Collect(fn func(i int, p Point)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	begun := time.Now()
	read, err := s.Options.Read()
	if err != nil {
		return fmt.Errorf("read the totals: %w", err)
	}
	r := &reading{Options: s.Options, Reading: read, took: time.Since(begun)}
	if s.Options.Refreshed != nil {
		r.refreshed = s.Options.Refreshed()
	}
	for i, f := range s.Families {
		f.collect(r, &emitter{started: read.Started, to: func(p Point) { fn(i, p) }})
	}
	return nil
}

// Estimate writes how many series there will be, family by family. It reads nothing.
func Estimate(w io.Writer, o *Options) error {
	var usual, most int
	_, err := fmt.Fprintf(w, "%-42s %7s %7s\n", "METRIC", "USUAL", "MOST")
	for _, f := range families(o) {
		u, m := f.Usual(o), f.Most(o)
		usual, most = usual+u, most+m
		if err == nil {
			_, err = fmt.Fprintf(w, "%-42s %7d %7d\n", f.Name, u, m)
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
		n += f.Most(o)
	}
	return n + processSeries
}
