package tracer

import (
	"fmt"
	"math/bits"
	"os"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

const (
	defaultRingBytes = 8 << 20
	userRingBytes    = 64 << 20

	// leastUserRingBytes is how much of that each ring has at least: 230 stacks.
	leastUserRingBytes = 2 << 20
)

// maxRings bounds the ring buffers. Each takes four file descriptors. A machine may have room for
// many more CPUs than it has.
const maxRings = 64

// leastRingBytes is how much of the default each ring has at least: it takes the
// transitions of 25 ms at 60,000 a second.
const leastRingBytes = 256 << 10

// maxMinisockSlots bounds the array of minisocks, in which a record is found faster than
// in the hash. It has room for what 500 connections a second leave behind.
const maxMinisockSlots = 1 << 16

// Bounds for the number of full sockets. Between them it is four times the number of
// files that are open at the start.
const (
	minSockets = 1 << 18
	maxSockets = 1 << 24
)

// maxSegmentCounts is how many local ports and peers segments are counted by.
const maxSegmentCounts = 8 << 10

// maxLastMetrics is of how many minisocks the metrics of their full sockets are kept.
const maxLastMetrics = 1 << 17

// rstNotes is of how many RSTs at a time the sender is known: RST_NOTES.
const rstNotes = 4 << 10

// maxHandlers is of how many connections at a time the handler is known.
const maxHandlers = 1 << 18

// size fits the maps to the host.
func size(spec *ebpf.CollectionSpec, cfg *Config) error {
	n, ring, err := ringSizes(cfg)
	if err != nil {
		return err
	}
	spec.Maps[bpfMapRings].MaxEntries = n
	if err := spec.Variables[bpfVarN_rings].Set(n); err != nil {
		return fmt.Errorf("set a constant of the BPF object: %w", err)
	}
	spec.Maps[bpfMapRings].InnerMap.MaxEntries = ring

	minisocks := cfg.Minisocks
	if minisocks == 0 {
		minisocks = defaultMinisocks()
	}
	spec.Maps[bpfMapMinisocks].MaxEntries = minisocks
	slots := min(uint32(1)<<(bits.Len32(minisocks)-1), maxMinisockSlots)
	spec.Maps[bpfMapMinisockSlots].MaxEntries = slots
	if err := spec.Variables[bpfVarN_minisockSlots].Set(slots); err != nil {
		return fmt.Errorf("set a constant of the BPF object: %w", err)
	}
	if cfg.SplitBy == SplitNone {
		rest := "group"
		if !cfg.needsOwners() {
			rest = "owner"
		}
		for _, m := range []string{bpfMapMinisocks, bpfMapMinisockSlots} {
			if err := leaveOut(spec.Maps[m], rest); err != nil {
				return err
			}
		}
	}
	spec.Maps[bpfMapSockets].MaxEntries = max(minSockets, min(4*openFiles(), maxSockets))
	spec.Maps[bpfMapHolders].MaxEntries = 1024 + 2*openFiles()
	if cfg.SplitBy != SplitNone {
		spec.Maps[bpfMapGroups].MaxEntries = cfg.groupStates()
		spec.Maps[bpfMapGroupEnds].MaxEntries = cfg.groupStates()
		if cfg.GroupSums {
			if err := leaveOut(spec.Maps[bpfMapGroups], "max_ns"); err != nil {
				return err
			}
		}
	}
	if cfg.needsHandlers() {
		spec.Maps[bpfMapHandlers].MaxEntries = maxHandlers
	}
	if (cfg.RST || cfg.Handshakes) && !cfg.NoTotals {
		spec.Maps[bpfMapSegmentCounts].MaxEntries = maxSegmentCounts
	}
	if cfg.Metrics {
		spec.Maps[bpfMapLastMetrics].MaxEntries = maxLastMetrics
	}
	if cfg.RST && !cfg.TotalsOnly {
		spec.Maps[bpfMapRstNotes].MaxEntries = rstNotes
		spec.Maps[bpfMapRstSenders].MaxEntries = rstNotes
	}
	if cfg.Audit {
		spec.Maps[bpfMapNetnsTotals].MaxEntries = spec.Maps[bpfMapNamespaces].MaxEntries
	}
	return nil
}

// ringSizes is how many ring buffers there are, and how many bytes each has. There is one
// for each CPU that there can be, up to maxRings.
func ringSizes(cfg *Config) (n, size uint32, err error) {
	page := uint32(os.Getpagesize())
	if cfg.TotalsOnly {
		return 1, page, nil
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return 0, 0, err
	}
	n = min(uint32(1)<<bits.Len32(uint32(cpus)-1), maxRings)
	all, least := cfg.RingBytes, page
	if all == 0 {
		all, least = defaultRingBytes, max(page, leastRingBytes)
		if cfg.Stacks&StacksUser != 0 { // an event takes 9 KiB
			all, least = userRingBytes, leastUserRingBytes
		}
	}
	if bits.OnesCount32(all) != 1 || all%page != 0 {
		return 0, 0, fmt.Errorf("ring buffers of %d bytes: it must be a power of two and a multiple of the page size, %d", all, page)
	}
	return n, max(all>>bits.Len32(n-1), least), nil
}

// leaveOut shortens a map's values to end before a member that the programs do not use.
func leaveOut(m *ebpf.MapSpec, member string) error {
	value, ok := m.Value.(*btf.Struct)
	if !ok {
		return fmt.Errorf("values of %s: %v, want a struct", m.Name, m.Value)
	}
	for _, f := range value.Members {
		if f.Name == member {
			m.ValueSize = f.Offset.Bytes()
			m.Key, m.Value = nil, nil // the kernel compares their sizes with the map's
			return nil
		}
	}
	return fmt.Errorf("values of %s have no %s", m.Name, member)
}

// openFiles is how many files the host has open, sockets among them (proc_sys_fs(5)).
func openFiles() uint32 {
	b, err := os.ReadFile("/proc/sys/fs/file-nr")
	if err != nil {
		return 1 << 16
	}
	n, err := strconv.ParseUint(strings.Fields(string(b) + " 0")[0], 10, 30)
	if err != nil {
		return 1 << 16
	}
	return uint32(n)
}

// defaultMinisocks is twice what the kernel allows one network namespace: each namespace
// has a limit of its own, and sockets in FIN_WAIT_2 need records too.
func defaultMinisocks() uint32 {
	const least, most = 16 << 10, 4 << 20
	limit := uint64(256 << 10)
	if b, err := os.ReadFile("/proc/sys/net/ipv4/tcp_max_tw_buckets"); err == nil {
		if n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 31); err == nil {
			limit = n
		}
	}
	return uint32(min(most, max(least, 2*limit)))
}
