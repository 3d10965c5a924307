package tracer

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"weak"

	"finwait/internal/kallsyms"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
)

// twTimerHandler runs when the timer of a minisock fires. The tracepoint hooks recognise the timer by it.
const twTimerHandler = "tw_timer_handler"

// callers are the kernel functions that tell why a timer was cancelled or a socket
// reset. If the compiler has inlined one, the stack shows the function that called it;
// where that matters, the list has that function too.
var callers = map[string]bpfCaller{
	"expire_timers":               bpfCallerCALLER_TIMER,
	"__run_timers":                bpfCallerCALLER_TIMER,
	"__run_timer_base":            bpfCallerCALLER_TIMER,
	"timer_expire_remote":         bpfCallerCALLER_TIMER,
	"run_timer_softirq":           bpfCallerCALLER_TIMER,
	"__mod_timer":                 bpfCallerCALLER_REARM,
	"mod_timer":                   bpfCallerCALLER_REARM,
	"mod_timer_pending":           bpfCallerCALLER_REARM,
	"timer_shutdown_sync":         bpfCallerCALLER_DELETE, // 6.2
	"__timer_delete_sync":         bpfCallerCALLER_DELETE, // 6.2
	"del_timer_sync":              bpfCallerCALLER_DELETE, // until 6.1
	"try_to_del_timer_sync":       bpfCallerCALLER_DELETE,
	"inet_twsk_deschedule_put":    bpfCallerCALLER_DELETE,
	"tcp_timewait_state_process":  bpfCallerCALLER_SEGMENT,
	"tcp_v4_rcv":                  bpfCallerCALLER_RECEIVE,
	"tcp_v6_rcv":                  bpfCallerCALLER_RECEIVE,
	"__inet_check_established":    bpfCallerCALLER_CONNECT,
	"__inet6_check_established":   bpfCallerCALLER_CONNECT,
	"__inet_hash_connect":         bpfCallerCALLER_CONNECT,
	"inet_hash_connect":           bpfCallerCALLER_CONNECT,
	"inet6_hash_connect":          bpfCallerCALLER_CONNECT,
	"tcp_abort":                   bpfCallerCALLER_ABORT,
	"inet_twsk_purge":             bpfCallerCALLER_PURGE,
	"tcp_twsk_purge":              bpfCallerCALLER_PURGE,
	"tcp_sk_exit_batch":           bpfCallerCALLER_PURGE,
	"tcp_keepalive_timer":         bpfCallerCALLER_KEEPALIVE,
	"inet_csk_listen_start":       bpfCallerCALLER_LISTEN,
	"tcp_validate_incoming":       bpfCallerCALLER_VALIDATE,
	"tcp_rcv_state_process":       bpfCallerCALLER_STATE_PROCESS,
	"tcp_check_req":               bpfCallerCALLER_CHECK_REQ,
	"inet_csk_listen_stop":        bpfCallerCALLER_LISTEN_STOP,
	"inet_shutdown":               bpfCallerCALLER_SHUTDOWN,
	"__inet_stream_connect":       bpfCallerCALLER_DISCONNECT,
	"nf_tproxy_handle_time_wait4": bpfCallerCALLER_TPROXY,
	"nf_tproxy_handle_time_wait6": bpfCallerCALLER_TPROXY,
}

// softirqRunners run softirqs, on top of what they have interrupted. Since 6.9 the second
// calls the first, or has it in itself.
var softirqRunners = []string{"handle_softirqs", "__do_softirq"}

// symbols are the kernel addresses that the programs compare with.
type symbols struct {
	twTimerHandler uint64
	callers        []bpfCallerRange
	softirqs       []bpfCallerRange
}

// symbolCache keeps the symbols, for a process that opens several tracers:
// /proc/kallsyms has 100,000 lines and more. Addresses change only with the modules.
var symbolCache struct {
	sync.Mutex
	modules string // /proc/modules as the symbols were read
	symbols *symbols
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
	for _, name := range softirqRunners {
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
	for _, name := range softirqRunners {
		for _, r := range found[name] {
			syms.softirqs = append(syms.softirqs, bpfCallerRange{Start: r.Start, End: r.End})
		}
	}
	slices.SortFunc(syms.callers, func(a, b bpfCallerRange) int { return cmp.Compare(a.Start, b.Start) })
	return syms, nil
}

// typesCache keeps the kernel's types while a tracer is being opened, and until the
// next garbage collection.
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

// kernelTypes gives the kernel's BTF. The first call reads it.
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
