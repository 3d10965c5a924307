package tracer

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// FilterMax is how many values one list of a Filter can hold.
const FilterMax = 16

// pidMax is the highest pid of a 64-bit kernel: PID_MAX_LIMIT - 1 (linux/threads.h).
const pidMax = 4<<20 - 1

const (
	familyIPv4 = 2  // AF_INET
	familyIPv6 = 10 // AF_INET6
)

// A Filter picks transitions, in the kernel. Fields of different kinds must all
// match; of the values of one list, one. A connection is judged once, when its
// ports are known, and is then shown whole or not at all; States, From, To and
// MinDuration pick single transitions.
type Filter struct {
	Ports       []PortRange // local or remote
	LocalPorts  []PortRange
	RemotePorts []PortRange
	Addrs       []AddrFilter // local or remote
	PIDs        []uint32     // of the owner
	Comms       []string     // of the owner, whole
	NetNS       []uint64     // cookies of network namespaces: SO_NETNS_COOKIE of a socket (Linux 5.14)
	Cgroups     []Cgroup     // and those below
	Cookies     []uint64     // of sockets: SO_COOKIE, and sk: of ss -e
	IPv4, IPv6  bool         // this family only; neither: both

	// Role is not known of a connection that is older than the tracer: it does not match.
	// RoleUnknown: any.
	Role Role

	// What matches one of these is left out. What is not known, such as the owner, matches none.
	NotPorts []PortRange // local or remote
	NotAddrs []AddrFilter
	NotPIDs  []uint32
	NotComms []string

	// HandlerComms picks transitions by the name of the handler, from when that is known
	// on. They ask for Config.NoTotals: what was live before cannot be counted.
	HandlerComms []string

	States      []State // left or entered
	From, To    []State
	Reasons     []Reason      // why the state was left
	MinDuration time.Duration // spent in the state that is left, as far as known
}

// A PortRange is the ports from First to Last, both included.
type PortRange struct{ First, Last uint16 }

// Port is the range of one port.
func Port(n uint16) PortRange { return PortRange{n, n} }

// Has reports whether a port is in the range.
func (r PortRange) Has(port uint16) bool { return r.First <= port && port <= r.Last }

