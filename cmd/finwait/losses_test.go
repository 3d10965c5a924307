package main

import (
	"bufio"
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"finwait/internal/jsonl"
	"finwait/internal/meter"
	"finwait/internal/text"
	"finwait/tracer"

	"github.com/rs/zerolog"
)

// Whatever tells of losses by cause tells of each, and how many.
func TestEveryLossIsShown(t *testing.T) {
	var lost tracer.Lost
	for i, v := 0, reflect.ValueOf(&lost).Elem(); i < v.NumField(); i++ {
		v.Field(i).SetUint(uint64(1001 + i))
	}
	r := &meter.Report{Totals: new(tracer.Totals), Lost: lost}
	var summary, line, statJSON, statText bytes.Buffer
	out := bufio.NewWriter(&statText)
	for _, err := range []error{
		jsonl.NewWriter(&summary).End(tracer.Stats{Lost: lost}, tracer.HooksFentry),
		meter.NewJSON(&statJSON).Report(r),
		meter.NewText(out, text.Form{}, false, false).Report(r),
		out.Flush(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	log := zerolog.New(&line)
	logLost(log.Warn(), lost).Send()

	const json, text = `"%v":%d`, "%v %d"
	for name, surface := range map[string]struct{ shown, format string }{
		"trace, JSON": {summary.String(), json},
		"trace, log":  {line.String(), json},
		"stat, JSON":  {statJSON.String(), json},
		"stat, text":  {statText.String(), text},
	} {
		n := 0
		for cause, count := range lost.All() {
			if n++; cause == tracer.LossRingFull && name == "stat, text" {
				continue // it has no stream
			}
			if want := fmt.Sprintf(surface.format, cause, count); !strings.Contains(surface.shown, want) {
				t.Errorf("%s: no %q in %s", name, want, surface.shown)
			}
		}
		if n != reflect.TypeOf(lost).NumField() {
			t.Errorf("%d causes of %d", n, reflect.TypeOf(lost).NumField())
		}
	}
}

// A filtered run does not say that something is missing from it, unless that is known.
func TestLossesOfAFilteredRun(t *testing.T) {
	const share = "12 transitions of the host were lost of 4,120 seen (0.29 %)"
	for _, c := range []struct {
		lost     tracer.Lost
		filtered bool
		want     string
	}{
		{tracer.Lost{Missed: 12}, false, share + ": what was shown is not all that happened"},
		{tracer.Lost{RingFull: 12}, false, share + ": what was shown is not all that happened"},
		{tracer.Lost{Missed: 11, MapFull: 1}, true, share + "; some may belong to what is shown"},
		{tracer.Lost{Missed: 9, RingFull: 3}, true, share + "; 3 of them match: what was shown is not all"},
	} {
		if got := losses(c.lost, 4120, c.filtered, "shown"); got != c.want {
			t.Errorf("%+v: %q, want %q", c.lost, got, c.want)
		}
	}
}
