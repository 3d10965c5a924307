package doctor

import (
	"maps"
	"net/netip"
	"testing"
	"time"

	"finwait/tracer"
)

const v6Target = "[2001:db8::9]:80"

// twoTries are n refusals over IPv6, and so long after each a connection over IPv4.
func twoTries(n int, gap time.Duration, change ...func(*tracer.Transition)) (all []tracer.Transition) {
	for i := range n {
		at := time.Duration(i+1) * time.Second
		all = append(all, failed(tracer.ReasonRefused, ms, toward(v6Target, "[2001:db8::4]:40000"), when(at)),
			connectedAfter(80*ms, append([]func(*tracer.Transition){when(at + gap + 80*ms)}, change...)...))
	}
	return all
}

func when(ktime time.Duration) func(*tracer.Transition) {
	return func(t *tracer.Transition) { t.Ktime = ktime }
}

func ofProcess(pid uint32) func(*tracer.Transition) {
	return func(t *tracer.Transition) { t.Owner.PID = pid }
}

var peerScenarios = map[string]scenario{
	"IPv6 is refused first":                         {watched(nil, twoTries(3, ms)), "v6-first-refused note"},
	"IPv6 is refused first, often":                  {watched(nil, twoTries(40, ms)), "v6-first-refused note"},
	"IPv6 is refused first, twice":                  {watched(nil, twoTries(2, ms)), ""},
	"IPv4 a while after IPv6":                       {watched(nil, twoTries(9, 60*ms)), ""},
	"IPv4 that began before":                        {watched(nil, twoTries(9, -2*ms)), ""},
	"IPv4 of another process":                       {watched(nil, twoTries(9, ms, ofProcess(813))), ""},
	"IPv4 to another port":                          {watched(nil, twoTries(9, ms, toward("10.0.0.9:81", "10.0.0.4:40000"))), ""},
	"IPv4 connections by themselves":                {watched(nil, twoTries(9, ms), times(2, connectedAfter(ms, when(time.Hour)))), ""},
	"IPv6 refusals by themselves":                   {watched(nil, twoTries(9, ms), times(2, failed(tracer.ReasonRefused, ms, toward(v6Target, "[2001:db8::4]:40000")))), "refused-storm failing"},
	"IPv6 that is refused now and then":             {watched(nil, twoTries(9, ms), times(1, connectedAfter(ms, toward(v6Target, "[2001:db8::4]:40000")))), ""},
	"two IPv4 connections for each refusal":         {watched(nil, eachTwice(twoTries(5, ms))), ""},
	"IPv6 is refused here, and IPv4 is listened on": {watched(listensOn("127.0.0.1:8001"), loopback(twoTries(5, ms))), "v6-first-refused note"},
	"IPv6 is refused here, by nobody":               {watched(nil, loopback(twoTries(5, ms))), "v6-first-refused note"},
}

// eachTwice repeats what came about.
func eachTwice(all []tracer.Transition) (more []tracer.Transition) {
	for _, t := range all {
		more = append(more, t)
		if t.To == tracer.Established {
			more = append(more, t)
		}
	}
	return more
}

// loopback moves connections to localhost:8001.
func loopback(all []tracer.Transition) []tracer.Transition {
	for i := range all {
		home := netip.IPv6Loopback()
		if all[i].Remote.Addr().Is4() {
			home = netip.MustParseAddr("127.0.0.1")
		}
		all[i].Remote, all[i].Local = netip.AddrPortFrom(home, 8001), netip.AddrPortFrom(home, 40000)
	}
	return all
}

func init() { maps.Copy(scenarios, peerScenarios) }

// Refusals that are too old to be followed by another try make room, and what has no room is counted.
func TestRefusalsAreBounded(t *testing.T) {
	w := newWatch()
	refuse := func(i int, at time.Duration) {
		tr := failed(tracer.ReasonRefused, ms, toward(v6Target, "[2001:db8::4]:40000"))
		tr.Owner.PID, tr.Ktime = uint32(i+1), at
		w.add(&tr)
	}
	for i := range mostWaiting + 3 {
		refuse(i, time.Minute)
	}
	if len(w.refusals) != mostWaiting || w.noRoom != 3 {
		t.Errorf("%d refusals, %d without room", len(w.refusals), w.noRoom)
	}
	refuse(mostWaiting+3, 2*time.Minute)
	if len(w.refusals) != 1 || w.noRoom != 3 {
		t.Errorf("a minute later %d refusals, %d without room", len(w.refusals), w.noRoom)
	}
}
