package tracer

import (
	"errors"
	"fmt"
	"strings"

	"finwait/internal/ktime"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

const stateTracepoint = "inet_sock_set_state"

// A helper is a kernel helper that the programs call. Its probe loads the smallest
// program that calls it.
type helper struct {
	name, since, use string
	call             asm.Instructions // r6: the context of stateTracepoint
}

var helpers = []helper{
	{"bpf_sk_storage_get() in tracing programs", "5.11", "owners of accepted sockets", asm.Instructions{
		asm.LoadMem(asm.R2, asm.R6, 0, asm.DWord),
		asm.LoadMapPtr(asm.R1, 0).WithReference("listeners"),
		asm.Mov.Imm(asm.R3, 0),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnSkStorageGet.Call(),
	}},
	{"bpf_get_socket_cookie() in tracing programs", "5.12", "identity of sockets", asm.Instructions{
		asm.LoadMem(asm.R1, asm.R6, 0, asm.DWord),
		asm.FnGetSocketCookie.Call(),
	}},
	{"bpf_get_current_task_btf()", "5.11", "owner and closer", asm.Instructions{
		asm.FnGetCurrentTaskBtf.Call(),
	}},
	{"ring buffer", "5.8", "the way to user space", asm.Instructions{
		asm.LoadMapPtr(asm.R1, 0).WithReference("rings"),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRingbufQuery.Call(),
	}},
}

// probe returns nil, an *UnsupportedError, or an error that leaves the question open.
func (h helper) probe(types *btf.Cache) error {
	prog := &ebpf.ProgramSpec{
		Type: ebpf.Tracing, AttachType: ebpf.AttachTraceRawTp, AttachTo: stateTracepoint, License: "GPL",
		Instructions: append(append(asm.Instructions{asm.Mov.Reg(asm.R6, asm.R1)}, h.call...),
			asm.Mov.Imm(asm.R0, 0), asm.Return()),
	}
	spec, err := loadBpf()
	if err != nil {
		return err
	}
	maps := make(map[string]*ebpf.MapSpec)
	for _, ins := range h.call {
		if ref := ins.Reference(); ref != "" {
			maps[ref] = spec.Maps[ref]
			if inner := maps[ref].InnerMap; inner != nil {
				maps[ref] = inner
			}
		}
	}
	coll, err := ebpf.NewCollectionWithOptions(&ebpf.CollectionSpec{
		Maps: maps, Programs: map[string]*ebpf.ProgramSpec{"probe": prog}, Types: spec.Types, ByteOrder: spec.ByteOrder,
	}, ebpf.CollectionOptions{Cache: types})
	if err == nil {
		coll.Close()
		return nil
	}
	if errors.Is(err, unix.EPERM) {
		return err
	}
	return &UnsupportedError{Feature: h.name, Since: h.since, Err: err}
}

// Features asks the kernel for everything that finwait uses or could use.
func Features() ([]Feature, error) {
	if err := prepare(); err != nil {
		return nil, err
	}
	types := kernelTypesCache()
	kernel, err := kernelTypes(types)
	if err != nil {
		return nil, err
	}
	features := []Feature{{"kernel BTF", "5.4", FeatureInUse, "struct layouts; no headers, no compiler"}}
	for _, h := range helpers {
		f := Feature{Name: h.name, Since: h.since, State: FeatureInUse, Note: h.use}
		var unsupported *UnsupportedError
		if err := h.probe(types); errors.As(err, &unsupported) {
			f.State, f.Note = FeatureMissing, firstLine(unsupported.Err)
		} else if err != nil {
			f.State, f.Note = FeatureUnclear, firstLine(err)
		}
		features = append(features, f)
	}
	features = append(features, tracepoint(kernel, stateTracepoint, "4.16", "transitions of full sockets"))

	best := fentry(types)
	timers := []Feature{
		tracepoint(kernel, "timer_start", "2.6.31", "minisocks: birth, re-arms"),
		tracepoint(kernel, "timer_cancel", "2.6.31", "minisocks: early ends"),
		tracepoint(kernel, "timer_expire_entry", "2.6.31", "minisocks: expiry"),
		{"rx_sk in kfree_skb", "6.11", FeatureInUse, "the moment that TIME_WAIT begins"},
	}
	resets := Feature{"minisocks in tcp_send_reset", "6.11", FeatureInUse, "what segment a minisock answered with an RST; RSTs without a socket (--rst)"}
	if !resetsOfMinisocks(kernel) {
		resets.State, resets.Note = FeatureMissing, "the segment that a minisock answered with an RST is not known; of RSTs without a socket, --rst shows those of listeners"
	}
	if rx := &timers[3]; !hasRxSk(kernel) {
		rx.State, rx.Note = FeatureMissing, "with tracepoints, TIME_WAIT is dated from its timer, to the jiffy"
	}
	for i := range timers {
		if best.State == FeatureInUse && timers[i].State == FeatureInUse {
			timers[i].State = FeatureAvailable
		}
	}
	features = append(append(append(features, best), timers...), resets,
		tracepoint(kernel, "inet_sk_error_report", "5.14", "ICMP errors that a connect() was told of"),
		tracepoint(kernel, "tcp_receive_reset", "4.15", "RSTs that a socket receives (--rst)"),
		tracepoint(kernel, "tcp_retransmit_synack", "4.15", "handshakes that wait (--handshakes)"),
		tracepoint(kernel, "sock_recv_length", "6.3", "the handler: who reads"),
		tracepoint(kernel, "sock_send_length", "6.3", "the handler: who writes"),
		tracepoint(kernel, "tcp_rcv_space_adjust", "4.15", "the handler, where the two before are missing: who has read data"))
	return append(features, kernelFunctions(), iterator(kernel), recursionGuard(kernel), wheel()), nil
}

func firstLine(err error) string {
	if err == nil {
		return ""
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

func tracepoint(kernel *btf.Spec, name, since, use string) Feature {
	var td *btf.Typedef
	if err := kernel.TypeByName("btf_trace_"+name, &td); err != nil {
		return Feature{"tracepoint " + name, since, FeatureMissing, firstLine(err)}
	}
	return Feature{"tracepoint " + name, since, FeatureInUse, use}
}

func kernelFunctions() Feature {
	f := Feature{"kernel symbols", "2.6", FeatureInUse, "which timer is a minisock's, why it was cancelled"}
	if _, err := kernelSymbols(); err != nil {
		f.State, f.Note = FeatureMissing, firstLine(err)
	}
	return f
}

func iterator(kernel *btf.Spec) Feature {
	f := Feature{"TCP socket iterator", "5.9", FeatureInUse, "sockets older than finwait"}
	var s *btf.Struct
	if err := kernel.TypeByName("bpf_iter__tcp", &s); err != nil {
		f.State, f.Note = FeatureMissing, firstLine(err)
	}
	return f
}

// recursionGuard: since 05b24ff9b2cf (6.1) the kernel skips a program on a raw tracepoint
// if a softirq interrupts the same program, and counts that in misses.
func recursionGuard(kernel *btf.Spec) Feature {
	f := Feature{"skipped runs are counted", "5.12", FeatureInUse, "lost.missed"}
	var s *btf.Struct
	if err := kernel.TypeByName("bpf_prog_stats", &s); err != nil {
		f.State, f.Note = FeatureUnclear, firstLine(err)
		return f
	}
	for _, m := range s.Members {
		if m.Name == "misses" {
			return f
		}
	}
	f.State, f.Note = FeatureMissing, "struct bpf_prog_stats has no misses"
	return f
}

// fentry tries to attach an empty program to each function, which tells whether HooksAuto takes HooksFentry.
func fentry(types *btf.Cache) Feature {
	f := Feature{"fentry", "5.5", FeatureInUse, "minisocks: birth, re-arms, ends, each as it happens"}
	for _, p := range HooksFentry.set().programs {
		if err := tryFentry(types, p); err != nil {
			f.State, f.Note = FeatureMissing, "tracepoints follow the minisocks: "+firstLine(err)
			break
		}
	}
	return f
}

func tryFentry(types *btf.Cache, p hookProgram) error {
	coll, err := emptyFentry(types, p)
	if refused := new(HooksError); errors.As(err, &refused) {
		err = refused.Err
	}
	if err == nil {
		defer coll.Close()
		var l link.Link
		if l, err = link.AttachTracing(link.TracingOptions{Program: coll.Programs[p.function]}); err == nil {
			return l.Close()
		}
	}
	return fmt.Errorf("%s(): %w", p.function, err)
}

func wheel() Feature {
	hz, err := ktime.HZ()
	if err != nil {
		return Feature{"timer wheel", "", FeatureUnclear, firstLine(err)}
	}
	slot := ktime.Slot(ktime.TimeWaitLen, hz)
	return Feature{"timer wheel", "4.8", FeatureInUse,
		fmt.Sprintf("HZ=%d: a TIME_WAIT that nothing disturbs lasts %v to %v", hz, ktime.TimeWaitLen, ktime.TimeWaitLen+slot)}
}
