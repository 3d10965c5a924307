package tracer

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"weak"

	"finwait/internal/kallsyms"
	"finwait/internal/ktime"
	"finwait/internal/privilege"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

const (
	defaultRingBytes = 8 << 20
	twTimerHandler   = "tw_timer_handler"
)

// callers are the kernel functions by which finwait tells why a timer was
// cancelled or a socket reset. A kernel that has inlined one shows its caller
// instead, which is in the list too wherever that matters.
var callers = map[string]bpfCaller{
	"expire_timers":              bpfCallerCALLER_TIMER,
	"__run_timers":               bpfCallerCALLER_TIMER,
	"__run_timer_base":           bpfCallerCALLER_TIMER,
	"timer_expire_remote":        bpfCallerCALLER_TIMER,
	"run_timer_softirq":          bpfCallerCALLER_TIMER,
	"__mod_timer":                bpfCallerCALLER_REARM,
	"mod_timer":                  bpfCallerCALLER_REARM,
	"mod_timer_pending":          bpfCallerCALLER_REARM,
	"timer_shutdown_sync":        bpfCallerCALLER_DELETE, // 6.2
	"__timer_delete_sync":        bpfCallerCALLER_DELETE, // 6.2
	"del_timer_sync":             bpfCallerCALLER_DELETE, // until 6.1
	"try_to_del_timer_sync":      bpfCallerCALLER_DELETE,
	"inet_twsk_deschedule_put":   bpfCallerCALLER_DELETE,
	"tcp_timewait_state_process": bpfCallerCALLER_SEGMENT,
	"tcp_v4_rcv":                 bpfCallerCALLER_RECEIVE,
	"tcp_v6_rcv":                 bpfCallerCALLER_RECEIVE,
	"__inet_check_established":   bpfCallerCALLER_CONNECT,
	"__inet6_check_established":  bpfCallerCALLER_CONNECT,
	"__inet_hash_connect":        bpfCallerCALLER_CONNECT,
	"inet_hash_connect":          bpfCallerCALLER_CONNECT,
	"inet6_hash_connect":         bpfCallerCALLER_CONNECT,
	"tcp_abort":                  bpfCallerCALLER_ABORT,
	"inet_twsk_purge":            bpfCallerCALLER_PURGE,
	"tcp_twsk_purge":             bpfCallerCALLER_PURGE,
	"tcp_sk_exit_batch":          bpfCallerCALLER_PURGE,
	"tcp_keepalive_timer":        bpfCallerCALLER_KEEPALIVE,
	"inet_csk_listen_start":      bpfCallerCALLER_LISTEN,
	"tcp_validate_incoming":      bpfCallerCALLER_VALIDATE,
	"tcp_rcv_state_process":      bpfCallerCALLER_STATE_PROCESS,
}

// symbols are the kernel addresses that the programs compare with.
type symbols struct {
	twTimerHandler uint64
	callers        []bpfCallerRange
}

// symbolCache spares a process that opens several tracers the 100,000 lines and
// more of /proc/kallsyms: functions stay where they are, but for those of modules.
var symbolCache struct {
	sync.Mutex
	modules string // /proc/modules as the symbols were read
	symbols *symbols
}

// typesCache holds the kernel's types for as long as some tracer is being
// opened, and until the next collection of garbage.
var typesCache struct {
	sync.Mutex
	types weak.Pointer[btf.Cache]
}

func kernelTypesCache() *btf.Cache {
	typesCache.Lock()
	defer typesCache.Unlock()
	types := typesCache.types.Value()
	if types == nil {
		types = btf.NewCache()
		typesCache.types = weak.Make(types)
	}
	return types
}

func kernelSymbols() (*symbols, error) {
	modules, err := os.ReadFile("/proc/modules")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read the list of kernel modules: %w", err)
	}
	symbolCache.Lock()
	defer symbolCache.Unlock()
	if symbolCache.symbols != nil && symbolCache.modules == string(modules) {
		return symbolCache.symbols, nil
	}
	syms, err := readSymbols()
	if err != nil {
		return nil, err
	}
	symbolCache.modules, symbolCache.symbols = string(modules), syms
	return syms, nil
}

