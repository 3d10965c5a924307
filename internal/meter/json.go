package meter

import (
	"io"

	"finwait/internal/audit"
	"finwait/internal/jsonl"
	"finwait/internal/ktime"
	"finwait/tracer"

	"github.com/rs/zerolog"
)

// JSON writes one object for each interval, and one for the whole.
type JSON struct {
	w         *jsonl.Writer
	intervals bool // there was one
}

// NewJSON writes to w.
func NewJSON(w io.Writer) *JSON { return &JSON{w: jsonl.NewWriter(w)} }

// Interval writes an object "stat".
func (s *JSON) Interval(r *Report) error {
	s.intervals = true
	return s.write("stat", r)
}

// Report writes an object "stat" too, or, after intervals, "stat_total": who adds the
// objects "stat" up counts nothing twice.
func (s *JSON) Report(r *Report) error {
	if s.intervals {
		return s.write("stat_total", r)
	}
	return s.write("stat", r)
}

func (s *JSON) write(event string, r *Report) error {
	e := s.w.Event().Str("time", r.At.UTC().Format(jsonl.TimeFormat)).Str("event", event).Int64("span_ns", int64(r.Span))
	counts := "host"
	if r.Command {
		counts = "command"
	}
	e.Str("counts", counts).Array("states", statesJSON(r.Totals.State))

	edges, ends := zerolog.Arr(), zerolog.Arr()
	for _, edge := range r.Edges() {
		edges.Dict(zerolog.Dict().Stringer("from", edge.From).Stringer("to", edge.To).Uint64("count", edge.Count))
	}
	for _, end := range r.Totals.Endings() {
		ends.Dict(zerolog.Dict().Stringer("state", end.State).Stringer("reason", end.Reason).Stringer("detail", end.Detail).Uint64("count", end.Count))
	}
	e.Array("edges", edges).Array("ends", ends).Dict("time_wait", timeWaitJSON(r))
	if r.By != tracer.SplitNone {
		s.groups(e, r)
	}
	if r.Audit == nil {
		jsonl.Null(e, "audit")
	} else {
		e.Array("audit", auditJSON(r.Audit))
	}
	if r.Segmented {
		all := zerolog.Arr()
		for i := range r.Segments {
			all.Dict(jsonl.SegmentCount(&r.Segments[i]))
		}
		e.Array("segments", all).Uint64("segments_uncounted", r.Uncounted)
	}
	e.Dict("gone", jsonl.Gone(r.Totals))
	jsonl.Lost(e, r.Lost).Str("hooks", r.Hooks.String()).Send()
	return s.w.Err()
}

func statesJSON(state func(tracer.State) tracer.StateTotals) *zerolog.Array {
	all := zerolog.Arr()
	for _, s := range LifeOrder() {
		st := state(s)
		d := zerolog.Dict().Stringer("state", s).Int64("live", st.Live).Uint64("entered", st.Entered).Uint64("left", st.Left).Uint64("timed", st.Timed)
		for _, q := range []struct {
			key  string
			part float64
		}{{"p50_ns", 0.5}, {"p90_ns", 0.9}, {"p99_ns", 0.99}} {
			v, ok := st.Durations.Quantile(q.part)
			jsonl.Known(d, q.key, ok, uint64(v))
		}
		if st.Durations.Count() > 0 {
			d.Uint64("max_ns", uint64(st.Durations.Max))
		} else {
			jsonl.Null(d, "max_ns")
		}
		all.Dict(d.Uint64("total_ns", uint64(st.Spent)))
	}
	return all
}

func timeWaitJSON(r *Report) *zerolog.Event {
	d := zerolog.Dict().Uint64("rearms", r.Totals.Rearms)
	low, high, err := ktime.TimeWaitBand()
	jsonl.Known(d, "undisturbed_from_ns", err == nil, uint64(low))
	jsonl.Known(d, "undisturbed_to_ns", err == nil, uint64(high))
	buckets := zerolog.Arr()
	for b := range r.Totals.Durations[tracer.TimeWait].Buckets() {
		jsonl.Bucket(buckets, b)
	}
	return d.Array("durations", buckets)
}

func (s *JSON) groups(e *zerolog.Event, r *Report) {
	groups := zerolog.Arr()
	for _, g := range r.Groups {
		d := zerolog.Dict()
		if g.Name == "" {
			jsonl.Null(d, "name")
		} else {
			jsonl.Name(d, "name", []byte(g.Name))
		}
		if r.By == tracer.SplitNetNS {
			jsonl.Known(d, "netns_cookie", g.Name != "", g.NetNSCookie)
		}
		groups.Dict(d.Array("states", statesJSON(g.State)).Array("ends", endsJSON(g)))
	}
	e.Str("by", r.ByWord).Array("groups", groups).Uint64("ungrouped", r.Totals.Ungrouped)
	if r.Rest == nil {
		jsonl.Null(e, "others")
	} else {
		e.Dict("others", zerolog.Dict().Int("groups", r.Others).Array("states", statesJSON(r.Rest.State)).Array("ends", endsJSON(r.Rest)))
	}
}

func endsJSON(g *tracer.Group) *zerolog.Array {
	all := zerolog.Arr()
	for _, end := range EndsOf(g) {
		all.Dict(zerolog.Dict().Stringer("reason", end.Reason).Uint64("count", end.Count))
	}
	return all
}

func auditJSON(rows []audit.Row) *zerolog.Array {
	all := zerolog.Arr()
	for _, r := range rows {
		d := zerolog.Dict().Uint32("netns", r.NetNS)
		if r.Counter == "" {
			for _, key := range []string{"counter", "kernel", "finwait"} {
				jsonl.Null(d, key)
			}
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
