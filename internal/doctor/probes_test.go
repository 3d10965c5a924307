package doctor

import (
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"finwait/tracer"
)

// opened are connections of a client that are opened at these times and end 2 ms later. By default they
// send nothing, and the client closes them.
func opened(client string, at []time.Duration, change ...func(*tracer.Transition)) (all []tracer.Transition) {
	for _, began := range at {
		all = append(all, end(tracer.RoleServer, tracer.Established, tracer.CloseWait, 2*ms, append([]func(*tracer.Transition){
			when(began + 2*ms), carried(0, 0), func(t *tracer.Transition) { t.Remote = netip.AddrPortFrom(netip.MustParseAddr(client), 40000) },
		}, change...)...))
	}
	return all
}

func carried(sent, received uint64) func(*tracer.Transition) {
	return func(t *tracer.Transition) {
		t.Metrics = &tracer.Metrics{Known: true, BytesSent: sent, BytesReceived: received}
	}
}

// every is n moments in these steps, one after the other, again and again.
func every(n int, steps ...time.Duration) (all []time.Duration) {
	for at := time.Hour; n > 0; n-- {
		all = append(all, at)
		at += steps[len(all)%len(steps)]
	}
	return all
}

func resetByPeer(t *tracer.Transition) { t.To, t.Reason = tracer.Closed, tracer.ReasonReset }

const s150 = 150 * ms

var probeScenarios = map[string]scenario{
	"probes":                             {watched(nil, opened("10.0.0.2", every(20, s150))), "probes note"},
	"probes among others":                {watched(nil, opened("10.0.0.2", every(20, s150)), lasting(time.Second, 10)), "probes note"},
	"probes that reset":                  {watched(nil, opened("10.0.0.2", every(20, s150), resetByPeer)), "probes note"},
	"probes of a greeting":               {watched(nil, opened("10.0.0.2", every(20, s150), carried(40, 0))), "probes note"},
	"probes of two kinds":                {watched(nil, opened("10.0.0.2", every(12, 3*time.Second, 7*time.Second))), "probes note"},
	"probes that are not on time":        {watched(nil, opened("10.0.0.2", every(20, s150, 140*ms, 160*ms, 155*ms))), "probes note"},
	"probes of two addresses":            {watched(nil, opened("10.0.0.2", every(20, s150)), opened("10.0.0.3", every(10, time.Second))), "probes note"},
	"four probes":                        {watched(nil, opened("10.0.0.2", every(4, s150))), ""},
	"five connections of anybody":        {watched(nil, opened("10.0.0.2", every(5, ms, time.Second, 40*ms, 700*ms))), ""},
	"connections without a rhythm":       {watched(nil, opened("10.0.0.2", every(14, 20*ms, 2*time.Second, 90*ms, 400*ms, 30*ms, time.Second, 650*ms))), ""},
	"regular requests":                   {watched(nil, opened("10.0.0.2", every(20, s150), carried(0, 1))), ""},
	"regular readers":                    {watched(nil, opened("10.0.0.2", every(20, s150), carried(1025, 0))), ""},
	"regular, closed by the server":      {watched(nil, opened("10.0.0.2", every(20, s150), func(t *tracer.Transition) { t.To = tracer.FinWait1 })), ""},
	"regular, of which nothing is known": {watched(nil, opened("10.0.0.2", every(20, s150), func(t *tracer.Transition) { t.Metrics = &tracer.Metrics{} })), ""},
	"regular, opened before":             {watched(nil, opened("10.0.0.2", every(20, s150), atLeast)), ""},
	"a load without data":                {watched(nil, opened("10.0.0.2", every(60, 2*ms))), ""},
	"connections that open nothing":      {watched(nil, times(20, end(tracer.RoleClient, tracer.Established, tracer.CloseWait, 2*ms, carried(0, 0)))), ""},
}

func init() { maps.Copy(scenarios, probeScenarios) }

// The period is that of each probe.
func TestProbesPeriod(t *testing.T) {
	for name, want := range map[string]time.Duration{"probes": s150, "probes of two kinds": 10 * time.Second, "probes of two addresses": s150} {
		r, err := Examine(probeScenarios[name].in, Choice{})
		if err != nil || len(r.Findings) != 1 {
			t.Fatal(r, err)
		}
		f := &r.Findings[0]
		i := slices.IndexFunc(f.Evidence, func(o Field) bool { return o.Key == "every" })
		if got := f.Evidence[i].Value.(time.Duration).Round(time.Microsecond); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

// The memory is bounded, and what has no room is counted.
func TestProbesAreBounded(t *testing.T) {
	w := newWatch()
	for i := range mostSilent + 3 {
		for _, tr := range opened(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}).String(), every(20, s150)) {
			tr.Ktime += time.Duration(i) * 10 * time.Second // what closes at one time has a bound of its own
			w.add(&tr)
		}
	}
	s := w.services[serviceKey{4026531840, 8080}]
	if len(s.Silent) != mostSilent || w.noRoom != 3*20 {
		t.Errorf("%d clients, %d without room", len(s.Silent), w.noRoom)
	}
	for _, one := range s.Silent {
		if len(one.last) != mostOpened || one.N != 20 {
			t.Fatalf("%d of %d", len(one.last), one.N)
		}
	}
}