func readSymbols() (*symbols, error) {
	want := map[string]bool{twTimerHandler: true}
	for name := range callers {
		want[name] = true
	}
	f, err := os.Open("/proc/kallsyms")
	if err != nil {
		return nil, fmt.Errorf("open kernel symbols: %w", err)
	}
	defer f.Close()
	found, err := kallsyms.Find(f, want)
	if errors.Is(err, kallsyms.ErrHidden) {
		return nil, ErrHiddenSymbols
	}
	if err != nil {
		return nil, fmt.Errorf("read kernel symbols: %w", err)
	}
	handler := found[twTimerHandler]
	if len(handler) != 1 {
		return nil, fmt.Errorf("the kernel has %d functions called %s, want one: TIME_WAIT cannot be followed", len(handler), twTimerHandler)
	}
	syms := &symbols{twTimerHandler: handler[0].Start}
	for name, caller := range callers {
		for _, r := range found[name] {
			syms.callers = append(syms.callers, bpfCallerRange{Start: r.Start, End: r.End, Caller: uint32(caller)})
		}
	}
	slices.SortFunc(syms.callers, func(a, b bpfCallerRange) int { return cmp.Compare(a.Start, b.Start) })
	return syms, nil
}

// load brings the programs and maps into the kernel: those of one set of hooks.
func load(cfg *Config, hooks Hooks, types *btf.Cache) (*ebpf.Collection, error) {
	kernel, err := kernelTypes(types)
	if err != nil {
		return nil, err
	}
	set := hooks.set()
	for _, p := range set.programs {
		if p.function == "" {
			continue
		}
		empty, err := emptyFentry(types, p)
		if err != nil {
			return nil, err
		}
		empty.Close()
	}
	syms, err := kernelSymbols()
	if !set.needsSymbols && errors.Is(err, ErrHiddenSymbols) {
		syms, err = &symbols{}, nil // the stack tells nothing then: what only it could say is Killed
	}
	if err != nil {
		return nil, err
	}
	hz, err := ktime.HZ()
	if err != nil {
		return nil, err
	}
	spec, err := loadBpf()
	if err != nil {
		return nil, fmt.Errorf("read the embedded BPF object: %w", err)
	}
	if err := size(spec, cfg); err != nil {
		return nil, err
	}
	if err := setConstants(spec, cfg, syms, hz); err != nil {
		return nil, err
	}
	if err := spec.Variables[bpfVarSeesRearms].Set(flag(set.seesRearms)); err != nil {
		return nil, fmt.Errorf("set a constant of the BPF object: %w", err)
	}
	for _, other := range hookSets {
		if other.hooks == hooks {
			continue
		}
		for _, p := range other.programs {
			delete(spec.Programs, p.name)
		}
	}
	if !hasRxSk(kernel) {
		delete(spec.Programs, bpfProgKfreeSkb)
	}
	if !tracepointsPreempt() {
		delete(spec.Programs, bpfProgSetStateThird)
		delete(spec.Programs, bpfProgSetStateFourth)
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Cache: types})
	if err != nil {
		return nil, explainLoad(err, types)
	}
	return coll, nil
}

// maxMinisockSlots is how many minisocks are kept in an array, where they are found in
// less time than in a hash: as many as 500 connections a second leave behind.
const maxMinisockSlots = 1 << 16

// How many full sockets can be followed, at the least and at the most; in between
// it is four times as many as the files that are open at the start.
const (
	minSockets = 1 << 18
	maxSockets = 1 << 24
)

// size fits the maps to the host.
func size(spec *ebpf.CollectionSpec, cfg *Config) error {
	ring := cfg.RingBytes
	if ring == 0 {
		ring = defaultRingBytes
	}
	if cfg.TotalsOnly {
		ring = uint32(os.Getpagesize())
	}
	if page := uint32(os.Getpagesize()); bits.OnesCount32(ring) != 1 || ring%page != 0 {
		return fmt.Errorf("ring buffer of %d bytes: it must be a power of two and a multiple of the page size, %d", ring, page)
	}
	spec.Maps[bpfMapEvents].MaxEntries = ring

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
	if !cfg.needsOwners() {
		for _, m := range []string{bpfMapMinisocks, bpfMapMinisockSlots} {
			if err := leaveOut(spec.Maps[m], "owner"); err != nil {
				return err
			}
		}
	}
	spec.Maps[bpfMapSockets].MaxEntries = max(minSockets, min(4*openFiles(), maxSockets))
	spec.Maps[bpfMapHolders].MaxEntries = 1024 + 2*openFiles()
	if cfg.SplitBy != NoSplit {
		spec.Maps[bpfMapGroups].MaxEntries = cfg.groupStates()
	}
	if cfg.Audit {
		spec.Maps[bpfMapNetnsTotals].MaxEntries = spec.Maps[bpfMapNamespaces].MaxEntries
	}
	return nil
}

