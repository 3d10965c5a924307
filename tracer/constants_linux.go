package tracer

import (
	"fmt"
	"math"

	"github.com/cilium/ebpf"
)

// setConstants writes filters and options into the object. The verifier removes what is off.
func setConstants(spec *ebpf.CollectionSpec, cfg *Config, syms *symbols, hz uint32) error {
	f := &cfg.Filter
	edges, err := f.edges()
	if err != nil {
		return err
	}
	overflowMIB, err := overflowCounter()
	if err != nil {
		return err
	}
	var ranges [64]bpfCallerRange // MAX_CALLERS
	for i := range ranges {
		ranges[i].Start = math.MaxUint64
	}
	if n := copy(ranges[:], syms.callers); n < len(syms.callers) {
		return fmt.Errorf("the kernel has %d functions by the names that finwait looks for, there is room for %d", len(syms.callers), n)
	}

	set := func(name string, value any) {
		if err == nil {
			err = spec.Variables[name].Set(value)
		}
	}
	var softirqs [4]bpfCallerRange
	if n := copy(softirqs[:], syms.softirqs); n < len(syms.softirqs) {
		return fmt.Errorf("the kernel has %d functions by the names of those that run softirqs, there is room for %d", len(syms.softirqs), n)
	}
	set(bpfVarHz, hz)
	set(bpfVarSoftirqs, softirqs)
	set(bpfVarStacksOn, flag(cfg.Stacks != StacksNone))
	set(bpfVarUserStacksOn, flag(cfg.Stacks&StacksUser != 0))
	set(bpfVarOverdueAfter, uint32(overdueAfter(hz).Seconds()*float64(hz)))
	set(bpfVarTwTimerHandler, syms.twTimerHandler)
	set(bpfVarCallers, ranges)
	set(bpfVarOverflowMib, overflowMIB)
	set(bpfVarN_callers, uint32(len(syms.callers)))
	set(bpfVarWakeBytes, uint64(spec.Maps[bpfMapRings].InnerMap.MaxEntries/2))
	set(bpfVarRaw, flag(cfg.Raw))
	set(bpfVarTotalsOn, flag(!cfg.NoTotals && !cfg.Raw))
	set(bpfVarStream, flag(!cfg.TotalsOnly))
	set(bpfVarOwners, flag(cfg.needsOwners()))
	set(bpfVarSplitBy, uint32(cfg.SplitBy))
	set(bpfVarGroupBuckets, flag(!cfg.GroupSums))
	set(bpfVarAudit, flag(cfg.Audit))

	for _, l := range f.lists() {
		set(l.knob, l.values)
		set(l.count, uint32(l.n))
	}
	switch {
	case f.IPv4:
		set(bpfVarOnlyFamily, uint16(familyIPv4))
	case f.IPv6:
		set(bpfVarOnlyFamily, uint16(familyIPv6))
	}
	var reasons uint32
	for _, r := range f.Reasons {
		reasons |= 1 << r
	}
	set(bpfVarOnlyReasons, reasons)
	set(bpfVarOnlyRole, uint8(f.Role))
	set(bpfVarCidrsWithPort, flag(f.hasAddrPort()))
	set(bpfVarFiltersConnections, flag(f.filtersConnections()))
	set(bpfVarEdges, edges)
	set(bpfVarFilterEdges, flag(f.filtersEdges()))
	set(bpfVarRstSendersOn, flag(cfg.RST && !cfg.TotalsOnly))
	set(bpfVarMetricsOn, flag(cfg.Metrics))
	set(bpfVarHandlersOn, flag(cfg.needsHandlers()))
	var handlers [FilterMax]Comm
	for i, c := range f.HandlerComms {
		copy(handlers[i][:], c)
	}
	set(bpfVarHandlerComms, handlers)
	set(bpfVarN_handlerComms, uint32(len(f.HandlerComms)))
	set(bpfVarMinDurationNs, uint64(f.MinDuration))
	if err != nil {
		return fmt.Errorf("set a constant of the BPF object: %w", err)
	}
	return nil
}

func flag(on bool) uint8 {
	if on {
		return 1
	}
	return 0
}
