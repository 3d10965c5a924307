package sockets

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"finwait/internal/sockdiag"
	"finwait/tracer"
)

// A Selection is a filter made ready to judge sockets in this process, which the
// kernel does not do.
type Selection struct {
	tracer.Filter
	MinAge  time.Duration   // the least that a socket is known to have been in its state; 0: any
	states  uint32          // bit n: state number n
	cgroups map[uint64]bool // those asked for and all below

	// What Matches left out although it may match, by state: of those that match all else no owner
	// is known; of those that match but for MinAge, less is known, or no age.
	unknown, younger, ageless [tracer.NewSynRecv + 1]uint64
}

// ownerless are the states whose sockets the kernel keeps no process and no cgroup of.
const ownerless = 1<<tracer.TimeWait | 1<<tracer.NewSynRecv | 1<<tracer.Closed

// Select makes one. A filter that can never match is a *tracer.FilterError.
func Select(f tracer.Filter) (*Selection, error) {
	if err := f.CheckConnections(); err != nil {
		return nil, err
	}
	s := &Selection{Filter: f, states: sockdiag.AllStates}
	if len(f.States) > 0 {
		s.states = 0
		for _, state := range f.States {
			s.states |= 1 << state
		}
		if s.states == 1<<tracer.Closed {
			return nil, &tracer.FilterError{Why: "the kernel lists no socket that is CLOSED"}
		}
	}
	if s.states == 1<<tracer.Listen && !f.CanMatchListener() {
		return nil, &tracer.FilterError{Why: "a listener has a local port only"}
	}
	if s.asksForOwner() && s.states&^ownerless == 0 {
		return nil, &tracer.FilterError{Why: fmt.Sprintf("the kernel keeps no process and no cgroup of a socket in %v", f.States)}
	}
	return s, nil
}

// byOwner says whether only sockets of known processes match.
func (s *Selection) byOwner() bool { return len(s.PIDs)+len(s.Comms) > 0 }

// needsOwners says whether it takes to know who holds a socket.
func (s *Selection) needsOwners() bool { return s.byOwner() || len(s.NotPIDs)+len(s.NotComms) > 0 }

// asksForOwner says whether a filter is on what not every socket has.
func (s *Selection) asksForOwner() bool { return s.byOwner() || len(s.Cgroups) > 0 }

// Unknown is how many sockets were read that match but for the owner, who is not known.
func (s *Selection) Unknown() (n uint64) { return sum(&s.unknown) }

// NotOldEnough is how many sockets were read that match but for MinAge: those that are known to be
// in their state for less, but may be for more, and those of which no age is known.
func (s *Selection) NotOldEnough() (younger, ageless uint64) {
	return sum(&s.younger), sum(&s.ageless)
}

func sum(byState *[tracer.NewSynRecv + 1]uint64) (n uint64) {
	for _, of := range byState {
		n += of
	}
	return n
}

// below makes the selection match the cgroups asked for and those below them.
// tree has the path of each cgroup by its number.
func (s *Selection) below(tree map[uint64]string) {
	s.cgroups = make(map[uint64]bool)
	for _, want := range s.Cgroups {
		top, ok := tree[want.ID]
		if !ok {
			continue // removed since it was looked up
		}
		for id, path := range tree {
			if path == top || strings.HasPrefix(path, strings.TrimSuffix(top, "/")+"/") {
				s.cgroups[id] = true
			}
		}
	}
}

// Matches leaves network namespaces to the one who visits them. A socket whose owner or age is
// asked for and not known does not match, and is counted.
func (s *Selection) Matches(r *Row) bool {
	local, remote := r.Local, r.Remote
	switch {
	case s.states&(1<<r.State) == 0,
		s.IPv4 && !local.Addr().Is4(),
		s.IPv6 && local.Addr().Is4(),
		len(s.LocalPorts) > 0 && !inRange(s.LocalPorts, local.Port()),
		len(s.RemotePorts) > 0 && !inRange(s.RemotePorts, remote.Port()),
		len(s.Ports) > 0 && !inRange(s.Ports, local.Port()) && !inRange(s.Ports, remote.Port()),
		inRange(s.NotPorts, local.Port()) || inRange(s.NotPorts, remote.Port()),
		len(s.Addrs) > 0 && !slices.ContainsFunc(s.Addrs, r.has),
		slices.ContainsFunc(s.NotAddrs, r.has),
		!oneOf(s.Cookies, r.Cookie),
		// What is not known is not left out.
		r.Owner.PID != 0 && (slices.Contains(s.NotPIDs, r.Owner.PID) || slices.Contains(s.NotComms, r.Owner.Comm.String())),
		// What is known of the owner rules it out.
		r.Owner.PID != 0 && (!oneOf(s.PIDs, r.Owner.PID) || !oneOf(s.Comms, r.Owner.Comm.String())),
		r.CgroupID != 0 && len(s.Cgroups) > 0 && !s.cgroups[r.CgroupID]:
		return false
	}
	unsure := r.Owner.PID == 0 && s.byOwner() || r.CgroupID == 0 && len(s.Cgroups) > 0
	age, aged := time.Duration(0), true
	if s.MinAge > 0 {
		var precision tracer.Precision
		age, precision = r.Age()
		aged = precision != tracer.PrecisionUnknown
	}
	switch old := aged && age >= s.MinAge; {
	case old && !unsure:
		return true
	case unsure && (old || !aged):
		s.unknown[r.State]++
	case !unsure && aged:
		s.younger[r.State]++
	case !unsure:
		s.ageless[r.State]++
	}
	return false
}

func inRange(list []tracer.PortRange, port uint16) bool {
	return slices.ContainsFunc(list, func(r tracer.PortRange) bool { return r.Has(port) })
}

// oneOf also holds for a list that is empty: nothing is asked for.
func oneOf[T comparable](list []T, v T) bool { return len(list) == 0 || slices.Contains(list, v) }

func (r *Row) has(a tracer.AddrFilter) bool {
	holds := func(end netip.AddrPort) bool {
		return a.Contains(end.Addr()) && (a.Port == 0 || a.Port == end.Port())
	}
	return (holds(r.Local) || holds(r.Remote)) &&
		(a.ScopeID == 0 || a.ScopeID == r.Scope.ID) && (a.NetNSCookie == 0 || a.NetNSCookie == r.netNSCookie)
}
