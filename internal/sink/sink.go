// Package sink shows transitions, segments and raw events to people and to programs.
package sink

import (
	"bufio"
	"time"

	"finwait/internal/jsonl"
	"finwait/internal/label"
	"finwait/internal/text"
	"finwait/tracer"
)

// A Sink is handed what a source reports, and in the end the accounts.
type Sink interface {
	Transition(*tracer.Transition) error
	Segment(*tracer.Segment) error
	Raw(*tracer.RawEvent) error
	End(tracer.Stats, tracer.HookSet) error
}

// Options say what is shown beside the transitions.
type Options struct {
	Form     text.Form           // of text
	Columns  text.Columns[Entry] // of text; none: the usual ones
	Clock    text.Clock          // how text writes times
	Began    time.Duration       // when finwait started: CLOCK_MONOTONIC
	KeepTime bool                // a narrow terminal shows times, too
	Fields   jsonl.Fields        // of transitions that have metrics
	Names    label.Names         // names of cgroups and network namespaces; nil: none
}

// New gives the sink of an output format: json, else text.
func New(format string, w *bufio.Writer, o Options) Sink {
	if format == "json" {
		out := jsonl.NewWriter(w)
		out.Fields, out.Names = o.Fields, o.Names
		return out
	}
	return NewText(w, o)
}
