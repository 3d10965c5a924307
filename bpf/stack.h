/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * From where in the kernel, and from where in a program, was a transition made? User
 * space names the addresses, and goes up the copied part of the program's stack.
 */
#ifndef FINWAIT_STACK_H
#define FINWAIT_STACK_H

#include "kernel.h"
#include "event.h"
#include "compat.h"
#include "unwind.h"

/* Something asks for stacks of the kernel, or of programs. */
const volatile __u8 stacks_on;
const volatile __u8 user_stacks_on;

/* The code that runs softirqs, as handle_softirqs() (since 6.9) and __do_softirq(). */
const volatile struct caller_range softirqs[4];

static __always_inline bool runs_softirqs(__u64 ip)
{
	for (__u32 i = 0; i < 4; i++) {
		if (ip > softirqs[i].start && ip <= softirqs[i].end)
			return true;
	}
	return false;
}

/*
 * A softirq runs on top of whatever it has interrupted. If all addresses are in use, the
 * rest of the stack was cut off, and a softirq may be there.
 */
static __always_inline bool in_softirq(const struct call *c)
{
	if (c->kernel_bytes <= 0 || c->kernel_bytes >= (__s64)sizeof(c->kernel))
		return true;
	for (__u32 i = 0; i < KERNEL_FRAMES; i++) {
		if ((__s64)i * 8 >= c->kernel_bytes)
			break;
		if (runs_softirqs(c->kernel[i]))
			return true;
	}
	return false;
}

/* arch/x86/include/asm/segment.h: __USER_CS, of a program of 64 bits */
#define USER_CS	0x33

/* arch/x86/entry/syscalls/syscall_64.tbl */
#define NR_EXECVE	59
#define NR_EXECVEAT	322

/*
 * False if the task was not in 64-bit user mode when it entered the kernel: a kernel
 * thread, another architecture. What execve() closes is closed at its end, when the
 * registers are those of the new program.
 */
static __always_inline bool read_registers(struct registers *to, struct task_struct *task)
{
	struct pt_regs___amd64 *regs = (void *)bpf_task_pt_regs(task);
	unsigned long nr;

	if (!bpf_core_field_exists(regs->r15) || BPF_CORE_READ(regs, cs) != USER_CS)
		return false;
	nr = BPF_CORE_READ(regs, orig_ax);
	if (nr == NR_EXECVE || nr == NR_EXECVEAT)
		return false;
	to->ip = BPF_CORE_READ(regs, ip);
	to->sp = BPF_CORE_READ(regs, sp);
	to->bp = BPF_CORE_READ(regs, bp);
	to->bx = BPF_CORE_READ(regs, bx);
	to->r12 = BPF_CORE_READ(regs, r12);
	to->r13 = BPF_CORE_READ(regs, r13);
	to->r14 = BPF_CORE_READ(regs, r14);
	to->r15 = BPF_CORE_READ(regs, r15);
	return true;
}

/*
 * Reads the kernel stack of the current task, and of what has interrupted it. late: it is
 * not that of the event. Returns true if the task was in a call of its own: then its own
 * stack is to be copied.
 */
static __always_inline bool read_call(struct call *c, bool late)
{
	struct task_struct *task = bpf_get_current_task_btf();

	c->started_ns = 0;
	c->pid = 0;
	c->user_bytes = 0;
	c->kernel_bytes = 0;
	if (late)
		return false;
	if (bpf_preempt_disable) /* as in read_stack() */
		bpf_preempt_disable();
	c->kernel_bytes = bpf_get_task_stack(task, c->kernel, sizeof(c->kernel), 0);
	if (bpf_preempt_enable)
		bpf_preempt_enable();
	if (!user_stacks_on || task->flags & (PF_KTHREAD | PF_EXITING) || in_softirq(c) || !read_registers(&c->registers, task))
		return false;
	c->pid = task->tgid;
	c->started_ns = task->group_leader->start_boottime;
	c->start_stack = BPF_CORE_READ(task, mm, start_stack);
	c->exec_pages = BPF_CORE_READ(task, mm, exec_vm);
	return true;
}

#define COPY_AT_ONCE	512
#define LEAST_COPY	64

/*
 * Copies what lies above the stack pointer, as far as there is a stack and its pages are
 * in memory: a read fails as a whole.
 */
static __always_inline void copy_user_stack(struct user_event *u)
{
	struct call *c = &u->called.call;
	const __u8 *sp = (const __u8 *)c->registers.sp;
	__u32 at = 0;

	for (int i = 0; i < USER_STACK / COPY_AT_ONCE; i++) {
		if (bpf_probe_read_user(u->stack + i * COPY_AT_ONCE, COPY_AT_ONCE, sp + i * COPY_AT_ONCE))
			break;
		at += COPY_AT_ONCE;
	}
	for (int i = 0; i < COPY_AT_ONCE / LEAST_COPY - 1; i++) {
		if (at > USER_STACK - LEAST_COPY)
			break;
		if (bpf_probe_read_user(u->stack + at, LEAST_COPY, sp + at))
			break;
		at += LEAST_COPY;
	}
	c->user_bytes = at;
}

#endif
