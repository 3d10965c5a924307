package doctor

import (
	"maps"
	"net/netip"
	"testing"
	"time"

	"finwait/tracer"
)

func init() { maps.Copy(scenarios, portScenarios) }

// each gives in each second from the first to the last of a window of 10 s so many connections, in
// these transitions.
func each(first, last, n int, ts ...tracer.Transition) (all []tracer.Transition) {
	for second := first; second <= last; second++ {
		for _, t := range ts {
			t.Ktime = time.Hour + time.Duration(second)*time.Second
			all = append(all, times(n, t)...)
		}
	}
	return all
}

// opens is a connection that stays open, closesHere one that this end closes first, and closesThere one
// that the peer closes first.
var (
	opens       = []tracer.Transition{connectedAfter(ms)}
	closesHere  = []tracer.Transition{connectedAfter(ms), end(tracer.RoleClient, tracer.FinWait2, tracer.TimeWait, ms)}
	closesThere = []tracer.Transition{connectedAfter(ms), end(tracer.RoleClient, tracer.LastAck, tracer.Closed, ms, because(tracer.ReasonClosed, tracer.DetailNone))}
)

// uses makes the destination use so many ports, some of them in TIME_WAIT.
func uses(n, timeWaits uint64) func(*Space) {
	return func(s *Space) { s.Destinations[0].Used, s.Destinations[0].TimeWaits = n, timeWaits }
}

