package tracer

import "time"

// A ProgramStats is what the kernel says of one of the tracer's BPF programs.
type ProgramStats struct {
	Name     string
	Attached bool // false: this kernel does not have its hook, or does not need it

	// Skipped is how often the kernel did not run it, because it was running on that CPU already
	// (recursion_misses of bpf_prog_info, Linux 5.12). Another program may have taken over.
	Skipped uint64

	// Runs and RunTime are only counted while kernel.bpf_stats_enabled is 1, or another program
	// asks the kernel for it (BPF_ENABLE_STATS). Runs is 0 if nothing was counted.
	Runs    uint64
	RunTime time.Duration
}

// A MapFill is how full a hash of the programs is. What it has no room for is counted: as
// LossMapFull of sockets and minisocks, as Totals.Ungrouped of groups, and together in
// NetNSTotals(0) of namespaces.
type MapFill struct {
	// Name is "sockets", "minisocks", "groups" or "namespaces". Most records of sockets and
	// minisocks are in arrays: the hashes have only those whose place there was taken.
	Name string

	Entries  uint64 // at the moment of the call
	Capacity uint64
}
