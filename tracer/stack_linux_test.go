package tracer

import (
	"math/rand/v2"
	"testing"
	"unsafe"
)

// Whatever follows an event in its record, resolving it fails in no way.
func TestResolveStack(t *testing.T) {
	r, err := newStackReader(StacksBoth)
	if err != nil {
		t.Skipf("skipped: %v", err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for n := range 4096 {
		more := make([]byte, n*3)
		for i := range more {
			more[i] = byte(random.Uint32())
		}
		if len(more) >= callSize && n%2 == 0 {
			call := (*bpfCall)(unsafe.Pointer(&more[0]))
			call.KernelBytes = int64(n)
		}
		st := r.resolve(more)
		if st == nil || st.Of != StacksBoth || len(st.User) > 0 && len(more) < callSize {
			t.Fatalf("%d bytes: %+v", len(more), st)
		}
	}
	var none *stackReader
	if st := none.resolve(make([]byte, 9000)); st != nil {
		t.Errorf("nobody asked, and there is %+v", st)
	}
}

// The stack of a program counts only below a system call of its own.
func TestOwnCall(t *testing.T) {
	frames := func(symbols ...string) (all []KernelFrame) {
		for _, s := range symbols {
			all = append(all, KernelFrame{Symbol: s})
		}
		return all
	}
	for name, c := range map[string]struct {
		frames []KernelFrame
		own    bool
	}{
		"a call":            {frames("__tcp_close", "do_syscall_64", "entry_SYSCALL_64_after_hwframe"), true},
		"FRED":              {frames("__tcp_close", "do_syscall_64", "asm_fred_entrypoint_user"), true},
		"a fault, by FRED":  {frames("__tcp_close", "asm_fred_entrypoint_user"), false},
		"a segment":         {frames("tcp_fin", "tcp_v4_rcv", "tun_chr_write_iter", "do_syscall_64", "entry_SYSCALL_64_after_hwframe"), false},
		"the backlog":       {frames("tcp_fin", "tcp_v6_do_rcv", "__release_sock", "do_syscall_64", "entry_SYSCALL_64_after_hwframe"), false},
		"nothing":           {nil, false},
		"cut off":           {frames("__tcp_close", "do_syscall_64"), false},
		"an interrupt":      {frames("__tcp_close", "asm_sysvec_apic_timer_interrupt"), false},
		"a kernel thread":   {frames("tcp_done", "kthread", "ret_from_fork_asm"), false},
		"io_uring's":        {frames("__tcp_close", "io_uring_enter_x", "do_syscall_64", "entry_SYSCALL_64_after_hwframe"), true},
		"io_uring, another": {frames("__tcp_close", "tctx_task_work_run", "task_work_run", "__x64_sys_read", "do_syscall_64", "entry_SYSCALL_64_after_hwframe"), false},
		"io_uring, its own": {frames("__tcp_close", "tctx_task_work_run", "__x64_sys_io_uring_enter", "do_syscall_64", "entry_SYSCALL_64_after_hwframe"), true},
	} {
		if got := ownCall(c.frames); got != c.own {
			t.Errorf("%s: %v, want %v", name, got, c.own)
		}
	}
}
