package main

import (
	"bufio"
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"finwait/internal/demo"
	"finwait/internal/jsonl"
	"finwait/internal/meter"
	"finwait/internal/scenario"
	"finwait/internal/sink"
	"finwait/internal/test/saved"
	"finwait/internal/text"
	"finwait/tracer"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "save what is printed now of the saved runs")

// What trace, stat and demo print of a saved run is what they printed then, to the byte.
func TestSaved(t *testing.T) {
	local := time.Local
	time.Local = time.UTC
	defer func() { time.Local = local }()
	all, err := saved.All()
	if err != nil || len(all) != len(scenario.All()) {
		t.Fatalf("%d runs of %d scenarios, %v", len(all), len(scenario.All()), err)
	}
	for _, r := range all {
		for surface, got := range printed(t, r) {
			if *update {
				if err := os.WriteFile(filepath.Join("../../internal/test/saved", saved.Dir, r.Name+"."+surface), got, 0o644); err != nil {
					t.Fatal(err)
				}
				continue
			}
			want, err := r.Printed(surface)
			if diff := cmp.Diff(want, string(got)); err != nil || diff != "" {
				t.Errorf("%s.%s: %v (-saved +now)\n%s", r.Name, surface, err, diff)
			}
		}
	}
}

func printed(t *testing.T, r *saved.Run) map[string][]byte {
	surfaces := make(map[string][]byte)
	collect := func(surface string, show func(*bufio.Writer) error) {
		var b bytes.Buffer
		w := bufio.NewWriter(&b)
		if err := show(w); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		surfaces[surface] = b.Bytes()
	}
	hooks, err := parse[tracer.HookSet](r.Hooks)
	if err != nil {
		t.Fatal(err)
	}
	stream := func(s sink.Sink) error {
		for i := range r.Transitions {
			tr := r.Transitions[i].Tracer()
			if err := s.Transition(&tr); err != nil {
				return err
			}
		}
		return s.End(r.Stats.Tracer(), hooks)
	}
	raws := func(s sink.Sink) error {
		for i := range r.Raws {
			ev := r.Raws[i].Tracer()
			if err := s.Raw(&ev); err != nil {
				return err
			}
		}
		return nil
	}
	collect("trace.txt", func(w *bufio.Writer) error {
		return stream(sink.NewText(w, sink.Options{Form: text.Form{Colour: true}}))
	})
	collect("trace.json", func(w *bufio.Writer) error { return stream(jsonl.NewWriter(w)) })
	collect("raw.txt", func(w *bufio.Writer) error { return raws(sink.NewText(w, sink.Options{})) })
	collect("raw.json", func(w *bufio.Writer) error { return raws(jsonl.NewWriter(w)) })
	collect("demo.txt", func(w *bufio.Writer) error { return demonstrate(r, demo.NewLadder(w, true)) })
	collect("demo.json", func(w *bufio.Writer) error { return demonstrate(r, demo.NewJSON(w)) })

	report := &meter.Report{
		At: time.Unix(0, r.Wall+r.SpanNs).UTC(), Span: time.Duration(r.SpanNs), Totals: r.Totals.Tracer(), By: tracer.SplitPort, ByWord: "port",
		Seen: r.Stats.Tracer().Seen, Lost: r.Stats.Tracer().Lost, Hooks: hooks,
	}
	report.Split(nil, r.TracerGroups(), 2)
	collect("stat.txt", func(w *bufio.Writer) error { return meter.NewText(w, text.Form{}, false, false).Report(report) })
	collect("stat.json", func(w *bufio.Writer) error { return meter.NewJSON(w).Report(report) })
	collect("interval.txt", func(w *bufio.Writer) error { return meter.NewText(w, text.Form{}, false, false).Interval(report) })
	for _, surface := range []string{"stat.txt", "stat.json"} { // the length of a slot of the timer wheel is the kernel's
		surfaces[surface] = regexp.MustCompile(`60\.000s to 6\d\.\d\d\ds|"undisturbed_to_ns":\d+`).ReplaceAll(surfaces[surface], []byte("BAND"))
	}
	return surfaces
}

func demonstrate(r *saved.Run, s demo.Sink) error {
	for i := range r.Transitions {
		tr := r.Transitions[i].Tracer()
		if err := s.Transition(&tr); err != nil {
			return err
		}
	}
	s.Note(time.Duration(r.Mono), "a note")
	if err := s.Release(1<<63 - 1); err != nil {
		return err
	}
	return s.End(r.Name, demo.AsExpected, "an explanation")
}
