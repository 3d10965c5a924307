package main

import (
	"math"

	"finwait/internal/audit"
	"finwait/tracer"

	"github.com/rs/zerolog"
)

// A statJSON writes one object for each interval, or for the whole. The last has the audit.
type statJSON struct {
	j *jsonSink
}

// interval waits for report where it is the last one: that has more to say.
func (s *statJSON) interval(r *statReport) error {
	if r.last {
		return nil
	}
	return s.report(r)
}

func (s *statJSON) report(r *statReport) error {
	e := s.j.log.Log().Str("time", r.end.UTC().Format(timeFormat)).Str("event", "stat").Int64("span_ns", int64(r.span))
	e.Array("states", statesJSON(r.totals.State))

	edges, ends := zerolog.Arr(), zerolog.Arr()
	for _, edge := range r.edges() {
		edges.Dict(zerolog.Dict().Stringer("from", edge.from).Stringer("to", edge.to).Uint64("count", edge.count))
	}
	for _, end := range r.ends() {
		ends.Dict(zerolog.Dict().Stringer("state", end.from).Str("reason", end.reason.String()).Uint64("count", end.count))
	}
	e.Array("edges", edges).Array("ends", ends).Dict("time_wait", timeWaitJSON(r))
	if r.by != tracer.SplitNone {
		s.groups(e, r)
	}
	if r.audit == nil {
		e.RawJSON("audit", null)
	} else {
		e.Array("audit", auditJSON(r.audit))
	}
	e.Dict("lost", logLost(zerolog.Dict(), r.lost))
	e.Str("hooks", r.hooks).Send()
	return s.j.w.err
}

func statesJSON(state func(tracer.State) tracer.StateTotals) *zerolog.Array {
	all := zerolog.Arr()
	for _, s := range lifeOrder {
		st := state(s)
		timed := st.Durations.Count()
		d := zerolog.Dict().Stringer("state", s).Int64("live", st.Live).Uint64("entered", st.Entered).Uint64("left", st.Left).Uint64("timed", timed)
		for _, q := range []struct {
			key  string
			part float64
		}{{"p50_ns", 0.5}, {"p90_ns", 0.9}, {"p99_ns", 0.99}} {
			v, ok := st.Durations.Quantile(q.part)
			known(d, q.key, ok, uint64(v))
		}
		known(d, "max_ns", timed > 0, uint64(st.Durations.Max))
		all.Dict(d.Uint64("total_ns", uint64(st.Durations.Total)))
	}
	return all
}

func timeWaitJSON(r *statReport) *zerolog.Event {
	d := zerolog.Dict().Uint64("rearms", r.totals.Rearms)
	low, high, err := timeWaitBand()
	known(d, "undisturbed_from_ns", err == nil, uint64(low))
	known(d, "undisturbed_to_ns", err == nil, uint64(high))
	buckets := zerolog.Arr()
	for b := range r.totals.Durations[tracer.TimeWait].Buckets() {
		high := uint64(b.High)
		if b.High == math.MaxInt64 {
			high = math.MaxUint64 // no end
		}
		buckets.Dict(zerolog.Dict().Uint64("from_ns", uint64(b.Low)).Uint64("to_ns", high).Uint64("count", b.Count))
	}
	return d.Array("durations", buckets)
}

func (s *statJSON) groups(e *zerolog.Event, r *statReport) {
	groups := zerolog.Arr()
	for _, g := range r.groups {
		d := zerolog.Dict()
		if g.Name == "" {
			d.RawJSON("name", null)
		} else {
			nameJSON(d, "name", []byte(g.Name))
		}
		groups.Dict(d.Array("states", statesJSON(g.State)))
	}
	e.Str("by", r.by.String()).Array("groups", groups).Uint64("ungrouped", r.totals.Ungrouped)
	if r.rest == nil {
		e.RawJSON("others", null)
	} else {
		e.Dict("others", zerolog.Dict().Int("groups", r.others).Array("states", statesJSON(r.rest.State)))
	}
}

func auditJSON(rows []audit.Row) *zerolog.Array {
	all := zerolog.Arr()
	for _, r := range rows {
		d := zerolog.Dict().Uint32("netns", r.NetNS)
		if r.Counter == "" {
			d.RawJSON("counter", null).RawJSON("kernel", null).RawJSON("finwait", null)
		} else {
			d.Str("counter", r.Counter).Int64("kernel", r.Kernel).Int64("finwait", r.Finwait)
		}
		d.Str("verdict", string(r.Verdict))
		if r.Cause != "" {
			d.Str("cause", r.Cause)
		}
		all.Dict(d)
	}
	return all
}
