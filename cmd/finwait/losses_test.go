package main

import (
	"bufio"
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"finwait/tracer"

	"github.com/rs/zerolog"
)

// Whatever tells of losses by cause tells of each, and how many.
func TestEveryLossIsShown(t *testing.T) {
	var lost tracer.Lost
	for i, v := 0, reflect.ValueOf(&lost).Elem(); i < v.NumField(); i++ {
		v.Field(i).SetUint(uint64(1001 + i))
	}
	r := sampleReport()
	r.lost = lost
	var summary, line bytes.Buffer
	if err := newJSONSink(&summary).summary(tracer.Stats{Lost: lost}, "fentry"); err != nil {
		t.Fatal(err)
	}
	log := zerolog.New(&line)
	logLost(log.Warn(), lost).Send()

	const json, text = `"%v":%d`, "%v %d"
	for name, surface := range map[string]struct{ shown, format string }{
		"trace, JSON": {summary.String(), json},
		"trace, log":  {line.String(), json},
		"stat, JSON":  {reportJSON(t, r), json},
		"stat, text":  {reportText(t, &statText{w: bufio.NewWriter(nil)}, r), text},
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
