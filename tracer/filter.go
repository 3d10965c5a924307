package tracer

import (
	"encoding/binary"
	"fmt"
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
	Ports       []uint16 // local or remote
	LocalPorts  []uint16
	RemotePorts []uint16
	Addrs       []AddrFilter // local or remote
	PIDs        []uint32     // of the owner
	Comms       []string     // of the owner, whole
	NetNS       []uint64     // cookies of network namespaces: SO_NETNS_COOKIE of a socket (Linux 5.14)
	Cgroups     []Cgroup     // and those below
	IPv4, IPv6  bool         // this family only; neither: both

	// HandlerComms picks transitions by the name of the handler, from when that is known
	// on. They ask for Config.NoTotals: what was live before cannot be counted.
	HandlerComms []string

	States      []State // left or entered
	From, To    []State
	MinDuration time.Duration // spent in the state that is left, as far as known
}

// An AddrFilter matches addresses. With a ScopeID these are link-local addresses of one
// interface.
type AddrFilter struct {
	netip.Prefix
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
	var (
		cidrs   [FilterMax]bpfCidr
		comms   [FilterMax]Comm
		cgroups [FilterMax]bpfCgroupFilter
	)
	for i, a := range f.Addrs[:min(len(f.Addrs), FilterMax)] {
		cidrs[i] = cidr(a)
	}
	for i, c := range f.Comms[:min(len(f.Comms), FilterMax)] {
		copy(comms[i][:], c)
	}
	for i, c := range f.Cgroups[:min(len(f.Cgroups), FilterMax)] {
		cgroups[i] = bpfCgroupFilter{Id: c.ID, Level: c.Level}
	}
	return []filterList{
		{"port", len(f.Ports), bpfVarPorts, bpfVarN_ports, padded(f.Ports)},
		{"local port", len(f.LocalPorts), bpfVarLocalPorts, bpfVarN_localPorts, padded(f.LocalPorts)},
		{"remote port", len(f.RemotePorts), bpfVarRemotePorts, bpfVarN_remotePorts, padded(f.RemotePorts)},
		{"address", len(f.Addrs), bpfVarCidrs, bpfVarN_cidrs, cidrs},
		{"pid", len(f.PIDs), bpfVarPids, bpfVarN_pids, padded(f.PIDs)},
		{"comm", len(f.Comms), bpfVarComms, bpfVarN_comms, comms},
		{"network namespace", len(f.NetNS), bpfVarNetns, bpfVarN_netns, padded(f.NetNS)},
		{"cgroup", len(f.Cgroups), bpfVarCgroups, bpfVarN_cgroups, cgroups},
	}
}

// padded gives a list the length that the programs have for it.
func padded[T any](values []T) [FilterMax]T {
	var a [FilterMax]T
	copy(a[:], values)
	return a
}

func cidr(a AddrFilter) bpfCidr {
	c := bpfCidr{Family: familyIPv4, ScopeId: a.ScopeID, NetnsCookie: a.NetNSCookie}
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
	const timed, listeners = "timed", "listeners"
	refused := make(map[string]bool)
	for from, list := range next {
		for _, to := range list {
			switch {
			case mask[from]&(1<<to) == 0:
			case f.MinDuration > 0 && !leaves(from, to):
				refused[timed] = true
			case (from == Listen && to == Closed || to == Listen) && !f.canMatchListener():
				refused[listeners] = true
			default:
				return nil
			}
		}
	}
	if refused[listeners] {
		return &FilterError{"a listener has a local port only"}
	}
	return &FilterError{"nothing is timed in CLOSED, nor in LISTEN until the listener is closed: leave the minimum duration out"}
}

// canMatchListener reports whether a listener, which has no remote port, can have the
// ports asked for.
func (f *Filter) canMatchListener() bool {
	return len(f.RemotePorts) == 0 && (len(f.Ports) == 0 || len(f.LocalPorts) == 0 || share(f.Ports, f.LocalPorts))
}

// share reports whether two lists have a value in common.
func share(a, b []uint16) bool {
	return slices.ContainsFunc(a, func(p uint16) bool { return slices.Contains(b, p) })
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
	family := 0
	for _, p := range f.Addrs {
		if !p.IsValid() {
			return fmt.Errorf("invalid address %v", p.Prefix)
		}
		if p.ScopeID != 0 && !(p.Addr().Is6() && p.Addr().IsLinkLocalUnicast()) {
			return &FilterError{fmt.Sprintf("%v has no interface: only a link-local address (fe80::/10) has", p.Prefix)}
		}
		if p.Addr().Is4In6() {
			return &FilterError{fmt.Sprintf("%v: a v4-mapped address is shown as IPv4; write it so", p.Prefix)}
		}
		if p.Addr().Is4() == f.IPv4 || p.Addr().Is6() == f.IPv6 || !f.IPv4 && !f.IPv6 {
			family++
		}
	}
	if len(f.Addrs) > 0 && family == 0 {
		return &FilterError{"every address is of the other family than the one asked for"}
	}
	if n := len(f.HandlerComms); n > FilterMax {
		return fmt.Errorf("%d handler comm filters: %d are possible", n, FilterMax)
	}
	for _, c := range slices.Concat(f.Comms, f.HandlerComms) {
		if len(c) > 15 {
			return &FilterError{fmt.Sprintf("comm %q is longer than the 15 bytes that the kernel keeps", c)}
		}
		if c == "" || strings.ContainsRune(c, 0) {
			return &FilterError{fmt.Sprintf("no process is called %q", c)}
		}
	}
	for _, p := range f.PIDs {
		if p == 0 {
			return &FilterError{"no process has pid 0"}
		}
		if p > pidMax {
			return &FilterError{fmt.Sprintf("no process has pid %d: the highest is %d", p, pidMax)}
		}
	}
	for _, list := range [][]uint16{f.Ports, f.LocalPorts, f.RemotePorts} {
		for _, p := range list {
			if p == 0 {
				return &FilterError{"no connection has port 0"}
			}
		}
	}
	if len(f.Ports) > 0 && len(f.LocalPorts) > 0 && len(f.RemotePorts) > 0 &&
		!share(f.Ports, f.LocalPorts) && !share(f.Ports, f.RemotePorts) {
		return &FilterError{fmt.Sprintf("a connection has two ports: with local port %s and remote port %s it has no port %s",
			oneOf(f.LocalPorts), oneOf(f.RemotePorts), oneOf(f.Ports))}
	}
	return nil
}

// CheckSegments says if a filter leaves out every Segment.
func (f *Filter) CheckSegments() error {
	if len(f.PIDs)+len(f.Comms)+len(f.HandlerComms)+len(f.Cgroups) > 0 || f.filtersEdges() || f.MinDuration > 0 {
		return &FilterError{"an RST and a handshake have no process, no cgroup and no states"}
	}
	return nil
}

// oneOf writes ports for a sentence: "80 or 443".
func oneOf(ports []uint16) string {
	words := make([]string, len(ports))
	for i, p := range ports {
		words[i] = strconv.Itoa(int(p))
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
	return len(f.HandlerComms) > 0 || f.filtersConnections() || f.filtersEdges() || f.MinDuration > 0
}

func (f *Filter) filtersConnections() bool {
	return f.IPv4 || f.IPv6 || slices.ContainsFunc(f.lists(), func(l filterList) bool { return l.n > 0 })
}

func (f *Filter) filtersEdges() bool { return len(f.States)+len(f.From)+len(f.To) > 0 }

func setOf(states []State) map[State]bool {
	set := make(map[State]bool, len(states))
	for _, s := range states {
		set[s] = true
	}
	return set
}
