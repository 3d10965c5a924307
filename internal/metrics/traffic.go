package metrics

import (
	"finwait/internal/meter"
	"finwait/tracer"
)

// Numbers of words, for the counts of series.
var (
	nStates  = len(meter.LifeOrder())
	nReasons = len(tracer.Reasons()) - 1 // ReasonNone is no end's
)

// connected is the result of a connect that did not fail.
const connected = "established"

// trafficFamilies are about the sockets of the host.
func trafficFamilies() []*family {
	return []*family{
		{
			name: "finwait_connections", kind: gauge, labels: []string{"state"},
			help:  "Sockets that are in each state now, in all network namespaces.",
			usual: always(nStates), most: always(nStates),
			collect: func(r *reading, e *emitter) {
				for _, s := range meter.LifeOrder() {
					e.gauge(float64(r.Whole.Totals.Live[s]), word(s))
				}
			},
		},
		{
			name: "finwait_transitions_total", kind: counter, labels: []string{"from", "to"},
			help:  "State transitions.",
			usual: always(22), most: always((nStates + 1) * nStates),
			collect: func(r *reading, e *emitter) {
				for _, edge := range r.Whole.Edges() {
					e.count(float64(edge.Count), word(edge.From), word(edge.To))
				}
			},
		},
		{
			name: "finwait_closes_total", kind: counter, labels: []string{"state", "reason"},
			help:  "Sockets that became CLOSED, by the state that they left and why. finwait help reasons explains the reasons.",
			usual: always(40), most: always(nStates * nReasons),
			collect: func(r *reading, e *emitter) {
				for _, s := range tracer.States() {
					for _, reason := range tracer.Reasons() {
						if n := r.Whole.Totals.Ends[s][reason]; n > 0 {
							e.count(float64(n), word(s), reasonWord(reason))
						}
					}
				}
			},
		},
		{
			name: "finwait_connects_total", kind: counter, labels: []string{"result"},
			help:  "Calls of connect() that are over: established, or the reason why not. One that meets another connect() on its way is in neither.",
			usual: always(nReasons + 1), most: always(nReasons + 1),
			collect: func(r *reading, e *emitter) {
				e.count(float64(r.Whole.Totals.Edges[tracer.SynSent][tracer.Established]), connected)
				for _, reason := range tracer.Reasons() {
					if n := r.Whole.Totals.Ends[tracer.SynSent][reason]; n > 0 || canFailConnect(reason) {
						e.count(float64(n), reasonWord(reason))
					}
				}
			},
		},
		{
			name: "finwait_time_wait_rearms_total", kind: counter,
			help:  "How often a segment made a TIME_WAIT begin its 60 s anew.",
			usual: always(1), most: always(1),
			collect: func(r *reading, e *emitter) { e.count(float64(r.Whole.Totals.Rearms)) },
		},
	}
}

// canFailConnect is what has a series before it happens, so that the first time is a rate, too.
func canFailConnect(r tracer.Reason) bool {
	switch r {
	case tracer.ReasonRefused, tracer.ReasonTimedOut, tracer.ReasonUnreachable, tracer.ReasonNoPort, tracer.ReasonReset,
		tracer.ReasonAborted, tracer.ReasonInUse, tracer.ReasonGivenUp:
		return true
	}
	return false
}

// reasonWord is "unknown" for an end of which the kernel shows no reason.
func reasonWord(r tracer.Reason) string {
	if r == tracer.ReasonNone {
		return "unknown"
	}
	return r.String()
}
