package tracer

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/rs/zerolog"
)

// A Config says what to trace. Its zero value traces everything.
type Config struct {
	Filter Filter

	// RingBytes is the size of the ring buffer between kernel and reader, a
	// power of two and a multiple of the page size; 0: 8 MiB.
	RingBytes uint32

	// Minisocks is how many sockets in FIN_WAIT_2, CLOSING and TIME_WAIT can be
	// followed at a time, at the least; 0: twice net.ipv4.tcp_max_tw_buckets.
	Minisocks uint32

	// Hooks picks how minisocks are followed; the zero value takes the best that the kernel permits.
	Hooks HookSet

	// Raw asks for RawEvents (RunRaw) in place of Transitions (Run).
	Raw bool

	// TotalsOnly leaves the ring buffer out: Run hands nothing over, Totals tells all.
	TotalsOnly bool

	// NoTotals leaves the totals out, for what they cost: Totals then fails.
	NoTotals bool

	// SplitBy keeps, beside the totals of all, those of each group: Groups.
	SplitBy Split

	// GroupStates bounds the memory of the groups: it is how many states of
	// groups there can be; 0: 8192, which take up to 34 MB. What comes when all
	// are taken is in no group.
	GroupStates uint32

	// Audit keeps, for each network namespace, what the kernel's own counters
	// should have counted: NetNSTotals. Only without a filter can they.
	Audit bool

	// Idle, if set, is called whenever all events so far have been handled and
	// the reader is about to wait: the moment to flush.
	Idle func() error

	// Logger is told of losses while they happen, once a second at most. The zero value says nothing.
	Logger zerolog.Logger
}

// HookSet is a set of places in the kernel from which minisocks are followed. Both
// sets see every birth and end, and the same reasons. What the tracepoints do not
// show as it happens, before Linux 6.11 the moment that a TIME_WAIT begins, is worked
// out afterwards; Precision says so.
type HookSet uint8

// The sets of hooks.
const (
	HooksAuto       HookSet = iota // Fentry where the kernel lets it attach, otherwise Tracepoint
	HooksFentry                    // functions of the kernel, which run for minisocks only: exact; needs BPF trampolines (x86-64: 5.5, arm64: 6.4)
	HooksTracepoint                // timer_start, timer_cancel, timer_expire_entry and kfree_skb
)

func (cfg *Config) check() error {
	if cfg.Audit && cfg.Filter.Picks() {
		return errors.New("the kernel's counters count everything: an audit goes with no filter")
	}
	if cfg.NoTotals && (cfg.TotalsOnly || cfg.Audit || cfg.SplitBy != SplitNone) {
		return errors.New("without totals nothing can be made of them: no split, no audit, no totals only")
	}
	if cfg.Raw && (cfg.TotalsOnly || cfg.Audit || cfg.SplitBy != SplitNone) {
		return errors.New("raw events are not counted in totals")
	}
	return cfg.Filter.Check()
}

func (cfg *Config) groupStates() uint32 {
	if cfg.GroupStates > 0 {
		return cfg.GroupStates
	}
	return 8 << 10
}

// needsOwners: without a stream only few things ask who made a socket.
func (cfg *Config) needsOwners() bool {
	return !cfg.TotalsOnly || len(cfg.Filter.PIDs)+len(cfg.Filter.Comms) > 0 ||
		cfg.SplitBy == SplitPID || cfg.SplitBy == SplitComm || cfg.SplitBy == SplitCgroup
}

// Split says what makes transitions belong together.
type Split uint32

// What totals can be split by.
const (
	SplitNone   Split = Split(bpfSplitSPLIT_NONE)
	SplitPort   Split = Split(bpfSplitSPLIT_PORT)   // the server's, where it is known which end that is
	SplitRemote Split = Split(bpfSplitSPLIT_REMOTE) // address
	SplitPID    Split = Split(bpfSplitSPLIT_PID)    // of the owner
	SplitComm   Split = Split(bpfSplitSPLIT_COMM)   // of the owner
	SplitNetNS  Split = Split(bpfSplitSPLIT_NETNS)
	SplitCgroup Split = Split(bpfSplitSPLIT_CGROUP) // of the owner
)

// FilterMax is how many values one list of a Filter can hold.
const FilterMax = 16

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
	Addrs       []netip.Prefix // local or remote
	PIDs        []uint32       // of the owner
	Comms       []string       // of the owner, whole
	NetNS       []uint32       // inode numbers
	Cgroups     []Cgroup       // and those below
	IPv4, IPv6  bool           // this family only; neither: both

	States      []State // left or entered
	From, To    []State
	MinDuration time.Duration // spent in the state that is left, as far as known
}

// A Cgroup is a cgroup v2 directory.
type Cgroup struct {
	ID    uint64 // its inode number
	Level uint32 // 0: the root
}

// Check says what is wrong with a filter before the kernel is asked for
// anything; New does the same. A filter that can never match is a *FilterError.
func (f *Filter) Check() error {
	if err := f.CheckConnections(); err != nil {
		return err
	}
	if f.MinDuration < 0 {
		return fmt.Errorf("minimum duration %v is negative", f.MinDuration)
	}
	_, err := f.edges()
	return err
}

// CheckConnections says what is wrong with the fields that pick connections,
// for a caller who applies a Filter to sockets itself.
func (f *Filter) CheckConnections() error {
	for name, n := range map[string]int{
		"port": len(f.Ports), "local port": len(f.LocalPorts), "remote port": len(f.RemotePorts),
		"address": len(f.Addrs), "pid": len(f.PIDs), "comm": len(f.Comms),
		"network namespace": len(f.NetNS), "cgroup": len(f.Cgroups),
	} {
		if n > FilterMax {
			return fmt.Errorf("%d %s filters: %d are possible", n, name, FilterMax)
		}
	}
	if f.IPv4 && f.IPv6 {
		return &FilterError{"no connection is IPv4 and IPv6; leave both out to see both"}
	}
	family := 0
	for _, p := range f.Addrs {
		if !p.IsValid() {
			return fmt.Errorf("invalid address %v", p)
		}
		if p.Addr().Is4In6() {
			return &FilterError{fmt.Sprintf("%v: a v4-mapped address is shown as IPv4; write it so", p)}
		}
		if p.Addr().Is4() == f.IPv4 || p.Addr().Is6() == f.IPv6 || !f.IPv4 && !f.IPv6 {
			family++
		}
	}
	if len(f.Addrs) > 0 && family == 0 {
		return &FilterError{"every address is of the other family than the one asked for"}
	}
	for _, c := range f.Comms {
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
	}
	for _, list := range [][]uint16{f.Ports, f.LocalPorts, f.RemotePorts} {
		for _, p := range list {
			if p == 0 {
				return &FilterError{"no connection has port 0"}
			}
		}
	}
	return nil
}

// edges gives, for each state left, a bit for each state entered that passes.
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
	return f.filtersConnections() || f.filtersEdges() || f.MinDuration > 0
}

func (f *Filter) filtersConnections() bool {
	return len(f.Ports)+len(f.LocalPorts)+len(f.RemotePorts)+len(f.Addrs)+len(f.PIDs)+len(f.Comms)+
		len(f.NetNS)+len(f.Cgroups) > 0 || f.IPv4 || f.IPv6
}

func (f *Filter) filtersEdges() bool { return len(f.States)+len(f.From)+len(f.To) > 0 }

func setOf(states []State) map[State]bool {
	set := make(map[State]bool, len(states))
	for _, s := range states {
		set[s] = true
	}
	return set
}
