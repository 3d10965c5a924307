package tracer

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"finwait/internal/ktime"
	"finwait/internal/privilege"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"
)

// load loads the programs of one set of hooks, and the maps, into the kernel. more: further
// constants, of a test.
func load(cfg *Config, hooks HookSet, types *btf.Cache, more map[string]any) (*ebpf.Collection, error) {
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
		syms, err = &symbols{}, nil // without addresses a stack says nothing: its reasons are ReasonKilled
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
	for name, value := range more {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("set a constant of the BPF object: %w", err)
		}
	}
	delete(spec.Programs, bpfProgHoldings) // SocketHolders loads it
	for _, name := range walkPrograms {
		delete(spec.Programs, name)
	}
	delete(spec.Maps, bpfMapWalks)
	if !cfg.LiveSockets {
		delete(spec.Programs, bpfProgLiveSockets)
	}
	for _, other := range hookSets {
		if other.hooks == hooks {
			continue
		}
		for _, p := range other.programs {
			delete(spec.Programs, p.name)
		}
	}
	for _, p := range handlerPrograms {
		if !cfg.needsHandlers() || !seesHandlers(types, kernel, hooks, p) {
			delete(spec.Programs, p.name)
		}
	}
	for _, p := range segmentPrograms {
		if !seesSegments(kernel, cfg, p.name) {
			delete(spec.Programs, p.name)
		}
	}
	if !hasRxSk(kernel) {
		delete(spec.Programs, bpfProgKfreeSkb)
	}
	if !resetsOfMinisocks(kernel) {
		delete(spec.Programs, bpfProgSendReset)
	} else if err := spec.Variables[bpfVarSeesResets].Set(flag(true)); err != nil {
		return nil, fmt.Errorf("set a constant of the BPF object: %w", err)
	}
	if tracepointArgs(kernel, "inet_sk_error_report") == 0 {
		delete(spec.Programs, bpfProgErrorReport)
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

// emptyFentry loads a program that does nothing for one kernel function. So it finds out
// whether the kernel accepts such programs. The function must be as the programs expect
// it: if the compiler has changed it, the kernel's BTF does not have it, or has it with
// other arguments.
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
		err = errno // without the library's guess at the cause
	}
	if err != nil {
		return nil, &HooksError{p.function, err}
	}
	return coll, nil
}

// seesHandlers reports whether a program that sees who uses a connection is to be loaded.
// sock_recv_length and sock_send_length came with 6.3 (6e6eda44b939, "sock: add tracepoint
// for send recv length"). tcp_rcv_space_adjust, which misses a process that only writes,
// stands in for them. Functions are hooked only if minisocks are followed so, too.
func seesHandlers(types *btf.Cache, kernel *btf.Spec, hooks HookSet, p hookProgram) bool {
	switch p.name {
	case bpfProgRcvSpaceAdjust:
		return tracepointArgs(kernel, "sock_recv_length") == 0 && tracepointArgs(kernel, "tcp_rcv_space_adjust") > 0
	case bpfProgRecvLength, bpfProgSendLength:
		return tracepointArgs(kernel, "sock_recv_length") > 0
	}
	if hooks != HooksFentry {
		return false
	}
	empty, err := emptyFentry(types, p)
	if err != nil {
		return false // it has other arguments, or cannot be hooked
	}
	empty.Close()
	return true
}

// seesSegments reports whether a program that sees segments is to be loaded.
func seesSegments(kernel *btf.Spec, cfg *Config, name string) bool {
	// void *data, struct sock *, struct sk_buff *, enum sk_rst_reason
	explained := tracepointArgs(kernel, "tcp_send_reset") >= 4
	switch name {
	case bpfProgRstSent:
		return cfg.RST && explained
	case bpfProgRstSentUnexplained:
		return cfg.RST && !explained
	case bpfProgRstReceived:
		return cfg.RST
	}
	return cfg.Handshakes && tracepointArgs(kernel, "tcp_retransmit_synack") > 0
}

// hasRxSk: since 6.11 the kfree_skb tracepoint passes the socket that a dropped
// packet was for (c53795d48ee8, "net: add rx_sk to trace_kfree_skb").
func hasRxSk(kernel *btf.Spec) bool {
	// void *data, struct sk_buff *, void *location, enum skb_drop_reason, struct sock *rx_sk
	return tracepointArgs(kernel, "kfree_skb") >= 5
}

// resetsOfMinisocks: since 6.11 the tcp_send_reset tracepoint fires for minisocks too, and
// passes a reason (19822a980e19, "trace: tcp: fully support trace_tcp_send_reset").
func resetsOfMinisocks(kernel *btf.Spec) bool {
	// void *data, struct sock *, struct sk_buff *, enum sk_rst_reason
	return tracepointArgs(kernel, "tcp_send_reset") >= 4
}

// tracepointArgs is how many arguments the kernel passes to the programs of a tracepoint,
// with the data that comes first; 0 if there is no such tracepoint.
func tracepointArgs(kernel *btf.Spec, name string) int {
	var td *btf.Typedef
	if err := kernel.TypeByName("btf_trace_"+name, &td); err != nil {
		return 0
	}
	ptr, ok := btf.UnderlyingType(td).(*btf.Pointer)
	if !ok {
		return 0
	}
	proto, ok := ptr.Target.(*btf.FuncProto)
	if !ok {
		return 0
	}
	return len(proto.Params)
}

// tracepointsPreempt: from 7.0 on a task can be preempted inside a tracepoint, so that
// several tasks can wait in its programs on one CPU. No type in the kernel's BTF tells
// this, so the version has to. A wrong answer costs two idle programs, or losses that
// are counted.
func tracepointsPreempt() bool {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return true
	}
	major, _, _ := strings.Cut(unix.ByteSliceToString(u.Release[:]), ".")
	n, err := strconv.Atoi(major)
	return err != nil || n >= 7
}

// prepare finds early what the kernel would refuse with an errno, and says it in words.
func prepare() error {
	if err := checkPlace(); err != nil {
		return err
	}
	if missing := privilege.Missing(); len(missing) > 0 {
		return &PermissionError{Missing: missing, Err: noNewPrivs()}
	}
	if err := mayUseBPF(); err != nil {
		return err
	}
	if lockdown() == "confidentiality" {
		return ErrLockdown
	}
	// Only root can read it; without root the kernel refuses the load itself.
	if jit, err := os.ReadFile("/proc/sys/net/core/bpf_jit_enable"); err == nil && strings.TrimSpace(string(jit)) == "0" {
		return ErrNoJIT
	}
	if err := ktime.Check(); err != nil {
		return err
	}
	// It finds out by an EPERM whether memory counts, and takes any other EPERM for that.
	if err := rlimit.RemoveMemlock(); err != nil && countsMemlock() {
		return fmt.Errorf("%w (%v)", ErrMemlock, err)
	}
	return nil
}

// lockdown is the mode between brackets, or "" if the kernel has no lockdown.
func lockdown() string {
	b, err := os.ReadFile("/sys/kernel/security/lockdown")
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(b), "[")
	mode, _, _ := strings.Cut(rest, "]")
	return mode
}

// explainLoad turns the kernel's error into what the user can do about it.
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
