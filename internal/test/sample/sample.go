// Package sample has readings of the families of metrics, for the tests of those who show them.
package sample

import (
	"fmt"
	"time"

	"finwait/internal/audit"
	"finwait/internal/doctor"
	"finwait/internal/families"
	"finwait/internal/meter"
	"finwait/tracer"
)

// Started is when the counters of Everything began.
var Started = time.Date(2026, 11, 27, 13, 0, 0, 0, time.UTC)

// How many programs and maps a tracer has at most. A test of internal/metrics compares with the estimate.
const (
	programs = 10
	maps     = 4
)

// Everything is a reading in which each vocabulary has all its words, and each label all its values.
func Everything(limit int) *families.Options {
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
	for _, role := range tracer.Roles() {
		totals.Roles[role] = tracer.RoleTotals{Edges: totals.Edges, Ends: totals.Ends}
		totals.Sessions[role].Add(time.Second)
	}
	totals.Handshakes.Add(time.Millisecond)
	report := &meter.Report{At: Started.Add(time.Second), Span: time.Second, Totals: totals, Hooks: tracer.HooksTracepoint,
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
	var findings []families.Findings
	for _, r := range doctor.Rules() {
		for _, severity := range []string{"risk", "note"} {
			findings = append(findings, families.Findings{ID: r.ID, Severity: severity, Count: 1})
		}
	}
	var attached []tracer.ProgramStats
	for i := range programs {
		attached = append(attached, tracer.ProgramStats{Name: fmt.Sprint("p", i), Attached: true, Runs: 1, RunTime: 1})
	}
	var filled []tracer.MapFill
	for i := range maps {
		filled = append(filled, tracer.MapFill{Name: fmt.Sprint("m", i), Capacity: 9})
	}
	return &families.Options{
		By: "comm", Limit: limit, Refresh: true, Rules: len(doctor.Rules()), Version: "v1", Export: true,
		Read: func() (*families.Reading, error) {
			groups := meter.NewPlaces(limit, Started)
			groups.Add(report)
			return &families.Reading{Started: Started, Whole: report, Groups: groups, Programs: attached, LostExport: new(uint64), Untracked: new(uint64)}, nil
		},
		Refreshed: func() *families.Refreshed {
			return &families.Refreshed{At: Started, Findings: findings, PortsKnown: true, PortsUsed: 3, PortsUsable: 4,
				Audit: map[string]int{string(audit.Agrees): 1, string(audit.Explained): 2, string(audit.Disagrees): 3}, Maps: filled}
		},
	}
}
