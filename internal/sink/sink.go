// Package sink shows transitions, segments and raw events to people and to programs.
package sink

import (
	"bufio"

	"finwait/internal/jsonl"
	"finwait/tracer"
)

// A Sink is handed what a source reports, and in the end the accounts.
type Sink interface {
	Transition(*tracer.Transition) error
	Segment(*tracer.Segment) error
	Raw(*tracer.RawEvent) error
	End(tracer.Stats, tracer.HookSet) error
}

// New gives the sink of an output format: json, else text. fields: of transitions that
// have metrics.
func New(format string, w *bufio.Writer, colour bool, fields jsonl.Fields) Sink {
	if format == "json" {
		out := jsonl.NewWriter(w)
		out.Fields = fields
		return out
	}
	out := NewText(w, colour)
	out.Fields = fields
	return out
}
