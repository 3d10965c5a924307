package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"sync/atomic"
	"time"

	"finwait/internal/audit"
	"finwait/internal/doctor"
	"finwait/internal/families"
	"finwait/internal/meter"
	"finwait/internal/netns"
	"finwait/internal/page"
	"finwait/internal/source"
	"finwait/tracer"

	"github.com/rs/zerolog"
)

// serving reads what the kernel has counted.
type serving struct {
	live    source.Live
	meter   *meter.Meter
	started time.Time
	groups  *meter.Places
	lost    tracer.Lost // at most so far
	export  *exporting  // nil: nothing is sent
}

func (s *serving) begin(o *serveOptions, export *exporting) {
	s.started, s.export = time.Now(), export
	if o.by != "" {
		s.groups = meter.NewPlaces(o.limit, s.started)
	}
}

// read is for one scrape at a time.
func (s *serving) read() (*families.Reading, error) {
	last, whole, err := s.meter.Step()
	if err != nil {
		return nil, err
	}
	programs, err := s.live.Programs()
	if err != nil {
		return nil, err
	}
	if s.groups != nil {
		s.groups.Add(last)
	}
	// A transition counts as lost until another program has taken it over: for a moment. A counter
	// must not fall.
	s.lost.Raise(whole.Lost)
	whole.Lost = s.lost
	return &families.Reading{Started: s.started, Whole: whole, Groups: s.groups, Programs: programs, LostExport: s.export.lost(), Untracked: s.export.withoutRoom()}, nil
}

func (s *serving) healthy() error {
	_, err := s.live.Stats()
	return err
}

// probe answers with 200 and "ok", or with 503 and why not.
func probe(ask func() error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := ask(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ok\n") // the client may be gone
	})
}

// refreshShare bounds what refreshing takes of one CPU: 1/refreshShare.
const refreshShare = 20

// A refresher reads what costs more than a scrape may.
type refresher struct {
	live   source.Live
	every  time.Duration
	cfg    *tracer.Config
	spaces []netns.NS
	page   *page.Page
	log    *zerolog.Logger

	start *audit.Snapshot // what comparisons begin with
	last  atomic.Pointer[refreshed]
}

// refreshed is the outcome; err: it has failed.
type refreshed struct {
	metrics  *families.Refreshed
	findings []byte // JSON lines
	input    *doctor.Input
	audit    []audit.Row // nil: there is none
	err      error
}

func (r *refresher) run(ctx context.Context) {
	said := ""
	for {
		begun := time.Now()
		last := r.refresh()
		if last.err == nil {
			last.err = r.show(last)
		}
		r.last.Store(last)
		if why := errorText(last.err); why != said {
			if said = why; why != "" {
				r.log.Warn().Msg("findings and the audit cannot be refreshed: " + why)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(r.every, refreshShare*time.Since(begun))):
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func (r *refresher) refresh() *refreshed {
	begun := time.Now()
	shown := &families.Refreshed{At: begun}
	quiet := r.log.Level(zerolog.ErrorLevel) // the metrics say what could not be read
	in, err := doctor.NewCollector(doctor.Source{Filter: r.cfg.Filter, NetNS: r.spaces, Owners: socketOwners(&quiet), Log: &quiet}).Take()
	if err != nil {
		return &refreshed{err: err}
	}
	report, err := doctor.Examine(in, doctor.Choice{})
	if err != nil {
		return &refreshed{err: err}
	}
	var findings bytes.Buffer
	if err := doctor.WriteJSON(&findings, doctor.LanguageOf("en"), report); err != nil {
		return &refreshed{err: err}
	}
	shown.Findings, shown.NotChecked = countFindings(report), len(report.NotChecked)
	shown.Visited, shown.Unvisited = len(in.Spaces), int(in.Unread)
	shown.PortsUsed, shown.PortsUsable, shown.PortsKnown = in.WorstPorts()
	var rows []audit.Row
	if r.cfg.Audit {
		if rows, err = r.compare(); err != nil {
			return &refreshed{err: err}
		}
		shown.Audit = verdicts(rows)
	}
	if shown.Maps, err = r.live.MapFill(); err != nil {
		return &refreshed{err: err}
	}
	shown.Took = time.Since(begun)
	return &refreshed{metrics: shown, findings: findings.Bytes(), input: in, audit: rows}
}

// compare compares with the kernel's counters since the namespaces were found.
func (r *refresher) compare() ([]audit.Row, error) {
	now, err := audit.Take(r.live.Tracer)
	if err != nil {
		return nil, err
	}
	if r.start == nil {
		r.start = now
	}
	rows := audit.Compare(r.start, now, runtime.NumCPU())
	r.start.Renew(now)
	return rows, nil
}

func verdicts(rows []audit.Row) map[string]int {
	count := map[string]int{string(audit.Agrees): 0, string(audit.Explained): 0, string(audit.Disagrees): 0}
	for _, row := range rows {
		if row.Counter != "" {
			count[string(row.Verdict)]++
		}
	}
	return count
}

// countFindings counts by id and severity. A rule that was asked, could see all, and found nothing
// counts 0.
func countFindings(report *doctor.Report) (all []families.Findings) {
	count := make(map[families.Findings]int)
	found := make(map[string]bool)
	for i := range report.Findings {
		f := &report.Findings[i]
		count[families.Findings{ID: f.ID, Severity: f.Severity.String()}]++
		found[f.ID] = true
	}
	for _, u := range report.NotChecked {
		found[u.ID] = true
	}
	for _, rule := range doctor.Rules() {
		if !found[rule.ID] {
			count[families.Findings{ID: rule.ID, Severity: rule.Worst.String()}] = 0
		}
	}
	for f, n := range count {
		f.Count = n
		all = append(all, f)
	}
	return all
}

// metrics is nil if nothing is known.
func (r *refresher) metrics() *families.Refreshed {
	if last := r.last.Load(); last != nil {
		return last.metrics
	}
	return nil
}

// ready: what is refreshed has been read.
func (r *refresher) ready() error {
	if r.every == 0 {
		return nil
	}
	last := r.last.Load()
	if last == nil {
		return errors.New("not ready: looking for findings for the first time")
	}
	return last.err
}

// ServeHTTP answers with the findings of the last refresh. Last-Modified says when that was.
func (r *refresher) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	if r.every == 0 {
		http.Error(w, "findings are switched off: --refresh 0", http.StatusNotFound)
		return
	}
	last := r.last.Load()
	if last == nil || last.err != nil {
		http.Error(w, fmt.Sprint("no findings: ", r.ready()), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/jsonl; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Last-Modified", last.metrics.At.UTC().Format(http.TimeFormat))
	_, _ = w.Write(last.findings) // the client may be gone
}
