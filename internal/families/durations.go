package families

import (
	"math"

	"finwait/internal/meter"
	"finwait/tracer"
)

// timeWaitBounds have each edge of the kernel side's buckets from 54 to 68.7 s, in which a TIME_WAIT
// ends: they are 2^30 ns apart. Before and after they are wide: a TIME_WAIT that is reused ends early,
// and one that is re-armed late.
var timeWaitBounds = append([]uint64{1 << 24, 1 << 30, 1 << 32, 1 << 34, 1 << 35},
	append(steps(51<<30, 64<<30, 1<<30), 9<<33, 10<<33, 12<<33, 1<<37, 1<<38, 1<<39)...)

// handshakeBounds are a factor of 2 apart where networks differ, from 16 us to 2.1 s; after them come
// those of SYNs that were sent again.
var handshakeBounds = []uint64{1 << 14, 1 << 16, 1 << 17, 1 << 18, 1 << 19, 1 << 20, 1 << 21, 1 << 22, 1 << 23, 1 << 24, 1 << 25, 1 << 26, 1 << 27, 1 << 28, 1 << 29, 1 << 30, 1 << 31, 1 << 32, 1 << 33, 1 << 35, 1 << 37}

// stateBounds are a factor of 4 apart, from 66 us to 73 min.
var stateBounds = []uint64{1 << 16, 1 << 18, 1 << 20, 1 << 22, 1 << 24, 1 << 26, 1 << 28, 1 << 30, 1 << 32, 1 << 34, 1 << 36, 1 << 38, 1 << 40, 1 << 42}

func steps(from, to, by uint64) (all []uint64) {
	for ; from <= to; from += by {
		all = append(all, from)
	}
	return all
}

// timedStates are those that finwait_time_wait_seconds is not about.
func timedStates() (all []tracer.State) {
	for _, s := range meter.LifeOrder() {
		if s != tracer.TimeWait {
			all = append(all, s)
		}
	}
	return all
}

func durationFamilies() []*Family {
	states := func(r *reading, e *emitter) {
		for _, s := range timedStates() {
			e.durations(e.started, &r.Whole.Totals.Durations[s], StateWord(s))
		}
	}
	n := len(timedStates())
	sessions := func(r *reading, e *emitter) {
		for _, role := range []tracer.Role{tracer.RoleClient, tracer.RoleServer, tracer.RoleUnknown} {
			if d := &r.Whole.Totals.Sessions[role]; role != tracer.RoleUnknown || d.Count() > 0 {
				e.durations(e.started, d, roleWord(role))
			}
		}
	}
	return []*Family{
		{
			Name: "finwait_time_wait_seconds", otel: "finwait.tcp.time_wait.duration", Kind: Classic, Bounds: timeWaitBounds,
			Help:  "How long sockets were in TIME_WAIT. The bounds are edges of the buckets in which the kernel side counts, so the counts are exact; le means shorter.",
			usual: always(1), most: always(1),
			collect: func(r *reading, e *emitter) { e.durations(e.started, &r.Whole.Totals.Durations[tracer.TimeWait]) },
		},
		{
			Name: "finwait_state_duration_seconds", otel: "finwait.tcp.state.duration", Kind: Classic, Labels: []string{"state"}, Bounds: stateBounds,
			Help:  "How long sockets were in each other state, where the start was seen. The counts are exact; le means shorter.",
			usual: always(n), most: always(n), collect: states,
		},
		{
			Name: "finwait_state_duration_native_seconds", otel: "finwait.tcp.state.duration.native", Kind: Native, Labels: []string{"state"},
			Help:  "The same as a native histogram. Its buckets are not the kernel side's: a quantile can be off by 1/6.",
			usual: always(n), most: always(n), collect: states,
		},
		{
			Name: "finwait_handshake_duration_seconds", otel: "finwait.tcp.handshake.duration", Kind: Classic, Bounds: handshakeBounds,
			Help:  "How long the handshakes of clients took: from SYN_SENT to ESTABLISHED. A server's handshake waits in the kernel before it has a socket, and is not measured. The counts are exact; le means shorter.",
			usual: always(1), most: always(1),
			collect: func(r *reading, e *emitter) { e.durations(e.started, &r.Whole.Totals.Handshakes) },
		},
		{
			Name: "finwait_session_duration_seconds", otel: "finwait.tcp.session.duration", Kind: Classic, Labels: []string{"role"}, Bounds: stateBounds,
			Help:  "How long connections were ESTABLISHED: from the handshake to the first FIN, or to an RST. The counts are exact; le means shorter.",
			usual: always(2), most: always(3), collect: sessions,
		},
	}
}

// Shorter counts the durations that are shorter than a bound of a family, in ns. It is an edge of the
// kernel side's buckets, so no bucket lies on both sides of it.
func Shorter(d *tracer.Durations, bound uint64) (n uint64) {
	for b := range d.Buckets() {
		if uint64(b.High) <= bound {
			n += b.Count
		}
	}
	return n
}

// Seconds is a bound in seconds.
func Seconds(ns uint64) float64 { return float64(ns) / 1e9 }

// NativeSchema is that of a native histogram of Prometheus, and the scale of an exponential one of
// OpenTelemetry: 8 buckets for each power of two of seconds.
const NativeSchema = 3

// Rebin puts each bucket of the kernel side into the native bucket that has its middle, as the edges
// of the two do not agree. The same bucket always goes to the same place, so the counts only grow.
// Bucket i has what is over 2^((i-1)/8) s, up to 2^(i/8) s.
func Rebin(d *tracer.Durations) map[int]int64 {
	buckets := make(map[int]int64)
	for b := range d.Buckets() {
		middle := b.Low.Seconds()
		if b.High != math.MaxInt64 {
			middle = (b.Low.Seconds() + b.High.Seconds()) / 2
		}
		buckets[int(math.Ceil(math.Log2(middle)*(1<<NativeSchema)))] += int64(b.Count)
	}
	return buckets
}
