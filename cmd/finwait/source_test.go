package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"finwait/internal/meter"
	"finwait/internal/sink"
	"finwait/internal/test/saved"
	"finwait/tracer"

	"github.com/google/go-cmp/cmp"
)

// A source need not be the kernel: trace and stat show the same of a saved run as
// they did when it happened.
func TestSavedSource(t *testing.T) {
	all, err := saved.All()
	if err != nil || len(all) == 0 {
		t.Fatal(len(all), err)
	}
	for _, r := range all {
		for _, raw := range []bool{false, true} {
			var b, errs bytes.Buffer
			out := bufio.NewWriter(&b)
			o := traceOptions{raw: raw}
			if err := o.show(context.Background(), saved.NewSource(r), sink.New("json", out, false), out, logger(&errs)); err != nil {
				t.Fatal(err)
			}
			surface := "trace.json"
			if raw {
				surface = "raw.json"
			}
			want, err := r.Printed(surface)
			if err != nil {
				t.Fatal(err)
			}
			got := b.String()
			// The accounts are of the source; the lines before are those of the run.
			got, summary, _ := strings.Cut(got, `{"event":"summary"`)
			want, _, _ = strings.Cut(want, `{"event":"summary"`)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s.%s (-saved +now)\n%s", r.Name, surface, diff)
			}
			if summary == "" || !strings.Contains(errs.String(), "every transition is accounted for") {
				t.Errorf("%s: no accounts: %s%s", r.Name, summary, &errs)
			}
		}
	}
}

// trace ends after --count transitions of any source, and hands over no more.
func TestSavedSourceCount(t *testing.T) {
	all, err := saved.All()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	out := bufio.NewWriter(&b)
	o := traceOptions{count: 3}
	if err := o.show(context.Background(), saved.NewSource(all[0]), sink.New("json", out, false), out, logger(io.Discard)); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.String(), `"event":"transition"`); n != 3 {
		t.Errorf("%d transitions, want 3:\n%s", n, &b)
	}
}

// A meter measures any source by that source's own clock.
func TestMeterOfASavedSource(t *testing.T) {
	all, err := saved.All()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		src := saved.NewSource(r)
		m, err := meter.Start(src, meter.Options{By: tracer.SplitPort, Top: 10})
		if err != nil {
			t.Fatal(err)
		}
		if err := src.Run(context.Background(), func(*tracer.Transition) error { return nil }); err != nil {
			t.Fatal(err)
		}
		report, err := m.Finish(false)
		if err != nil {
			t.Fatal(err)
		}
		// What the kernel counted of the run is what its transitions come to.
		kernel := r.Totals.Tracer()
		if diff := cmp.Diff(kernel.Edges, report.Totals.Edges); diff != "" {
			t.Errorf("%s: edges (-kernel +transitions)\n%s", r.Name, diff)
		}
		if diff := cmp.Diff(kernel.Ends, report.Totals.Ends); diff != "" {
			t.Errorf("%s: ends (-kernel +transitions)\n%s", r.Name, diff)
		}
		if kernel.Durations != report.Totals.Durations || kernel.Live != report.Totals.Live {
			t.Errorf("%s: durations or live differ from the kernel's", r.Name)
		}
		last := r.Transitions[len(r.Transitions)-1]
		if want := time.Duration(last.KtimeNs - r.Mono); report.Span < want {
			t.Errorf("%s: a span of %v, want %v at least", r.Name, report.Span, want)
		}
	}
}
