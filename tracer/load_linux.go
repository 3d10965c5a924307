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