// leaveOut cuts a map's values off before a member that the programs have no use for.
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

// defaultMinisocks is twice what the kernel allows one network namespace, as
// each has a limit of its own and sockets in FIN_WAIT_2 are counted with them.
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

// setConstants writes filters and options into the object, where the verifier removes what is off.
func setConstants(spec *ebpf.CollectionSpec, cfg *Config, syms *symbols, hz uint32) error {
	f := &cfg.Filter
	edges, err := f.edges()
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
	set(bpfVarHz, hz)
	set(bpfVarTwTimerHandler, syms.twTimerHandler)
	set(bpfVarCallers, ranges)
	set(bpfVarN_callers, uint32(len(syms.callers)))
	set(bpfVarWakeBytes, uint64(spec.Maps[bpfMapEvents].MaxEntries/2))
	set(bpfVarRaw, flag(cfg.Raw))
	set(bpfVarTotalsOn, flag(!cfg.NoTotals && !cfg.Raw))
	set(bpfVarStream, flag(!cfg.TotalsOnly))
	set(bpfVarOwners, flag(cfg.needsOwners()))
	set(bpfVarSplitBy, uint32(cfg.SplitBy))
	set(bpfVarAudit, flag(cfg.Audit))

	set(bpfVarPorts, list(f.Ports))
	set(bpfVarN_ports, uint32(len(f.Ports)))
	set(bpfVarLocalPorts, list(f.LocalPorts))
	set(bpfVarN_localPorts, uint32(len(f.LocalPorts)))
	set(bpfVarRemotePorts, list(f.RemotePorts))
	set(bpfVarN_remotePorts, uint32(len(f.RemotePorts)))
	set(bpfVarPids, list(f.PIDs))
	set(bpfVarN_pids, uint32(len(f.PIDs)))
	set(bpfVarNetns, list(f.NetNS))
	set(bpfVarN_netns, uint32(len(f.NetNS)))

	var cidrs [FilterMax]bpfCidr
	for i, p := range f.Addrs {
		cidrs[i] = cidr(p)
	}
	set(bpfVarCidrs, cidrs)
	set(bpfVarN_cidrs, uint32(len(f.Addrs)))

	var comms [FilterMax][16]byte
	for i, c := range f.Comms {
		copy(comms[i][:], c)
	}
	set(bpfVarComms, comms)
	set(bpfVarN_comms, uint32(len(f.Comms)))

	var cgroups [FilterMax]bpfCgroupFilter
	for i, c := range f.Cgroups {
		cgroups[i] = bpfCgroupFilter{Id: c.ID, Level: c.Level}
	}
	set(bpfVarCgroups, cgroups)
	set(bpfVarN_cgroups, uint32(len(f.Cgroups)))

	switch {
	case f.IPv4:
		set(bpfVarOnlyFamily, uint16(familyIPv4))
	case f.IPv6:
		set(bpfVarOnlyFamily, uint16(familyIPv6))
	}
	set(bpfVarFiltersConnections, flag(f.filtersConnections()))
	set(bpfVarEdges, edges)
	set(bpfVarFilterEdges, flag(f.filtersEdges()))
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

func list[T any](values []T) [FilterMax]T {
	var a [FilterMax]T
	copy(a[:], values)
	return a
}

func cidr(p netip.Prefix) bpfCidr {
	c := bpfCidr{Family: familyIPv4}
	var addr, mask [16]byte
	p = p.Masked()
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

// emptyFentry loads a program that does nothing, for one of the functions, and so
// finds out whether the kernel takes such programs. The function must be what the
// programs take it for: a compiler may have changed it for its own ends, and then
// the kernel's BTF has it not, or with other arguments.
func emptyFentry(types *btf.Cache, p hookProgram) (*ebpf.Collection, error) {
	kernel, err := kernelTypes(types)
	if err != nil {
		return nil, err
	}
	var fn *btf.Func
	if err := kernel.TypeByName(p.function, &fn); err != nil {
		return nil, &HooksError{p.function, err}
	}
	if proto, ok := fn.Type.(*btf.FuncProto); !ok || len(proto.Params) != p.args {
		return nil, &HooksError{p.function, fmt.Errorf("it has not the %d arguments that are known", p.args)}
	}
	coll, err := ebpf.NewCollectionWithOptions(&ebpf.CollectionSpec{Programs: map[string]*ebpf.ProgramSpec{p.function: {
		Type: ebpf.Tracing, AttachType: ebpf.AttachTraceFEntry, AttachTo: p.function, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	}}}, ebpf.CollectionOptions{Cache: types})
	if errno := unix.Errno(0); errors.As(err, &errno) {
		err = errno // what libraries guess at is not it
	}
	if err != nil {
		return nil, &HooksError{p.function, err}
	}
	return coll, nil
}

// hasRxSk: since 6.11 the kfree_skb tracepoint passes the socket that a dropped
// packet was for (c53795d48ee8, "net: add rx_sk to trace_kfree_skb").
func hasRxSk(kernel *btf.Spec) bool {
	var td *btf.Typedef
	if err := kernel.TypeByName("btf_trace_kfree_skb", &td); err != nil {
		return false
	}
	ptr, ok := btf.UnderlyingType(td).(*btf.Pointer)
	if !ok {
		return false
	}
	proto, ok := ptr.Target.(*btf.FuncProto)
	// void *data, struct sk_buff *, void *location, enum skb_drop_reason, struct sock *rx_sk
	return ok && len(proto.Params) >= 5
}

// tracepointsPreempt: from 7.0 on a task can be preempted in the middle of a
// tracepoint's programs, so that several of them can be waiting on one CPU. No
// type in the kernel's BTF tells, so its version has to; a wrong answer costs
// two empty programs, or losses that are counted.
func tracepointsPreempt() bool {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return true
	}
	major, _, _ := strings.Cut(unix.ByteSliceToString(u.Release[:]), ".")
	n, err := strconv.Atoi(major)
	return err != nil || n >= 7
}

// kernelTypes reads the kernel's own description of itself, the first time.
func kernelTypes(types *btf.Cache) (*btf.Spec, error) {
	spec, err := types.Kernel()
	if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, os.ErrNotExist) {
		return nil, ErrNoBTF
	}
	if err != nil {
		return nil, fmt.Errorf("read kernel BTF: %w", err)
	}
	return spec, nil
}

