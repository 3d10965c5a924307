package jsonl

import (
	"fmt"

	"finwait/tracer"

	"github.com/rs/zerolog"
)

// Totals writes totals whole, to be read back: what is not 0 of live sockets,
// transitions, ends and durations. A recording holds them; stat shows a report instead.
func (w *Writer) Totals(t *tracer.Totals) error {
	live, edges, ends, durations := zerolog.Dict(), zerolog.Arr(), zerolog.Arr(), zerolog.Arr()
	for _, s := range tracer.States() {
		if n := t.Live[s]; n != 0 {
			live.Int64(s.String(), n)
		}
		for _, to := range tracer.States() {
			if n := t.Edges[s][to]; n > 0 {
				edges.Dict(zerolog.Dict().Stringer("from", s).Stringer("to", to).Uint64("count", n))
			}
		}
		if d := &t.Durations[s]; *d != (tracer.Durations{}) {
			buckets := zerolog.Arr()
			for b := range d.Buckets() {
				Bucket(buckets, b)
			}
			durations.Dict(zerolog.Dict().Stringer("state", s).Int64("total_ns", int64(d.Total)).Int64("max_ns", int64(d.Max)).
				Array("buckets", buckets))
		}
	}
	for _, e := range t.Endings() {
		word, err := e.Reason.MarshalText()
		if err != nil {
			return fmt.Errorf("write totals: %w", err)
		}
		ends.Dict(zerolog.Dict().Stringer("state", e.State).Bytes("reason", word).Stringer("detail", e.Detail).Uint64("count", e.Count))
	}
	w.Event().Str("event", "totals").Dict("live", live).Array("edges", edges).Array("ends", ends).Array("durations", durations).
		Uint64("rearms", t.Rearms).Uint64("ungrouped", t.Ungrouped).Dict("gone", Gone(t)).Send()
	return w.Err()
}

// Gone has the live sockets whose end was missed, by their last state, of states that have any.
func Gone(t *tracer.Totals) *zerolog.Event {
	gone := zerolog.Dict()
	for _, s := range tracer.States() {
		if n := t.Gone[s]; n > 0 {
			gone.Uint64(s.String(), n)
		}
	}
	return gone
}
