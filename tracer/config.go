package tracer

import (
	"errors"
	"fmt"

	"github.com/rs/zerolog"
)

// A Config says what to trace. Its zero value traces everything.
type Config struct {
	Filter Filter

	// RingBytes is the size of the ring buffers between kernel and reader together, a
	// power of two and a multiple of the page size; 0: 8 MiB. They share it, one for each
	// CPU and 64 at most: one page each at least, with 0 256 KiB at least.
	RingBytes uint32

	// Minisocks is how many sockets in FIN_WAIT_2, CLOSING and TIME_WAIT can be
	// followed at a time, at the least; 0: twice net.ipv4.tcp_max_tw_buckets.
	Minisocks uint32

	// Hooks picks how minisocks are followed; the zero value takes the best that the kernel permits.
	Hooks HookSet

	// Raw asks for RawEvents (RunRaw) in place of Transitions (Run).
	Raw bool

	// TotalsOnly leaves out the ring buffer: Run gets nothing, Totals has everything.
	TotalsOnly bool

	// NoTotals leaves out the totals, to save their cost. Then Totals fails.
	NoTotals bool

	// SplitBy also keeps the totals of each group, for Groups.
	SplitBy Split

	// GroupStates bounds the memory of the groups. It counts each state of each
	// group; 0: 8192, which take up to 34 MB. A transition for which there is no
	// room is in no group.
	GroupStates uint32

	// GroupSums keeps of the durations of a group how many they are and their sum, and no
	// buckets: StateTotals.Durations is nil. A state then takes some 128 bytes.
	GroupSums bool

	// Handlers finds out who uses each connection. Its programs run for each read from a
	// socket and each write to one. A Filter on handlers and SplitHandler ask for it, too.
	Handlers bool

	// RST and Handshakes ask for Segments: RSTs, and SYN-ACKs that are sent again. Run
	// hands them to Segment, in their order among the transitions; with TotalsOnly they
	// are only counted, for SegmentCounts. They have no owner, no cgroup and no states: a
	// Filter on these leaves them out. RST also asks for Transition.RSTBy, so there it may be meant.
	RST, Handshakes bool
	Segment         func(*Segment) error

	// Metrics asks for the Metrics of each transition.
	Metrics bool

	// Stacks asks for the Stack of each transition or raw event. A stack takes the programs
	// some microseconds. For those of processes, Run reads the memory mappings and the
	// executable files of each process that is seen, and the ring buffers are 64 MiB if
	// RingBytes is 0. That needs Linux on amd64, the host's pid namespace and, for the
	// processes of other users, CAP_SYS_PTRACE.
	Stacks Stacks

	// LiveSockets makes it possible to ask Tracer.LiveSockets.
	LiveSockets bool

	// Audit keeps, for each network namespace, what the kernel's own counters should
	// have counted, for NetNSTotals. Those count everything, so there can be no filter.
	Audit bool

	// Idle, if set, is called whenever all events so far have been handled and
	// the reader is about to wait: the moment to flush.
	Idle func() error

	// Logger gets new losses, once a second at most. The zero value logs nothing.
	Logger zerolog.Logger
}

// HookSet is a set of places in the kernel from which minisocks are followed. Both sets
// see every birth and end, and the same reasons. Before Linux 6.11 the tracepoints do
// not show when a TIME_WAIT begins: that is computed afterwards, and Precision says so.
type HookSet uint8

// The sets of hooks.
const (
	HooksAuto       HookSet = iota // Fentry where the kernel lets it attach, otherwise Tracepoint
	HooksFentry                    // functions of the kernel, which run for minisocks only: exact; needs BPF trampolines (x86-64: 5.5, arm64: 6.4)
	HooksTracepoint                // timer_start, timer_cancel, timer_expire_entry and kfree_skb
)

func (cfg *Config) check() error {
	if cfg.Hooks != HooksAuto && cfg.Hooks.set() == nil {
		return fmt.Errorf("there is no set of hooks %d", cfg.Hooks)
	}
	if cfg.Audit && cfg.Filter.Picks() {
		return errors.New("the kernel's counters count everything: an audit goes with no filter")
	}
	if cfg.NoTotals && (cfg.TotalsOnly || cfg.Audit || cfg.SplitBy != SplitNone) {
		return errors.New("without totals nothing can be made of them: no split, no audit, no totals only")
	}
	if cfg.Raw && (cfg.TotalsOnly || cfg.Audit || cfg.SplitBy != SplitNone) {
		return errors.New("raw events are not counted in totals")
	}
	if (cfg.RST || cfg.Handshakes) && (cfg.Raw || cfg.Segment == nil && !cfg.TotalsOnly) {
		return errors.New("segments go to the function Segment, and there are none among raw events")
	}
	if cfg.Handshakes || cfg.RST && cfg.TotalsOnly {
		if err := cfg.Filter.CheckSegments(); err != nil {
			return err
		}
	}
	if cfg.Stacks > StacksBoth {
		return fmt.Errorf("there are no stacks %d", cfg.Stacks)
	}
	if cfg.Stacks != StacksNone && cfg.TotalsOnly {
		return errors.New("a stack belongs to a transition: there are none with totals only")
	}
	if cfg.Metrics && (cfg.Raw || cfg.TotalsOnly) {
		return errors.New("metrics belong to transitions: there are none with raw events, or with totals only")
	}
	if cfg.Raw && cfg.needsHandlers() {
		return errors.New("raw events have no handler")
	}
	if len(cfg.Filter.HandlerComms) > 0 && !cfg.NoTotals {
		return errors.New("totals cannot be filtered by handler: it is not known from the start")
	}
	return cfg.Filter.Check()
}

func (cfg *Config) groupStates() uint32 {
	if cfg.GroupStates > 0 {
		return cfg.GroupStates
	}
	return 8 << 10
}

// needsOwners: without a stream only these ask who created a socket.
func (cfg *Config) needsOwners() bool {
	return !cfg.TotalsOnly || len(cfg.Filter.PIDs)+len(cfg.Filter.Comms)+len(cfg.Filter.NotPIDs)+len(cfg.Filter.NotComms) > 0 ||
		cfg.SplitBy == SplitPID || cfg.SplitBy == SplitComm || cfg.SplitBy == SplitCgroup
}

func (cfg *Config) needsHandlers() bool {
	return cfg.Handlers || len(cfg.Filter.HandlerComms) > 0 || cfg.SplitBy == SplitHandler
}

// asksForPort: for some sockets the first transition cannot be told before the local port is known.
func (cfg *Config) asksForPort() bool {
	f := &cfg.Filter
	return len(f.Ports)+len(f.LocalPorts)+len(f.NotPorts) > 0 || f.hasAddrPort() || cfg.SplitBy == SplitPort
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

	// SplitHandler is by the name of the handler. A live connection is in its group from
	// the next transition on.
	SplitHandler Split = Split(bpfSplitSPLIT_HANDLER)

	// SplitDestination is by where a client connects to: remote address and port. All that is
	// no client, or of which that is not known, is one group without a name.
	SplitDestination Split = Split(bpfSplitSPLIT_DESTINATION)
)
