package doctor

import (
	"maps"
	"time"

	"finwait/tracer"
)

// cut is a connection of a client that is reset at this time, after a silence.
func cut(at, silence time.Duration, change ...func(*tracer.Transition)) []tracer.Transition {
	return []tracer.Transition{end(tracer.RoleClient, tracer.Established, tracer.Closed, time.Hour,
		append([]func(*tracer.Transition){because(tracer.ReasonReset, tracer.DetailDataUnacked), when(24*time.Hour + at), silentFor(silence)}, change...)...)}
}

func silentFor(d time.Duration) func(*tracer.Transition) {
	return func(t *tracer.Transition) { t.Metrics = &tracer.Metrics{Known: true, Silence: d} }
}

func detail(d tracer.Detail) func(*tracer.Transition) {
	return func(t *tracer.Transition) { t.Detail = d }
}

var idleScenarios = map[string]scenario{
	"idle connections are cut":                          {watched(sysctl("tcp_keepalive_time", "7200"), cut(0, 351*time.Second), cut(time.Second, 400*time.Second), cut(400*time.Second, 352*time.Second)), "idle-cut failing"},
	"idle connections are cut, and keepalive is sooner": {watched(sysctl("tcp_keepalive_time", "60"), cut(0, 351*time.Second), cut(1, time.Hour), cut(2, time.Hour)), "idle-cut failing"},
	"idle connections, and one that was never answered": {watched(nil, cut(0, time.Hour), cut(1, time.Hour), cut(2, time.Hour), cut(3, -1)), "idle-cut failing"},
	"two idle connections are cut":                      {watched(nil, cut(0, time.Hour), cut(1, time.Hour)), ""},
	"a busy connection is cut, too":                     {watched(nil, cut(0, time.Hour), cut(1, time.Hour), cut(2, time.Hour), cut(3, time.Second)), ""},
	"busy connections are cut":                          {watched(nil, cut(0, 29*time.Second), cut(1, 29*time.Second), cut(2, 29*time.Second)), ""},
	"idle connections that nothing was sent on":         {watched(nil, times(9, cut(0, time.Hour, detail(tracer.DetailNone))...)), ""},
	"idle, nobody knows for how long":                   {watched(nil, times(9, cut(0, -1)...), times(9, cut(0, 0, func(t *tracer.Transition) { t.Metrics = nil })...)), ""},
	"idle, and given up by the kernel":                  {watched(nil, times(9, cut(0, time.Hour, because(tracer.ReasonTimedOut, tracer.DetailRetransmissions))...)), ""},
	"idle connections to several destinations":          {watched(nil, cut(0, time.Hour), cut(0, time.Hour, toward("10.0.0.10:80", "10.0.0.4:1")), cut(0, time.Hour, toward("10.0.0.11:80", "10.0.0.4:1"))), ""},
	"idle clients": {watched(nil, times(9, cut(0, time.Hour, func(t *tracer.Transition) { t.Role = tracer.RoleServer })...)), ""},
}

func init() { maps.Copy(scenarios, idleScenarios) }
