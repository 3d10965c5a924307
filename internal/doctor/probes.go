package doctor

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"time"

	"finwait/tracer"
)

// Silent is the connections of one client to one service that sent nothing.
type Silent struct {
	N    uint64
	last []time.Duration // when the last of them were opened, CLOCK_MONOTONIC
}

const (
	mostSilent = 4096 // clients; each takes about 250 B
	mostOpened = 16   // of a client
	// mostGreeting is what a server may send first, in bytes: the banner of SSH, SMTP or MySQL. A client
	// that takes more has come for it.
	mostGreeting = 1024
)

// silent reports whether a client ended a connection on which it had sent nothing.
func silent(t *tracer.Transition) bool {
	m := t.Metrics
	return m != nil && m.Known && m.BytesReceived == 0 && m.BytesSent <= mostGreeting &&
		(t.To == tracer.CloseWait || t.To == tracer.Closed && t.Reason == tracer.ReasonReset)
}

func (w *watch) addSilent(s *Service, t *tracer.Transition) {
	client := t.Remote.Addr()
	one := s.Silent[client]
	if one == nil {
		if w.silent == mostSilent {
			w.noRoom++
			return
		}
		w.silent++
		if s.Silent == nil {
			s.Silent = make(map[netip.Addr]*Silent)
		}
		one = new(Silent)
		s.Silent[client] = one
	}
	one.N++
	if !exact(t) {
		return // when it was opened is not known
	}
	if len(one.last) == mostOpened {
		one.last = slices.Delete(one.last, 0, 1)
	}
	one.last = append(one.last, t.Ktime-t.Duration)
}

// mostProbes is how many probes of the same period one client may send.
const mostProbes = 3

// period is the time after which each connection is followed by the next one of its probe, if these times
// differ by no more than a share of their mean (standard deviation): timers are regular, people are not.
// Several probes of one period, as of liveness and readiness, take turns. 0 probes: they differ by more.
func (s *Silent) period(variation float64) (period time.Duration, probes uint64) {
	const few = 4
	all := sorted(s.last)
	for turn := 1; turn <= mostProbes && len(all) >= turn+few; turn++ {
		var sum, squares float64
		n := float64(len(all) - turn)
		for i := turn; i < len(all); i++ {
			gap := (all[i] - all[i-turn]).Seconds()
			sum, squares = sum+gap, squares+gap*gap
		}
		mean := sum / n
		if deviation := math.Sqrt(max(0, squares/n-mean*mean)); mean > 0 && deviation <= variation*mean {
			return time.Duration(mean * float64(time.Second)), uint64(turn)
		}
	}
	return 0, 0
}

// probeRules are about clients that only look whether a server is there.
var probeRules = []*Rule{
	{
		ID: "probes", Worst: Note, Needs: NeedStream,
		Thresholds: []Threshold{
			{"least", 5, "connections of one client that sent nothing"}, {"variation", 0.1, "standard deviation of the times between them, as a share of their mean, at most"},
			{"period", 0.1, "seconds between them, at least"},
		},
		Find: func(in *Input, t Limits) (found []Finding) {
			in.services(func(s *Service) {
				if f, ok := s.probes(t); ok {
					found = append(found, f)
				}
			})
			return found
		},
	},
}

// probes adds up the clients of a service that probe it.
func (s *Service) probes(t Limits) (f Finding, ok bool) {
	var (
		n, clients, most, turns uint64
		busiest                 netip.Addr
		every                   time.Duration
	)
	for client, one := range s.Silent {
		if float64(one.N) < t["least"] {
			continue
		}
		period, probes := one.period(t["variation"])
		if probes == 0 || period < t.duration("period") {
			continue
		}
		n, clients = n+one.N, clients+1
		if cmp.Or(cmp.Compare(one.N, most), client.Compare(busiest)) > 0 {
			busiest, most, turns, every = client, one.N, probes, period
		}
	}
	if n == 0 {
		return Finding{}, false
	}
	f = s.finding("probes", Note, s.Owner, Field{"connections", n}, Field{"closed", s.Closed()}, Field{"share", float64(n) / float64(s.Closed())},
		Field{"clients", clients}, Field{"of_remote_addr", most}, Field{"probes", turns}, Field{"every", every})
	f.Scope, f.Inferred = append(f.Scope, Field{"remote_addr", busiest}), true
	return f, true
}
