package demo

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"finwait/internal/jsonl"
	"finwait/internal/load"
	"finwait/internal/text"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

var quantiles = []struct {
	name string
	q    float64
}{{"p50", 0.5}, {"p99", 0.99}, {"max", 1}}

// LoadText writes the summary of a load for people. waits is how many sockets were left in
// TIME_WAIT; less than 0: not known.
func LoadText(w io.Writer, s *load.Summary, waits int) {
	fmt.Fprintf(w, "made      %d connections in %s, %.0f a second\n", s.Made, text.Span(s.Elapsed), float64(s.Made)/s.Elapsed.Seconds())
	for _, err := range failures(s) {
		fmt.Fprintf(w, "failed    %d: %v\n", s.Failed[err], err)
	}
	for i, q := range quantiles {
		if ns, _, ok := s.Connect.Quantile(q.q); ok {
			fmt.Fprintf(w, "%s%s %s", []string{"connect() ", ", ", ", "}[i], q.name, text.Span(time.Duration(ns)))
		}
	}
	if s.Made > 0 {
		fmt.Fprintln(w)
	}
	if waits >= 0 {
		fmt.Fprintf(w, "left      %d in TIME_WAIT, which go with the namespace\n", waits)
	}
}

// failures are why connections failed, the most frequent first.
func failures(s *load.Summary) []error {
	return slices.SortedFunc(maps.Keys(s.Failed), func(a, b error) int {
		return cmp.Or(s.Failed[b]-s.Failed[a], strings.Compare(a.Error(), b.Error()))
	})
}

// LoadJSON writes the summary as one object; waits is as for LoadText.
func LoadJSON(w io.Writer, s *load.Summary, waits int) {
	e := jsonl.NewWriter(w).Event().Str("event", "load").Int("made", s.Made).Int64("elapsed_ns", int64(s.Elapsed)).
		Float64("per_second", float64(s.Made)/s.Elapsed.Seconds())
	failed := zerolog.Dict()
	for _, err := range failures(s) {
		failed.Int(errName(err), s.Failed[err])
	}
	e.Dict("failed", failed)
	for _, q := range quantiles {
		ns, _, ok := s.Connect.Quantile(q.q)
		jsonl.Known(e, "connect_"+q.name+"_ns", ok, ns)
	}
	jsonl.Known(e, "time_wait", waits >= 0, uint64(max(waits, 0)))
	e.Send()
}

// errName is the name of an errno, such as ECONNREFUSED.
func errName(err error) string {
	if errno, ok := err.(unix.Errno); ok {
		return unix.ErrnoName(errno)
	}
	return err.Error()
}
