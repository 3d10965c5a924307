// Package sink shows transitions, segments and raw events to people and to programs.
package sink

import (
	"bufio"

	"finwait/internal/jsonl"
	"finwait/internal/label"
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
	Colour bool         // ANSI colours in text
	NoHead bool         // no line of titles in text
	Clock  Clock        // how text writes times
	Fields jsonl.Fields // of transitions that have metrics
	Names  label.Names  // names of cgroups and network namespaces; nil: none
}

// New gives the sink of an output format: json, else text.
func New(format string, w *bufio.Writer, o Options) Sink {
	if format == "json" {
		out := jsonl.NewWriter(w)
		out.Fields, out.Names = o.Fields, o.Names
		return out
	}
	out := NewText(w, o.Colour)
	out.options, out.begun = o, o.NoHead
	return out
}
