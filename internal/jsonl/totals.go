package jsonl

import (
	"fmt"

	"finwait/tracer"

	"github.com/rs/zerolog"
)

// Totals writes totals whole, to be read back: what is not 0 of live sockets,
// transitions, ends and durations. A recording holds them; stat shows a report instead.
func (w *Writer) Totals(t *tracer.Totals) error {
	live, ends, durations := zerolog.Dict(), zerolog.Arr(), zerolog.Arr()
	for _, s := range tracer.States() {
		if n := t.Live[s]; n != 0 {
			live.Int64(s.String(), n)
		}
		if d := &t.Durations[s]; *d != (tracer.Durations{}) {
			durations.Dict(durationsOf(d).Stringer("state", s))
		}
	}
	for _, e := range t.Endings() {
		end, err := ending(e.State, e.Reason, e.Count)
		if err != nil {
			return err
		}
		ends.Dict(end.Stringer("detail", e.Detail))
	}
	roles, sessions, err := byRole(t)
	if err != nil {
		return err
	}
	w.Event().Str("event", "totals").Dict("live", live).Array("edges", edges(&t.Edges)).Array("ends", ends).Array("roles", roles).
		Array("durations", durations).Dict("handshakes", durationsOf(&t.Handshakes)).Array("sessions", sessions).
		Uint64("rearms", t.Rearms).Uint64("ungrouped", t.Ungrouped).Dict("gone", Gone(t)).Send()
	return w.Err()
}

// byRole has the roles of which there is something.
func byRole(t *tracer.Totals) (roles, sessions *zerolog.Array, err error) {
	roles, sessions = zerolog.Arr(), zerolog.Arr()
	for _, role := range tracer.Roles() {
		if d := &t.Sessions[role]; *d != (tracer.Durations{}) {
			sessions.Dict(durationsOf(d).Stringer("role", role))
		}
		of := &t.Roles[role]
		if *of == (tracer.RoleTotals{}) {
			continue
		}
		ends := zerolog.Arr()
		for _, s := range tracer.States() {
			for reason, n := range of.Ends[s] {
				if n == 0 {
					continue
				}
				end, err := ending(s, tracer.Reason(reason), n)
				if err != nil {
					return nil, nil, err
				}
				ends.Dict(end)
			}
		}
		roles.Dict(zerolog.Dict().Stringer("role", role).Array("edges", edges(&of.Edges)).Array("ends", ends))
	}
	return roles, sessions, nil
}

// edgeCounts are tracer.Totals.Edges.
type edgeCounts = [len(tracer.Totals{}.Edges)][len(tracer.Totals{}.Edges)]uint64

func edges(counts *edgeCounts) *zerolog.Array {
	all := zerolog.Arr()
	for _, from := range tracer.States() {
		for _, to := range tracer.States() {
			if n := counts[from][to]; n > 0 {
				all.Dict(zerolog.Dict().Stringer("from", from).Stringer("to", to).Uint64("count", n))
			}
		}
	}
	return all
}

func ending(s tracer.State, r tracer.Reason, n uint64) (*zerolog.Event, error) {
	word, err := r.MarshalText()
	if err != nil {
		return nil, fmt.Errorf("write totals: %w", err)
	}
	return zerolog.Dict().Stringer("state", s).Bytes("reason", word).Uint64("count", n), nil
}

func durationsOf(d *tracer.Durations) *zerolog.Event {
	buckets := zerolog.Arr()
	for b := range d.Buckets() {
		Bucket(buckets, b)
	}
	return zerolog.Dict().Int64("total_ns", int64(d.Total)).Int64("max_ns", int64(d.Max)).Array("buckets", buckets)
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