var portScenarios = map[string]scenario{
	"ports that will be gone": {watched(uses(12000, 11990), each(0, 9, 500, closesHere...)), "port-pressure will_fail, load-test-limit note"},
	"ports that will be gone, of a load older than a minute": {watched(uses(28000, 27990), each(0, 9, 500, closesHere...),
		each(0, 9, 470, end(tracer.RoleClient, tracer.TimeWait, tracer.Closed, time.Minute, because(tracer.ReasonExpired, tracer.DetailTimeWait)))),
		"port-pressure will_fail, tw-reuse-cannot-help note, load-test-limit note"},
	"ports of which most will be used":          {watched(uses(4000, 3990), each(0, 9, 400, closesHere...)), "port-pressure risk, load-test-limit note"},
	"most ports are used, and that goes on":     {watched(uses(23000, 22990), each(0, 9, 400, closesHere...)), "port-pressure risk, tw-reuse-cannot-help note, load-test-limit note"},
	"most ports are used, and few will be":      {watched(uses(23000, 22990), each(0, 9, 10, closesHere...)), "port-pressure note, tw-reuse-cannot-help note"},
	"a pace that leaves enough ports":           {watched(uses(3600, 3590), each(0, 9, 360, closesHere...)), ""},
	"the same pace, and the peer closes":        {watched(nil, each(0, 9, 500, closesThere...)), ""},
	"the same pace, and reuse":                  {watched(both(uses(12000, 11990), sysctl("tcp_tw_reuse", "1")), each(0, 9, 500, closesHere...)), ""},
	"a load that has ended":                     {watched(uses(3500, 3490), each(0, 6, 500, closesHere...)), ""},
	"a load that has ended, with most ports":    {watched(uses(23000, 22990), each(0, 6, 3280, closesHere...)), "port-pressure note, tw-reuse-cannot-help note"},
	"a load that has ended, and left them open": {watched(uses(23000, 0), each(0, 6, 3280, opens...)), "port-pressure risk, load-test-limit note, tw-reuse-cannot-help note"},
	"a load that has ended, as far as is known": {manyLost(watched(uses(23000, 22990), each(0, 6, 3280, closesHere...))), "port-pressure risk, tw-reuse-cannot-help note, load-test-limit note"},
	"most ports are used, and reuse may take them over": {watched(both(uses(23000, 22990), sysctl("tcp_tw_reuse", "1")), each(0, 9, 400, closesHere...)),
		"port-pressure risk, load-test-limit note"},
	"a load that has ended, nearly all of which was seen": {fewLost(watched(uses(23000, 22990), each(0, 6, 3280, closesHere...))), "port-pressure note, tw-reuse-cannot-help note"},
	"a load that has just begun":                          {watched(uses(1500, 1490), each(7, 9, 500, closesHere...)), ""},
	"a burst":                                             {watched(uses(5000, 4990), each(5, 5, 5000, closesHere...)), ""},
	"a window that is too short":                          {lastingFor(2*time.Second, watched(uses(1000, 990), each(8, 9, 500, closesHere...))), ""},
	"connections that stay open":                          {watched(uses(15000, 0), each(0, 9, 100, opens...)), "port-pressure will_fail"},
	"connections that stay open, and are few so far":      {watched(uses(14000, 0), each(0, 9, 100, opens...)), ""},
	"connections that stay open, and grow slowly":         {watched(uses(15000, 0), each(0, 9, 20, opens...)), ""},
	"connections that stay open, and older ones that close": {watched(uses(15000, 0), each(0, 9, 100, connectedAfter(ms),
		end(tracer.RoleUnknown, tracer.LastAck, tracer.Closed, ms))), ""},
	"a search": {watched(halfFull(14000), searches(200, 100*time.Microsecond, 20, 5*ms)), "port-search-slow slow"},
	"a search of a range that begins with an odd port": {watched(both(halfFull(14000), func(s *Space) { s.Low = 32769 }),
		times(30, connectedAfter(100*time.Microsecond, fromPort(40001))), times(30, connectedAfter(5*ms, fromPort(40000)))), "port-search-slow slow"},
	"a search, and enough ports of the first half": {watched(halfFull(13900), searches(200, 100*time.Microsecond, 20, 5*ms)), ""},
	"a search that hardly takes longer":            {watched(halfFull(14000), searches(200, ms, 20, 5*ms)), ""},
	"a few searches":                               {watched(halfFull(14000), searches(200, 100*time.Microsecond, 19, 5*ms)), ""},
	"searches, and nothing to compare with":        {watched(halfFull(14000), searches(19, 100*time.Microsecond, 200, 5*ms)), ""},
	"some slow connections": {watched(halfFull(14000), searches(200, 100*time.Microsecond, 15, 5*ms), searches(0, 0, 5, 100*time.Microsecond)),
		""},
	"ports of bind":                                 {watched(nil, binds(2824, byBind)), "bind-before-connect risk"},
	"ports of bind, and some of connect":            {watched(nil, binds(20, byBind), binds(80)), "bind-before-connect note"},
	"ports of connect, and some of bind":            {watched(nil, binds(20, byBind), binds(81)), ""},
	"a few ports of bind":                           {watched(nil, binds(19, byBind)), ""},
	"ports that a program names":                    {watched(nil, binds(2824)), ""},
	"ports of bind that are free again":             {watched(nil, binds(2824, byBind), closed(1)), "bind-before-connect note"},
	"all ports are of bind":                         {watched(func(s *Space) { s.Usable, s.Low, s.High = 12000, 40000, 51999 }, binds(12000, byBind)), "bind-before-connect will_fail"},
	"ports of bind that are not usable":             {watched(func(s *Space) { s.Choosable = func(uint16) bool { return false } }, binds(2824, byBind)), "bind-before-connect note"},
	"ports of bind, of a process that is not known": {watched(nil, binds(2824, byBind, func(t *tracer.Transition) { t.Owner.PID = 0 })), ""},
	"reuse at work":                                 {watched(sysctl("tcp_tw_reuse", "1"), reuses(10)), "tw-reuse-verdict note"},
	"reuse on the loopback at work":                 {watched(nil, reuses(10)), ""},
	"reuse of bound ports":                          {watched(sysctl("tcp_tw_reuse", "1"), binds(1), reuses(1, fromPort(40000))), ""},
	"reuse of bound ports, and of another":          {watched(sysctl("tcp_tw_reuse", "1"), binds(1), reuses(1, fromPort(40000)), searches(1, ms, 0, 0), reuses(1, fromPort(40000))), "tw-reuse-verdict note"},
	"reuse of TIME_WAITs of an unknown age":         {watched(sysctl("tcp_tw_reuse", "1"), reuses(1, atLeast)), "tw-reuse-verdict note"},
	"reuse of a server":                             {watched(serves(100)), "tw-reuse-verdict note"},
	"reuse of a server that is idle":                {watched(serves(99)), ""},
	"reuse of a server that connects":               {watched(serves(100), binds(1)), ""},
	"reuse of a server that has connected":          {watched(both(serves(100), func(s *Space) { s.TimeWaits.Opened = 1 })), ""},
	"reuse of a server, as far as was asked for":    {filtered(watched(serves(100))), ""},
	"a load test, and little else": {watched(uses(12000, 11990), each(0, 9, 500, closesHere...), each(0, 9, 125, connectedAfter(ms, toward("10.0.0.8:80", "10.0.0.4:40000")))),
		"port-pressure will_fail, load-test-limit note"},
	"a load, and much else": {watched(uses(12000, 11990), each(0, 9, 500, closesHere...), each(0, 9, 126, connectedAfter(ms, toward("10.0.0.8:80", "10.0.0.4:40000")))),
		"port-pressure will_fail"},
	"a slow load": {watched(both(uses(1000, 990), func(s *Space) { s.Usable, s.Low, s.High = 2000, 40000, 41999 }), each(0, 9, 100, closesHere...)), "port-pressure will_fail, port-range-shape note"},
	"a burst that finds no port": {lastingFor(100*ms, watched(full(28232), times(27, failed(tracer.ReasonNoPort, ms, toward("10.0.0.9:80", "10.0.0.4:0"))))),
		"port-exhausted failing, tw-reuse-cannot-help note"},
	"a load test that finds no port": {watched(full(28232), times(1001, failed(tracer.ReasonNoPort, ms, toward("10.0.0.9:80", "10.0.0.4:0")))),
		"port-exhausted failing, tw-reuse-cannot-help note, load-test-limit note"},
	"the pace of another address": {watched(uses(12000, 11990), each(0, 9, 500, connectedAfter(ms, toward("10.0.0.9:80", "10.0.0.5:40000")),
		end(tracer.RoleClient, tracer.FinWait2, tracer.TimeWait, ms, toward("10.0.0.9:80", "10.0.0.5:40000")))), ""},
}

