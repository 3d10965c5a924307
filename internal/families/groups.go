package families

import (
	"finwait/internal/meter"
	"finwait/tracer"
)

// Other is the label of all groups together that have no place of their own.
const Other = meter.OtherPlace

// groupFamilies split some of it.
func groupFamilies(o *Options) []*Family {
	places := func(o *Options) int { return o.Limit + 2 } // the others, and what has no name
	byState := func(o *Options) int { return places(o) * nStates }
	all := []*Family{
		{
			Name: "finwait_group_connections", UpDown: true, Kind: Gauge, Labels: []string{o.By, "state"},
			Help:  "Sockets of a group that are in each state now.",
			usual: byState, most: byState,
			collect: eachPlace(func(e *emitter, p *meter.Place, name string) {
				for _, s := range meter.LifeOrder() {
					if st := p.Group.States[s]; st != nil {
						e.gauge(float64(st.Live), name, StateWord(s))
					}
				}
			}),
		},
		{
			Name: "finwait_group_entered_total", Kind: Counter, Labels: []string{o.By, "state"},
			Help:  "How often a socket of a group entered each state.",
			usual: byState, most: byState,
			collect: eachPlace(func(e *emitter, p *meter.Place, name string) {
				for _, s := range meter.LifeOrder() {
					if st := p.Group.States[s]; st != nil {
						e.countSince(p.Since, float64(st.Entered), name, StateWord(s))
					}
				}
			}),
		},
		{
			Name: "finwait_group_closes_total", Kind: Counter, Labels: []string{o.By, "reason"},
			Help:  "Sockets of a group that became CLOSED, by reason.",
			usual: func(o *Options) int { return places(o) * 4 }, most: func(o *Options) int { return places(o) * (nReasons + 1) },
			collect: eachPlace(func(e *emitter, p *meter.Place, name string) {
				for _, reason := range tracer.Reasons() {
					if n := p.Group.Ends[reason]; n > 0 {
						e.countSince(p.Since, float64(n), name, reasonWord(reason))
					}
				}
			}),
		},
		{
			Name: "finwait_group_state_duration_seconds", Kind: Summary, Labels: []string{o.By, "state"},
			Help:  "How long sockets of a group were in each state, where the start was seen: the sum and how many they are.",
			usual: byState, most: byState,
			collect: eachPlace(func(e *emitter, p *meter.Place, name string) {
				for _, s := range meter.LifeOrder() {
					if st := p.Group.States[s]; st != nil {
						e.summary(p.Since, st.Timed, st.Spent, name, StateWord(s))
					}
				}
			}),
		},
		{
			Name: "finwait_groups", Kind: Gauge,
			Help:  "Groups that have a label of their own.",
			usual: always(1), most: always(1),
			collect: func(r *reading, e *emitter) { e.gauge(float64(r.Groups.Placed())) },
		},
		{
			Name: "finwait_groups_without_room", Kind: Gauge,
			Help:  "Groups that are counted under " + Other + ", because --limit groups have a label already.",
			usual: always(1), most: always(1),
			collect: func(r *reading, e *emitter) { e.gauge(float64(r.Groups.WithoutRoom())) },
		},
		{
			Name: "finwait_ungrouped_transitions_total", Kind: Counter,
			Help:  "Transitions that are in no group, also not in " + Other + ", because the kernel side had no room to tell their group apart.",
			usual: always(1), most: always(1),
			collect: func(r *reading, e *emitter) { e.count(float64(r.Whole.Totals.Ungrouped)) },
		},
	}
	return all
}

func eachPlace(fn func(*emitter, *meter.Place, string)) func(*reading, *emitter) {
	return func(r *reading, e *emitter) {
		for name, p := range r.Groups.All() {
			fn(e, p, name)
		}
	}
}