// String gives "80" or "8000-8099".
func (r PortRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// An AddrFilter matches the addresses of either end. With a ScopeID these are link-local
// addresses of one interface.
type AddrFilter struct {
	netip.Prefix
	Port        uint16 // of the same end; 0: any
	ScopeID     uint32 // index of the interface; 0: any
	NetNSCookie uint64 // of the network namespace in which ScopeID counts; 0: any
}

// A Cgroup is a cgroup v2 directory.
type Cgroup struct {
	ID    uint64 // its inode number
	Level uint32 // 0: the root
}

// A filterList is a list of a Filter that picks connections.
type filterList struct {
	name        string
	n           int
	knob, count string // the variables of the BPF object
	values      any    // of the knob
}

func (f *Filter) lists() []filterList {
	return []filterList{
		{"port", len(f.Ports), bpfVarPorts, bpfVarN_ports, padded(f.Ports, portRange)},
		{"local port", len(f.LocalPorts), bpfVarLocalPorts, bpfVarN_localPorts, padded(f.LocalPorts, portRange)},
		{"remote port", len(f.RemotePorts), bpfVarRemotePorts, bpfVarN_remotePorts, padded(f.RemotePorts, portRange)},
		{"address", len(f.Addrs), bpfVarCidrs, bpfVarN_cidrs, padded(f.Addrs, cidr)},
		{"pid", len(f.PIDs), bpfVarPids, bpfVarN_pids, padded(f.PIDs, same)},
		{"comm", len(f.Comms), bpfVarComms, bpfVarN_comms, padded(f.Comms, toComm)},
		{"network namespace", len(f.NetNS), bpfVarNetns, bpfVarN_netns, padded(f.NetNS, same)},
		{"cgroup", len(f.Cgroups), bpfVarCgroups, bpfVarN_cgroups,
			padded(f.Cgroups, func(c Cgroup) bpfCgroupFilter { return bpfCgroupFilter{Id: c.ID, Level: c.Level} })},
		{"cookie", len(f.Cookies), bpfVarCookies, bpfVarN_cookies, padded(f.Cookies, same)},
		{"not port", len(f.NotPorts), bpfVarNotPorts, bpfVarN_notPorts, padded(f.NotPorts, portRange)},
		{"not address", len(f.NotAddrs), bpfVarNotCidrs, bpfVarN_notCidrs, padded(f.NotAddrs, cidr)},
		{"not pid", len(f.NotPIDs), bpfVarNotPids, bpfVarN_notPids, padded(f.NotPIDs, same)},
		{"not comm", len(f.NotComms), bpfVarNotComms, bpfVarN_notComms, padded(f.NotComms, toComm)},
	}
}

// padded gives a list the length that the programs have for it. What is too much is left out: Check
// refuses it.
func padded[A, B any](values []A, convert func(A) B) (list [FilterMax]B) {
	for i, v := range values[:min(len(values), FilterMax)] {
		list[i] = convert(v)
	}
	return list
}

func same[T any](v T) T { return v }

func portRange(r PortRange) bpfPortRange { return bpfPortRange{First: r.First, Last: r.Last} }

func toComm(name string) (c Comm) {
	copy(c[:], name)
	return c
}

func cidr(a AddrFilter) bpfCidr {
	c := bpfCidr{Family: familyIPv4, Port: a.Port, ScopeId: a.ScopeID, NetnsCookie: a.NetNSCookie}
	var addr, mask [16]byte
	p := a.Masked()
	if p.Addr().Is4() {
		a := p.Addr().As4()
		copy(addr[:], a[:])
	} else {
		c.Family = familyIPv6
		addr = p.Addr().As16()
	}
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	for i := range c.Addr {
		c.Addr[i] = binary.NativeEndian.Uint32(addr[i*4:])
		c.Mask[i] = binary.NativeEndian.Uint32(mask[i*4:])
	}
	return c
}

// Check says what is wrong with a filter, without asking the kernel. New does the same.
// For a filter that can never match the error is a *FilterError.
func (f *Filter) Check() error {
	if err := f.CheckConnections(); err != nil {
		return err
	}
	if f.MinDuration < 0 {
		return fmt.Errorf("minimum duration %v is negative", f.MinDuration)
	}
	mask, err := f.edges()
	if err != nil {
		return err
	}
	return f.checkEdges(&mask)
}

// checkEdges says if the other fields let none of these transitions pass. What does not
// end a socket's time in a state has no duration.
func (f *Filter) checkEdges(mask *[16]uint16) error {
	const timed, listeners, role, reason = "timed", "listeners", "role", "reason"
	refused := make(map[string]bool)
	for from, list := range next {
		for _, to := range list {
			switch {
			case mask[from]&(1<<to) == 0:
			case !f.Role.goes(from, to):
				refused[role] = true
			case len(f.Reasons) > 0 && !slices.ContainsFunc(f.Reasons, func(r Reason) bool { return r.ends(from, to) }):
				refused[reason] = true
			case f.MinDuration > 0 && !leaves(from, to):
				refused[timed] = true
			case (from == Listen && to == Closed || to == Listen) && !f.CanMatchListener():
				refused[listeners] = true
			default:
				return nil
			}
		}
	}
	switch {
	case refused[listeners]:
		return &FilterError{"a listener has a local port only"}
	case refused[reason]:
		return &FilterError{fmt.Sprintf("none of these transitions has a reason that is %v", f.Reasons)}
	case refused[role]:
		return &FilterError{fmt.Sprintf("a %v makes none of these transitions", f.Role)}
	}
	return &FilterError{"nothing is timed in CLOSED, nor in LISTEN until the listener is closed: leave the minimum duration out"}
}

// goes reports whether a socket with this role can make this transition.
func (r Role) goes(from, to State) bool {
	listens := to == Listen || from == Listen && to == Closed
	switch r {
	case RoleListener:
		return listens
	case RoleServer:
		return !listens && from != SynSent && to != SynSent
	case RoleClient:
		return !listens && from != Listen
	}
	return true
}

// ends reports whether a transition can have this reason.
func (r Reason) ends(from, to State) bool {
	switch r {
	case ReasonFinReceived: // CLOSING ends with an ACK
		return to == CloseWait || to == Closing || to == TimeWait && from != Closing
	case ReasonExpired:
		return to == Closed && (from == FinWait2 || from == TimeWait)
	}
	return to == Closed
}

// CanMatchListener reports whether a listener, which has no remote port, can have the
// ports asked for.
func (f *Filter) CanMatchListener() bool {
	return len(f.RemotePorts) == 0 && (len(f.Ports) == 0 || len(f.LocalPorts) == 0 || share(f.Ports, f.LocalPorts))
}

// share reports whether two lists have a value in common.
func share(a, b []PortRange) bool {
	return slices.ContainsFunc(a, func(x PortRange) bool {
		return slices.ContainsFunc(b, func(y PortRange) bool { return x.First <= y.Last && y.First <= x.Last })
	})
}

// CheckConnections is like Check, for the fields that pick connections only: a caller
// may apply these to sockets itself.
func (f *Filter) CheckConnections() error {
	for _, l := range f.lists() {
		if l.n > FilterMax {
			return fmt.Errorf("%d %s filters: %d are possible", l.n, l.name, FilterMax)
		}
	}
	if f.IPv4 && f.IPv6 {
		return &FilterError{"no connection is IPv4 and IPv6; leave both out to see both"}
	}
	for _, p := range slices.Concat(f.Addrs, f.NotAddrs) {
		if !p.IsValid() {
			return fmt.Errorf("invalid address %v", p.Prefix)
		}
		if p.ScopeID != 0 && !(p.Addr().Is6() && p.Addr().IsLinkLocalUnicast()) {
			return &FilterError{fmt.Sprintf("%v has no interface: only a link-local address (fe80::/10) has", p.Prefix)}
		}
		if p.Addr().Is4In6() {
			return &FilterError{fmt.Sprintf("%v: a v4-mapped address is shown as IPv4; write it so", p.Prefix)}
		}
	}
	if len(f.Addrs) > 0 && (f.IPv4 || f.IPv6) &&
		!slices.ContainsFunc(f.Addrs, func(p AddrFilter) bool { return p.Addr().Is4() == f.IPv4 }) {
		return &FilterError{"every address is of the other family than the one asked for"}
	}
	if n := len(f.HandlerComms); n > FilterMax {
		return fmt.Errorf("%d handler comm filters: %d are possible", n, FilterMax)
	}
	for _, c := range slices.Concat(f.Comms, f.HandlerComms, f.NotComms) {
		if len(c) > 15 {
			return &FilterError{fmt.Sprintf("comm %q is longer than the 15 bytes that the kernel keeps", c)}
		}
		if c == "" || strings.ContainsRune(c, 0) {
			return &FilterError{fmt.Sprintf("no process is called %q", c)}
		}
	}
	for _, p := range slices.Concat(f.PIDs, f.NotPIDs) {
		if p == 0 {
			return &FilterError{"no process has pid 0"}
		}
		if p > pidMax {
			return &FilterError{fmt.Sprintf("no process has pid %d: the highest is %d", p, pidMax)}
		}
	}
	for _, r := range slices.Concat(f.Ports, f.LocalPorts, f.RemotePorts, f.NotPorts) {
		if r.First == 0 {
			return &FilterError{"no connection has port 0"}
		}
		if r.First > r.Last {
			return fmt.Errorf("ports %v: the first is above the last", r)
		}
	}
	if slices.Contains(f.Cookies, 0) {
		return &FilterError{"no socket has cookie 0"}
	}
	if slices.Contains(f.Reasons, ReasonNone) {
		return &FilterError{"a reason has a name"}
	}
	if err := f.checkNot(); err != nil {
		return err
	}
	if len(f.Ports) > 0 && len(f.LocalPorts) > 0 && len(f.RemotePorts) > 0 &&
		!share(f.Ports, f.LocalPorts) && !share(f.Ports, f.RemotePorts) {
		return &FilterError{fmt.Sprintf("a connection has two ports: with local port %s and remote port %s it has no port %s",
			oneOf(f.LocalPorts), oneOf(f.RemotePorts), oneOf(f.Ports))}
	}
	return nil
}

// checkNot says if everything that is asked for is also to be left out.
func (f *Filter) checkNot() error {
	if within(PortRange{1, math.MaxUint16}, f.NotPorts) {
		return &FilterError{"every port is to be left out"}
	}
	for _, list := range []struct {
		name     string
		n        int
		excluded func(int) bool
	}{
		{"pid", len(f.PIDs), func(i int) bool { return slices.Contains(f.NotPIDs, f.PIDs[i]) }},
		{"comm", len(f.Comms), func(i int) bool { return slices.Contains(f.NotComms, f.Comms[i]) }},
		{"port", len(f.Ports), func(i int) bool { return within(f.Ports[i], f.NotPorts) }},
		{"local port", len(f.LocalPorts), func(i int) bool { return within(f.LocalPorts[i], f.NotPorts) }},
		{"remote port", len(f.RemotePorts), func(i int) bool { return within(f.RemotePorts[i], f.NotPorts) }},
		{"address", len(f.Addrs), func(i int) bool {
			return slices.ContainsFunc(f.NotAddrs, func(not AddrFilter) bool { return not.holds(&f.Addrs[i]) })
		}},
	} {
		left := list.n
		for i := range list.n {
			if list.excluded(i) {
				left--
			}
		}
		if list.n > 0 && left == 0 {
			return &FilterError{"every " + list.name + " that is asked for is also to be left out"}
		}
	}
	return nil
}

// holds reports whether what the other one matches is matched as well.
func (a *AddrFilter) holds(other *AddrFilter) bool {
	return a.Addr().Is4() == other.Addr().Is4() && a.Bits() <= other.Bits() && a.Contains(other.Addr()) &&
		(a.Port == 0 || a.Port == other.Port) && (a.ScopeID == 0 || a.ScopeID == other.ScopeID) &&
		(a.NetNSCookie == 0 || a.NetNSCookie == other.NetNSCookie)
}

// within reports whether one of the list has all of a range.
func within(r PortRange, list []PortRange) bool {
	return slices.ContainsFunc(list, func(of PortRange) bool { return of.Has(r.First) && of.Has(r.Last) })
}

// CheckSegments says if a filter leaves out every Segment.
func (f *Filter) CheckSegments() error {
	if len(f.PIDs)+len(f.Comms)+len(f.HandlerComms)+len(f.Cgroups)+len(f.Cookies) > 0 || f.Role != RoleUnknown || f.picksTransitions() {
		return &FilterError{"an RST and a handshake have no process, no cgroup, no cookie, no role, no states and no reason"}
	}
	return nil
}

// oneOf writes ports for a sentence: "80 or 443".
func oneOf(ports []PortRange) string {
	words := make([]string, len(ports))
	for i, p := range ports {
		words[i] = p.String()
	}
	return strings.Join(words, " or ")
}

// edges gives, for each state that is left, a bit for each state that may be entered.
func (f *Filter) edges() (mask [16]uint16, err error) {
	states, from, to := setOf(f.States), setOf(f.From), setOf(f.To)
	var any, landed bool
	for a, list := range next {
		if len(f.From) > 0 && !from[a] {
			continue
		}
		for _, b := range list {
			if len(f.To) > 0 && !to[b] {
				continue
			}
			landed = true
			if len(f.States) > 0 && !states[a] && !states[b] {
				continue
			}
			mask[a] |= 1 << b
			any = true
		}
	}
	switch {
	case any:
		return mask, nil
	case len(f.From) == 1 && len(f.To) == 1:
		return mask, &FilterError{fmt.Sprintf("TCP never goes from %v to %v", f.From[0], f.To[0])}
	case landed || len(f.States) > 0 && states[NewSynRecv]:
		return mask, &FilterError{fmt.Sprintf("no transition that the kernel reports is left or entered by way of %v", f.States)}
	default:
		return mask, &FilterError{fmt.Sprintf("no transition that the kernel reports leads from %v to %v", f.From, f.To)}
	}
}

// Picks reports whether anything is filtered at all.
func (f *Filter) Picks() bool {
	return len(f.HandlerComms) > 0 || f.filtersConnections() || f.picksTransitions()
}

func (f *Filter) filtersConnections() bool {
	return f.IPv4 || f.IPv6 || f.Role != RoleUnknown || slices.ContainsFunc(f.lists(), func(l filterList) bool { return l.n > 0 })
}

// PassesTransition reports whether a transition passes States, From, To, Reasons and MinDuration,
// as the kernel side decides it. It does not ask the filters on connections.
func (f *Filter) PassesTransition(t *Transition) bool {
	lacks := func(all []State, s State) bool { return len(all) > 0 && !slices.Contains(all, s) }
	return !lacks(f.From, t.From) && !lacks(f.To, t.To) && (!lacks(f.States, t.From) || !lacks(f.States, t.To)) &&
		(len(f.Reasons) == 0 || slices.Contains(f.Reasons, t.Reason)) &&
		(f.MinDuration <= 0 || t.Precision != PrecisionUnknown && t.Duration >= f.MinDuration)
}

func (f *Filter) filtersEdges() bool { return len(f.States)+len(f.From)+len(f.To) > 0 }

func (f *Filter) picksTransitions() bool {
	return f.filtersEdges() || len(f.Reasons) > 0 || f.MinDuration > 0
}

// hasAddrPort reports whether an address is asked for together with a port.
func (f *Filter) hasAddrPort() bool {
	return slices.ContainsFunc(slices.Concat(f.Addrs, f.NotAddrs), func(a AddrFilter) bool { return a.Port != 0 })
}

func setOf(states []State) map[State]bool {
	set := make(map[State]bool, len(states))
	for _, s := range states {
		set[s] = true
	}
	return set
}
