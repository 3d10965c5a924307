package families

import (
	"finwait/internal/meter"
	"finwait/tracer"
)

// Numbers of words, for the counts of series.
var (
	nStates  = len(meter.LifeOrder())
	nReasons = len(tracer.Reasons()) - 1 // ReasonNone is no end's
	nRoles   = len(tracer.Roles())
)

// connected is the result of a connect that did not fail.
const connected = "established"

// trafficFamilies are about the sockets of the host.
func trafficFamilies() []*Family {
	return []*Family{
		{
			Name: "finwait_connections", otel: "system.network.connection.count", UpDown: true, Kind: Gauge, Labels: []string{"state"},
			Help:  "Sockets that are in each state now, in all network namespaces.",
			usual: always(nStates), most: always(nStates),
			collect: func(r *reading, e *emitter) {
				for _, s := range meter.LifeOrder() {
					e.gauge(float64(r.Whole.Totals.Live[s]), StateWord(s))
				}
			},
		},
		{
			Name: "finwait_transitions_total", otel: "finwait.tcp.transitions", Kind: Counter, Labels: []string{"from", "to"},
			Help:  "State transitions.",
			usual: always(22), most: always((nStates + 1) * nStates),
			collect: func(r *reading, e *emitter) {
				for _, edge := range r.Whole.Edges() {
					e.count(float64(edge.Count), StateWord(edge.From), StateWord(edge.To))
				}
			},
		},
		{
			Name: "finwait_closes_total", otel: "finwait.tcp.closes", Kind: Counter, Labels: []string{"state", "reason", "role"},
			Help:  "Sockets that became CLOSED, by the state that they left and why. finwait help reasons explains the reasons. role is client, server or listener, or unknown of a socket that finwait has not seen begin.",
			usual: always(60), most: always(nStates * nReasons * nRoles),
			collect: func(r *reading, e *emitter) {
				for _, role := range tracer.Roles() {
					of := &r.Whole.Totals.Roles[role]
					for _, s := range tracer.States() {
						for _, reason := range tracer.Reasons() {
							if n := of.Ends[s][reason]; n > 0 {
								e.count(float64(n), StateWord(s), reasonWord(reason), roleWord(role))
							}
						}
					}
				}
			},
		},
		{
			Name: "finwait_active_closes_total", otel: "finwait.tcp.active_closes", Kind: Counter, Labels: []string{"role"},
			Help:  "Connections that sent the first FIN, so that this end goes through TIME_WAIT. Two FINs that cross are both first.",
			usual: always(2), most: always(3),
			collect: byRole(func(e *emitter, of *tracer.RoleTotals, role string) { e.count(float64(of.ActiveCloses()), role) }),
		},
		{
			Name: "finwait_passive_closes_total", otel: "finwait.tcp.passive_closes", Kind: Counter, Labels: []string{"role"},
			Help:  "Connections that received the first FIN.",
			usual: always(2), most: always(3),
			collect: byRole(func(e *emitter, of *tracer.RoleTotals, role string) { e.count(float64(of.PassiveCloses()), role) }),
		},
		{
			Name: "finwait_connects_total", otel: "finwait.tcp.connects", Kind: Counter, Labels: []string{"result"},
			Help:  "Calls of connect() that are over: established, or the reason why not. One that meets another connect() on its way is in neither.",
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
			Name: "finwait_time_wait_rearms_total", otel: "finwait.tcp.time_wait.rearms", Kind: Counter,
			Help:  "How often a segment made a TIME_WAIT begin its 60 s anew.",
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

// roleWord is "unknown" for a socket that was not seen to begin.
func roleWord(r tracer.Role) string {
	if r == tracer.RoleUnknown {
		return "unknown"
	}
	return r.String()
}

// byRole is for the roles that a connection can have. Those of clients and servers have a series before
// anything happens; unknown has one if there was such a socket.
func byRole(fn func(e *emitter, of *tracer.RoleTotals, role string)) func(*reading, *emitter) {
	return func(r *reading, e *emitter) {
		for _, role := range []tracer.Role{tracer.RoleClient, tracer.RoleServer, tracer.RoleUnknown} {
			of := &r.Whole.Totals.Roles[role]
			if role != tracer.RoleUnknown || of.ActiveCloses()+of.PassiveCloses() > 0 {
				fn(e, of, roleWord(role))
			}
		}
	}
}
