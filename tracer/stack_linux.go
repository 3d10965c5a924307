package tracer

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
	"unsafe"

	"finwait/internal/kallsyms"
	"finwait/internal/userstack"
)

// Why there can be no stacks.
var (
	errNoKernelNames = errors.New("/proc/kallsyms hides kernel addresses, without which stacks cannot be read: run as root, or give finwait CAP_SYSLOG; kernel.kptr_restrict=2 hides them from everybody")
	errNotAMD64      = errors.New("stacks of programs are known on amd64 only: ask for those of the kernel")
	errPIDNamespace  = errors.New("stacks of programs are read in the host's /proc: give the container the host's pid namespace")
)

// check says if these stacks cannot be had here.
func (s Stacks) check() error {
	if s == StacksNone {
		return nil
	}
	syms, err := kernelSymbols()
	if errors.Is(err, ErrHiddenSymbols) {
		return errNoKernelNames
	}
	if err != nil || s&StacksUser == 0 {
		return err
	}
	if runtime.GOARCH != "amd64" {
		return errNotAMD64
	}
	if ns, err := os.Readlink("/proc/self/ns/pid"); err != nil || ns != initialPIDNamespace {
		return errPIDNamespace
	}
	if len(syms.softirqs) == 0 {
		return fmt.Errorf("the kernel has no function %s: it cannot be told which stacks are a program's own", strings.Join(softirqRunners, ", "))
	}
	return nil
}

// stackReader resolves stacks. nil: there are none.
type stackReader struct {
	of      Stacks
	kernel  *kallsyms.Table
	user    *userstack.Reader
	stack   Stack
	kernels []KernelFrame // of stack, its memory is used again
	users   []UserFrame
	known   map[uint64]KernelFrame // by address
}

// mostKnown bounds the names of the kernel that are kept.
const mostKnown = 1 << 14

func newStackReader(of Stacks) (*stackReader, error) {
	if of == StacksNone {
		return nil, nil
	}
	f, err := os.Open("/proc/kallsyms")
	if err != nil {
		return nil, fmt.Errorf("open kernel symbols: %w", err)
	}
	defer f.Close()
	table, err := kallsyms.Load(f)
	if errors.Is(err, kallsyms.ErrHidden) {
		return nil, errNoKernelNames
	}
	if err != nil {
		return nil, fmt.Errorf("read kernel symbols: %w", err)
	}
	return &stackReader{of: of, kernel: table, user: userstack.NewReader(), known: make(map[uint64]KernelFrame)}, nil
}

// callSize and userSize are what follows the event in its record.
const (
	callSize = int(unsafe.Sizeof(bpfCall{}))
	userSize = int(unsafe.Sizeof(bpfUserEvent{})) - wideSize
)

// resolve names what follows an event in its record.
func (c *stackReader) resolve(more []byte) *Stack {
	if c == nil {
		return nil
	}
	c.stack = Stack{Of: c.of}
	if len(more) < callSize {
		return &c.stack
	}
	var call bpfCall
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&call)), callSize), more)
	frames := c.kernelFrames(&call)
	if c.of&StacksKernel != 0 && len(frames) > 0 {
		c.stack.Kernel = frames
	}
	if c.of&StacksUser != 0 && call.StartedNs != 0 && ownCall(frames) {
		memory := more[callSize:]
		c.userFrames(&call, memory[:min(len(memory), int(call.UserBytes))])
	}
	return &c.stack
}

// kernelFrames leaves out the frames of tracing itself.
func (c *stackReader) kernelFrames(call *bpfCall) []KernelFrame {
	c.kernels = c.kernels[:0]
	n := min(max(0, int(call.KernelBytes)/8), len(call.Kernel))
	tracing := true
	for _, addr := range call.Kernel[:n] {
		f := c.kernelFrame(addr)
		if tracing && (f.Symbol == "" || isTracing(f.Symbol)) {
			continue
		}
		tracing = false
		c.kernels = append(c.kernels, f)
	}
	return c.kernels
}

// kernelFrame names a return address, which is that of the next instruction.
func (c *stackReader) kernelFrame(addr uint64) KernelFrame {
	f, known := c.known[addr]
	if known {
		return f
	}
	f = KernelFrame{Address: addr}
	if name, offset, ok := c.kernel.Name(addr - 1); ok {
		f = KernelFrame{Symbol: name, Offset: offset + 1}
	}
	if len(c.known) >= mostKnown {
		clear(c.known)
	}
	c.known[addr] = f
	return f
}

// isTracing reports whether a kernel function runs BPF programs. The programs themselves
// are not in the table, as they were loaded after it was read.
func isTracing(symbol string) bool {
	for _, prefix := range []string{"bpf_", "__bpf_", "__traceiter_", "stack_trace_save", "arch_stack_walk", "get_callchain", "get_perf_callchain"} {
		if strings.HasPrefix(symbol, prefix) {
			return true
		}
	}
	return false
}

// ownCall reports whether a system call of the process has made the transition. A segment
// may be handled in a call, too: one that came while the process held the socket, or one that
// it has written to a tun device. io_uring may do what one call has asked for at the end of
// any other.
func ownCall(frames []KernelFrame) bool {
	has := func(names ...string) bool {
		return slices.ContainsFunc(frames, func(f KernelFrame) bool {
			return slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(f.Symbol, name) })
		})
	}
	if len(frames) == 0 || !has("do_syscall_64") {
		return false
	}
	entry := frames[len(frames)-1].Symbol
	if !strings.HasPrefix(entry, "entry_SYSCALL_64") && !strings.HasPrefix(entry, "asm_fred_entrypoint_user") {
		return false
	}
	if has("tcp_v4_rcv", "tcp_v6_rcv", "tcp_v4_do_rcv", "tcp_v6_do_rcv", "__release_sock") {
		return false
	}
	return !has("tctx_task_work") || has("__do_sys_io_uring_enter", "__x64_sys_io_uring_enter")
}

func (c *stackReader) userFrames(call *bpfCall, memory []byte) {
	r := &call.Registers
	frames, truncated := c.user.Walk(
		userstack.Process{PID: call.Pid, Started: time.Duration(call.StartedNs), Stack: call.StartStack}, call.ExecPages,
		userstack.Registers{IP: r.Ip, SP: r.Sp, BP: r.Bp, BX: r.Bx, R12: r.R12, R13: r.R13, R14: r.R14, R15: r.R15},
		memory,
	)
	c.users = c.users[:0]
	for _, f := range frames {
		c.users = append(c.users, UserFrame(f))
	}
	c.stack.User, c.stack.UserTruncated, c.stack.PID = c.users, truncated, call.Pid
}