// searches are so many connections with ports of each half, that took so long.
func searches(first int, fast time.Duration, others int, slow time.Duration) []tracer.Transition {
	return append(times(first, connectedAfter(fast, fromPort(40000))), times(others, connectedAfter(slow, fromPort(40001)))...)
}

// halfFull makes the destination use so many ports that are tried first, of 14,116, and some others.
func halfFull(first uint64) func(*Space) {
	return func(s *Space) {
		s.Destinations[0].Used, s.Destinations[0].First, s.Destinations[0].TimeWaits = first+100, first, first
	}
}

// binds are calls of connect(2) from so many ports, from 40000 on.
func binds(n int, change ...func(*tracer.Transition)) (all []tracer.Transition) {
	for i := range n {
		all = append(all, end(tracer.RoleClient, tracer.Closed, tracer.SynSent, 0, append(change, fromPort(uint16(40000+i)))...))
	}
	return all
}

func byBind(t *tracer.Transition) { t.PortByBind = true }

// closed are the ends of such connections.
func closed(n int) (all []tracer.Transition) {
	for i := range n {
		all = append(all, end(tracer.RoleClient, tracer.TimeWait, tracer.Closed, time.Minute, fromPort(uint16(40000+i))))
	}
	return all
}

// serves is a namespace that opens no connection.
func serves(timeWaits uint64) func(*Space) {
	return func(s *Space) {
		s.Sysctls["net.ipv4.tcp_tw_reuse"], s.Destinations, s.TimeWaits = "1", nil, Ends{Served: timeWaits}
	}
}

// reuses are the ends of TIME_WAITs that connect(2) takes over.
func reuses(n int, change ...func(*tracer.Transition)) []tracer.Transition {
	return times(n, end(tracer.RoleClient, tracer.TimeWait, tracer.Closed, 1900*ms, append(change, because(tracer.ReasonReused, tracer.DetailNone))...))
}