// prepare refuses early, in words, what the kernel would refuse with an errno.
func prepare() error {
	if missing := privilege.Missing(); len(missing) > 0 {
		return &PermissionError{Missing: missing}
	}
	if lockdown() == "confidentiality" {
		return ErrLockdown
	}
	// Only root can read it; elsewhere the kernel says no in its own words.
	if jit, err := os.ReadFile("/proc/sys/net/core/bpf_jit_enable"); err == nil && strings.TrimSpace(string(jit)) == "0" {
		return ErrNoJIT
	}
	if err := ktime.Check(); err != nil {
		return err
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return fmt.Errorf("%w (%v)", ErrMemlock, err)
	}
	return nil
}

// lockdown is the mode between brackets, or "" where there is none.
func lockdown() string {
	b, err := os.ReadFile("/sys/kernel/security/lockdown")
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(b), "[")
	mode, _, _ := strings.Cut(rest, "]")
	return mode
}

// explainLoad turns what the kernel says of a program into what the user can do about it.
func explainLoad(err error, types *btf.Cache) error {
	var verifier *ebpf.VerifierError
	switch {
	case errors.As(err, &verifier):
		for _, h := range helpers {
			if probe := h.probe(types); errors.As(probe, new(*UnsupportedError)) {
				return probe
			}
		}
	case errors.Is(err, unix.EPERM):
		return &PermissionError{Missing: privilege.Missing(), Err: err}
	}
	return fmt.Errorf("load BPF programs: %w", err)
}
