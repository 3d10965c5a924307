/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Which kernel function is the cause? No tracepoint says who cancelled a timer or
 * reset a socket, but the kernel stack does. User space looks the functions up in
 * /proc/kallsyms and sets their address ranges.
 */
#ifndef FINWAIT_UNWIND_H
#define FINWAIT_UNWIND_H

#include "kernel.h"

enum caller {
	CALLER_NONE,		/* none of these is on the stack */
	CALLER_TIMER,		/* the timer wheel: a timer fires */
	CALLER_REARM,		/* __mod_timer(): a timer is moved */
	CALLER_DELETE,		/* timer_shutdown_sync() and similar: a timer is deleted */
	CALLER_SEGMENT,		/* tcp_timewait_state_process(): an RST */
	CALLER_RECEIVE,		/* tcp_v4_rcv(), tcp_v6_rcv() */
	CALLER_CONNECT,		/* __inet_hash_connect() and what it calls */
	CALLER_ABORT,		/* tcp_abort() */
	CALLER_PURGE,		/* inet_twsk_purge() */
	CALLER_KEEPALIVE,	/* tcp_keepalive_timer() */
	CALLER_LISTEN,		/* inet_csk_listen_start() */
	CALLER_VALIDATE,	/* tcp_validate_incoming() */
	CALLER_STATE_PROCESS,	/* tcp_rcv_state_process() */
	CALLER_CHECK_REQ,	/* tcp_check_req() */
	CALLER_LISTEN_STOP,	/* inet_csk_listen_stop() */
	CALLER_SHUTDOWN,	/* inet_shutdown() */
	CALLER_DISCONNECT,	/* __inet_stream_connect(), with AF_UNSPEC */
	CALLER_TPROXY,		/* nf_tproxy_handle_time_wait4(), 6() */
	CALLER_UNKNOWN,		/* the kernel gave no stack, or hides its addresses */
};

#define MAX_CALLERS	64
/* All callers are among the first ten frames. More than 18 do not fit into 512 bytes of stack. */
#define MAX_FRAMES	18

struct caller_range {
	__u64 start;
	__u64 end;		/* the first address after the function */
	__u32 caller;		/* enum caller */
	__u32 pad;
};

/* Sorted by start; unused entries sort last. Empty if kallsyms hides addresses. */
const volatile struct caller_range callers[MAX_CALLERS];
const volatile __u32 n_callers;

/*
 * A binary search without branches: the verifier would explore both sides of each.
 * Kernel addresses are less than 2^63 apart, so the sign of a difference says which
 * one is larger.
 */
__verified_once __u32 caller_at(__u64 ip)
{
	__u32 at = 0;

	for (__u32 half = MAX_CALLERS / 2; half; half /= 2) {
		__u32 next = at + half;
		__s64 ahead;

		/* The compiler would drop the mask below, which some verifiers need. */
		barrier_var(next);
		ahead = callers[next & (MAX_CALLERS - 1)].start - ip;
		barrier_var(ahead);
		at += half & (__u32)(ahead >> 63);
	}
	barrier_var(at);
	at &= MAX_CALLERS - 1;
	return ip > callers[at].start && ip <= callers[at].end ? callers[at].caller : CALLER_NONE;
}

/* Kernel stack, innermost first. */
struct frames {
	__u64 ips[MAX_FRAMES];
	__s64 bytes;		/* in use; negative: the kernel could not unwind */
};

/* What the stack says. */
struct stack {
	__u32 caller;	/* the innermost known caller, except CALLER_DELETE */
	bool deletes;	/* CALLER_DELETE is further in: called by it */
};

#define DELETES	(1u << 31)

/*
 * The innermost known caller is the cause: a softirq runs on top of the function that
 * it interrupted, which is no cause. CALLER_UNKNOWN if the kernel could not unwind.
 */
__verified_once __u32 innermost(struct frames *st)
{
	__u32 deletes = 0;

	if (!st || st->bytes <= 0)
		return CALLER_UNKNOWN;
	for (__u32 i = 0; i < MAX_FRAMES; i++) {
		__u32 caller;

		if ((__s64)i * 8 >= st->bytes)
			break;
		caller = caller_at(st->ips[i]);
		if (caller == CALLER_DELETE)
			deletes = DELETES;
		else if (caller != CALLER_NONE)
			return caller | deletes;
	}
	return CALLER_NONE | deletes;
}

/* Since 6.10. */
extern void bpf_preempt_disable(void) __weak __ksym;
extern void bpf_preempt_enable(void) __weak __ksym;

/*
 * The addresses would take a third of the caller's stack. The kernel unwinds into a
 * buffer that all tasks of a CPU share; a task that is preempted meanwhile (possible
 * from 7.0 on) would block it for the others.
 */
static __own_frame __u32 read_stack(void *ctx)
{
	struct frames st = {};

	if (bpf_preempt_disable)
		bpf_preempt_disable();
	st.bytes = bpf_get_stack(ctx, st.ips, sizeof(st.ips), 0);
	if (bpf_preempt_enable)
		bpf_preempt_enable();
	return innermost(&st);
}

static __always_inline struct stack find_caller(void *ctx)
{
	__u32 said = n_callers ? read_stack(ctx) : CALLER_UNKNOWN;

	return (struct stack){ .caller = said & ~DELETES, .deletes = said & DELETES };
}

#endif