func fewLost(in *Input) *Input {
	in.Stream.Lost.Missed = 1000
	return in
}

func manyLost(in *Input) *Input {
	in.Stream.Lost.Missed = 1200
	return in
}

// What a finding of the ports says has these numbers.
func TestPortNumbers(t *testing.T) {
	for name, want := range map[string]map[string]any{
		"ports that will be gone": {"rate": uint64(500), "over": 9 * time.Second, "gone_in": 32464 * time.Millisecond, "settles": nil, "ended": false,
			"opener": Process{PID: 812, Comm: "app"}},
		"ports that will be gone, of a load older than a minute": {"gone_in": 7733 * time.Millisecond},
		"ports of which most will be used":                       {"rate": uint64(400), "gone_in": nil, "settles": (10 + 400*61.0) / 28232},
		"a load that has ended, with most ports":                 {"rate": nil, "settles": nil, "ended": true},
		"a load test that finds no port":                         {"failed": uint64(1001)},
		"reuse at work":                                          {"reused": uint64(10), "after": 1900 * ms},
		"reuse of bound ports, and of another":                   {"reused": uint64(1)},
		"reuse of TIME_WAITs of an unknown age":                  {"reused": uint64(1), "after": nil},
		"reuse of a server":                                      {"reused": nil, "time_waits": uint64(100)},
		"connections that stay open":                             {"rate": uint64(100), "gone_in": 132320 * time.Millisecond, "settles": nil},
	} {
		r, err := Examine(portScenarios[name].in, Choice{})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range r.Findings[0].Evidence {
			w, looked := want[f.Key]
			if d, ok := f.Value.(time.Duration); ok {
				f.Value = d.Truncate(time.Millisecond)
			}
			if looked && f.Value != w {
				t.Errorf("%s: %s is %v, want %v", name, f.Key, f.Value, w)
			}
			delete(want, f.Key)
		}
		if len(want) > 0 {
			t.Errorf("%s: no %v", name, want)
		}
	}
}

// A rate is taken from the last whole seconds of the window, and of the least of three parts.
func TestPace(t *testing.T) {
	var o Outgoing
	for second := range 100 {
		for range second {
			tr := connectedAfter(ms)
			tr.Ktime = time.Duration(second)*time.Second + time.Millisecond
			o.add(&tr)
		}
	}
	for _, c := range []struct {
		end, window time.Duration
		opened      float64
		over        time.Duration
	}{
		{100500 * ms, 10 * time.Second, 92, 9 * time.Second}, // 91 to 99
		{100 * time.Second, 10 * time.Second, 92, 9 * time.Second},
		{100500 * ms, 100 * time.Second, 74.5, 30 * time.Second}, // 70 to 99
		{100500 * ms, 4 * time.Second, 97, 3 * time.Second},
		{100500 * ms, 3 * time.Second, 0, 0},
		{110 * time.Second, 8 * time.Second, 0, 6 * time.Second},
	} {
		if p := o.pace(c.end, c.window); p.opened != c.opened || p.over != c.over {
			t.Errorf("%v of %v: %+v, want %v", c.window, c.end, p, c.opened)
		}
	}
}

// The memory that it takes is bounded, and what has no room is counted.
func TestPortWatchIsBounded(t *testing.T) {
	w := newWatch()
	for i := range mostKeys + 100 {
		tr := connectedAfter(ms)
		tr.Remote = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 80)
		w.ports.add(&tr)
		tr = binds(1, byBind)[0]
		tr.Owner.Comm[0], tr.Owner.Comm[1] = byte(i>>8), byte(i)
		w.ports.add(&tr)
	}
	s := &Stream{}
	w.fill(s, func(uint32) *Space { return &Space{} })
	if len(s.Outgoing) != mostKeys || len(s.Openers) != mostKeys || s.NoRoom != 200 {
		t.Errorf("%d ways, %d openers, %d without room", len(s.Outgoing), len(s.Openers), s.NoRoom)
	}
}
