package metrics

import (
	"finwait/internal/meter"
	"finwait/tracer"
)

// timeWaitBounds have each edge of the kernel side's buckets from 54 to 68.7 s, in which a TIME_WAIT
// ends: they are 2^30 ns apart. Before and after they are wide: a TIME_WAIT that is reused ends early,
// and one that is re-armed late.
var timeWaitBounds = append([]uint64{1 << 24, 1 << 30, 1 << 32, 1 << 34, 1 << 35},
	append(steps(51<<30, 64<<30, 1<<30), 9<<33, 10<<33, 12<<33, 1<<37, 1<<38, 1<<39)...)

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

func durationFamilies() []*family {
	states := func(r *reading, e *emitter) {
		for _, s := range timedStates() {
			e.durations(e.started, &r.Whole.Totals.Durations[s], word(s))
		}
	}
	n := len(timedStates())
	return []*family{
		{
			name: "finwait_time_wait_seconds", kind: classic, bounds: timeWaitBounds,
			help:  "How long sockets were in TIME_WAIT. The bounds are edges of the buckets in which the kernel side counts, so the counts are exact; le means shorter.",
			usual: always(1), most: always(1),
			collect: func(r *reading, e *emitter) { e.durations(e.started, &r.Whole.Totals.Durations[tracer.TimeWait]) },
		},
		{
			name: "finwait_state_duration_seconds", kind: classic, labels: []string{"state"}, bounds: stateBounds,
			help:  "How long sockets were in each other state, where the start was seen. The counts are exact; le means shorter.",
			usual: always(n), most: always(n), collect: states,
		},
		{
			name: "finwait_state_duration_native_seconds", kind: native, labels: []string{"state"},
			help:  "The same as a native histogram. Its buckets are not the kernel side's: a quantile can be off by 1/6.",
			usual: always(n), most: always(n), collect: states,
		},
	}
}
