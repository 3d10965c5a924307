package doctor

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
)

// portRules are about the ports that connect(2) chooses from.
var portRules = []*Rule{
	{
		ID: "port-exhausted", Worst: Failing, Needs: NeedPorts, More: NeedStream,
		Find: portExhausted,
	},
	{
		ID: "port-pressure", Worst: WillFail, Needs: NeedPorts, More: NeedStream, Thresholds: pressureThresholds,
		Find: portPressure,
	},
	{
		ID: "listener-in-ephemeral-range", Worst: Note, Needs: NeedPorts,
		Find: listenersInRange,
	},
	{
		ID: "port-range-shape", Worst: Note, Needs: NeedPorts,
		Thresholds: []Threshold{{"least", 10000, "usable ports"}},
		Find: func(in *Input, t Limits) (found []Finding) {
			for _, s := range in.Spaces {
				if s.Usable == 0 || s.Live() == 0 || float64(s.Usable) >= t["least"] {
					continue
				}
				found = append(found, Finding{ID: "port-range-shape", Severity: Note, Space: s,
					Evidence: []Field{{"usable", uint64(s.Usable)}, {"low", uint64(s.Low)}, {"high", uint64(s.High)}}})
			}
			return found
		},
	},
}

func portExhausted(in *Input, _ Limits) (found []Finding) {
	found = withoutPort(in)
	in.destinations(func(s *Space, d *Destination) {
		if s.Usable > 0 && d.Used >= uint64(s.Usable) && !takesOver(s, d) && !in.sawNoPort(s, d) {
			f := portFinding("port-exhausted", WillFail, s, d)
			f.Evidence = append(f.Evidence, Field{"failed", nil}, Field{"more_processes", nil})
			found = append(found, f)
		}
	})
	return found
}

func (in *Input) destinations(fn func(*Space, *Destination)) {
	for _, s := range in.Spaces {
		for i := range s.Destinations {
			fn(s, &s.Destinations[i])
		}
	}
}

// WorstPorts is how many ports are used towards the destination for which the largest part of the
// usable ones is, and how many are usable there. Where nothing is connected to, none are used. known
// is false if no namespace says which ports are usable.
func (in *Input) WorstPorts() (used, usable uint64, known bool) {
	for _, s := range in.Spaces {
		if s.Usable > 0 && (!known || s.Inode == in.Self) {
			usable, known = uint64(s.Usable), true
		}
	}
	in.destinations(func(s *Space, d *Destination) {
		if s.Usable > 0 && d.Used*usable > used*uint64(s.Usable) {
			used, usable = d.Used, uint64(s.Usable)
		}
	})
	return used, usable, known
}

func portFinding(id string, severity Severity, s *Space, d *Destination) Finding {
	return Finding{ID: id, Severity: severity, Space: s,
		Scope: []Field{{"local_addr", d.Local}, {"remote", d.Remote}, {"process", d.Owner}},
		Evidence: []Field{{"used", d.Used}, {"usable", uint64(s.Usable)}, {"time_waits", d.TimeWaits},
			{"orphans", d.Orphans}, {"share", float64(d.Used) / float64(s.Usable)}}}
}

// listenersInRange finds listeners on a port that connect(2) may choose once they are gone. A port
// that bind(2) chose itself is meant to be there, and nothing tells which those are: so it is a note.
func listenersInRange(in *Input, _ Limits) (found []Finding) {
	for _, s := range in.Spaces {
		if s.Usable == 0 {
			continue
		}
		var all []*Listener
		for i := range s.Listeners {
			l := &s.Listeners[i]
			if port := l.Local.Port(); !s.Choosable(port) ||
				slices.ContainsFunc(all, func(o *Listener) bool { return o.Local.Port() == port }) {
				continue
			}
			all = append(all, l)
		}
		for _, l := range all {
			found = append(found, Finding{ID: "listener-in-ephemeral-range", Severity: Note, Space: s, Inferred: true,
				Scope:    []Field{{"local", l.Local}, {"process", l.Owner}, {"port", strconv.Itoa(int(l.Local.Port()))}},
				Evidence: []Field{{"low", uint64(s.Low)}, {"high", uint64(s.High)}}})
		}
	}
	return found
}

// largest is the process that holds most, and of equal ones the one with the least pid.
func largest(count map[Process]uint64) (most Process) {
	for p, n := range count {
		if p.PID != 0 && (most.PID == 0 || n > count[most] || n == count[most] && p.PID < most.PID) {
			most = p
		}
	}
	return most
}

func byUse(a, b Destination) int {
	return cmp.Or(cmp.Compare(b.Used, a.Used), a.Local.Compare(b.Local), compareEnds(a.Remote, b.Remote))
}

func compareEnds(a, b netip.AddrPort) int { return a.Compare(b) }
