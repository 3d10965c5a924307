package sockets

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"

	"finwait/tracer"
)

// A portSet is a set of ports.
type portSet [1 << 16 / 64]uint64

func (s *portSet) add(port uint16)      { s[port/64] |= 1 << (port % 64) }
func (s *portSet) remove(port uint16)   { s[port/64] &^= 1 << (port % 64) }
func (s *portSet) has(port uint16) bool { return s[port/64]&(1<<(port%64)) != 0 }

func (s *portSet) count() (n int) {
	for _, word := range s {
		n += bits.OnesCount64(word)
	}
	return n
}

// A space is what is known of the ports of a network namespace.
type space struct {
	listened portSet // local ports of listeners
	bound    portSet // of sockets that are only bound, once the sockets were read

	// The ports that connect(2) chooses from, if a socket has none, and how many. nil: not known.
	usable *portSet
	count  int
	// How many of them connect(2) must leave out whatever the destination, because a listener or a
	// socket that is only bound holds them: __inet_hash_connect() takes no port that belongs to a
	// bind(2). Sockets that were bound before they connected hold theirs, too, but no kernel lists
	// which those are.
	held      int
	heldKnown bool
	binders   map[tracer.Process]int // how many of them a process holds with sockets that are only bound
}

// bind takes note of a socket that is only bound. A port counts for the first one that holds it.
func (s *space) bind(port uint16, owner tracer.Process) {
	if s.usable != nil && s.usable.has(port) && !s.bound.has(port) && owner.PID != 0 {
		if s.binders == nil {
			s.binders = make(map[tracer.Process]int)
		}
		s.binders[owner]++
	}
	s.bound.add(port)
}

// finish is to be called when the sockets were read.
func (s *space) finish() {
	if s.usable == nil {
		return
	}
	s.count = s.usable.count()
	for i, usable := range s.usable {
		s.held += bits.OnesCount64(usable & (s.listened[i] | s.bound[i]))
	}
}

// parsePorts reads ip_local_port_range and ip_local_reserved_ports, as in ip-sysctl.rst: two
// numbers; and a list of numbers and ranges, separated by commas.
func parsePorts(between, reserved string) (*portSet, error) {
	var low, high uint16
	if n, err := fmt.Sscan(between, &low, &high); n != 2 || low > high {
		return nil, fmt.Errorf("ip_local_port_range %q: %w", between, err)
	}
	usable := new(portSet)
	for port := uint32(low); port <= uint32(high); port++ {
		usable.add(uint16(port))
	}
	for part := range strings.SplitSeq(strings.TrimSpace(reserved), ",") {
		if part == "" {
			continue // nothing is reserved
		}
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 16)
		to, wrong := strconv.ParseUint(last, 10, 16)
		if err != nil || wrong != nil || from > to {
			return nil, fmt.Errorf("ip_local_reserved_ports %q: %q is no port and no range", reserved, part)
		}
		for port := from; port <= to; port++ {
			usable.remove(uint16(port))
		}
	}
	return usable, nil
}

// A PortSpace is the ports of a network namespace.
type PortSpace struct{ *space }

// Listened reports whether a socket listens on a port.
func (p PortSpace) Listened(port uint16) bool { return p.space != nil && p.listened.has(port) }

// Choosable reports whether a port is one that connect(2) can choose; false if that is not known.
func (p PortSpace) Choosable(port uint16) bool {
	return p.space != nil && p.usable != nil && p.usable.has(port)
}

// Held reports whether connect(2) must leave a port out because a listener or a socket that is only
// bound holds it, once all sockets of the namespace were read.
func (p PortSpace) Held(port uint16) bool {
	return p.space != nil && (p.listened.has(port) || p.bound.has(port))
}

// Binder is the process that holds most of the ports that connect(2) can choose with sockets that are
// only bound, and how many; 0: none is known.
func (p PortSpace) Binder() (most tracer.Process, ports int) {
	if p.space == nil {
		return most, 0
	}
	for owner, n := range p.binders {
		if n > ports || n == ports && owner.PID < most.PID {
			most, ports = owner, n
		}
	}
	return most, ports
}

// Ports are those that connect(2) can choose, once all sockets of the namespace were read: nothing is
// Used. All is 0 if that is not known.
func (p PortSpace) Ports() Ports {
	if p.space == nil || p.usable == nil {
		return Ports{}
	}
	return Ports{Usable: p.count, Held: p.held, HeldKnown: p.heldKnown}
}
