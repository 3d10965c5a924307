package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"finwait/internal/meter"
	"finwait/internal/sink"
	"finwait/internal/source"
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
			o := follower{raw: raw}
			if err := o.show(context.Background(), saved.NewSource(r), sink.New("json", out, sink.Options{}), out, logger(&errs)); err != nil {
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
	o := follower{count: 3}
	if err := o.show(context.Background(), saved.NewSource(all[0]), sink.New("json", out, sink.Options{}), out, logger(io.Discard)); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.String(), `"event":"transition"`); n != 3 {
		t.Errorf("%d transitions, want 3:\n%s", n, &b)
	}
}

// A standIn is a source whose accounts are as a test wants them.
type standIn struct {
	source.Source
	stats tracer.Stats
}

func (s *standIn) Stats() (tracer.Stats, error) { return s.stats, nil }

// What --count leaves in the ring buffer is not told as delivered.
func TestCountIsWhatWasPrinted(t *testing.T) {
	all, err := saved.All()
	if err != nil {
		t.Fatal(err)
	}
	from := &standIn{saved.NewSource(all[0]), tracer.Stats{Seen: 215, Filtered: 10, Delivered: 200, Lost: tracer.Lost{MapFull: 5}}}
	var b, errs bytes.Buffer
	out := bufio.NewWriter(&b)
	o := follower{count: 3}
	if err := o.show(context.Background(), from, sink.New("json", out, sink.Options{}), out, logger(&errs)); err != nil {
		t.Fatal(err)
	}
	if want := `"seen":18,"filtered":10,"delivered":3,"lost":{"ring_full":0,"map_full":5,`; !strings.Contains(b.String(), want) {
		t.Errorf("no %s in\n%s", want, &b)
	}
	if want := "seen=18"; !strings.Contains(errs.String(), want) {
		t.Errorf("no %s in %s", want, &errs)
	}
}

// An idle source has nothing to report until its context is done. Its accounts change
// after three seconds.
type idle struct {
	source.Source
	began        time.Time
	early, later tracer.Stats
}

func (*idle) Run(ctx context.Context, _ func(*tracer.Transition) error) error {
	<-ctx.Done()
	return nil
}

func (s *idle) Stats() (tracer.Stats, error) {
	if time.Since(s.began) < 3*time.Second {
		return s.early, nil
	}
	return s.later, nil
}

// A stamped writer says when each line was written.
type stamped struct {
	bytes.Buffer
	began time.Time
}

func (w *stamped) Write(p []byte) (int, error) {
	fmt.Fprintf(&w.Buffer, "%v %s", time.Since(w.began), p)
	return len(p), nil
}

// Within two seconds it says that it waits, and for what: once that there is nothing,
// and once that nothing matches.
func TestHint(t *testing.T) {
	const (
		quiet = "1.5s INF waiting: no transition yet; make some with: curl -s http://localhost\n"
		none  = "1.5s INF waiting: no transition of this host yet\n"
	)
	for name, c := range map[string]struct {
		filtered     bool
		early, later tracer.Stats
		said         string
	}{
		"quiet":               {false, tracer.Stats{}, tracer.Stats{}, quiet},
		"quiet, filtered":     {true, tracer.Stats{}, tracer.Stats{}, none},
		"none matches":        {true, tracer.Stats{Seen: 4120, Filtered: 4120}, tracer.Stats{Seen: 9999, Filtered: 9999}, "1.5s INF waiting: 4,120 seen, none matches\n"},
		"none matches, later": {true, tracer.Stats{}, tracer.Stats{Seen: 7, Filtered: 7}, none + "3.5s INF waiting: 7 seen, none matches\n"},
		// What is lost may match, what is delivered does, and of no filter there is nothing to say.
		"only losses":     {true, tracer.Stats{Seen: 2, Lost: tracer.Lost{MapFull: 2}}, tracer.Stats{Seen: 2, Lost: tracer.Lost{MapFull: 2}}, ""},
		"on its way":      {true, tracer.Stats{Seen: 2, Filtered: 1, Delivered: 1}, tracer.Stats{}, ""},
		"other protocols": {false, tracer.Stats{Seen: 2, Filtered: 2}, tracer.Stats{Seen: 2, Filtered: 2}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				all, err := saved.All()
				if err != nil {
					t.Fatal(err)
				}
				errs := &stamped{began: time.Now()}
				from := &idle{saved.NewSource(all[0]), time.Now(), c.early, c.later}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				o := follower{filtered: c.filtered}
				if _, err := o.follow(ctx, from, nil, logger(errs)); err != nil {
					t.Fatal(err)
				}
				if want := "0s INF tracing TCP transitions; Ctrl-C ends it\n" + c.said; errs.String() != want {
					t.Errorf("said %q, want %q", errs.String(), want)
				}
			})
		})
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
		rest, report, err := m.Finish()
		if err != nil {
			t.Fatal(err)
		}
		if !rest.At.Equal(report.At) || rest.Totals.Edges != report.Totals.Edges {
			t.Errorf("%s: without an interval the rest is not the whole", r.Name)
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
