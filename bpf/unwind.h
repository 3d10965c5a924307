/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Why is this function running? No tracepoint says who cancelled a timer or
 * who reset a socket, but the kernel stack does. User space looks the callers
 * up in /proc/kallsyms and hands over their address ranges.
 */
#ifndef FINWAIT_UNWIND_H
#define FINWAIT_UNWIND_H

#include "kernel.h"
#include "maps.h"

enum caller {
	CALLER_NONE,
	CALLER_TIMER,		/* the timer wheel: the timer fires */
	CALLER_REARM,		/* __mod_timer(): the timer is moved */
	CALLER_DELETE,		/* timer_shutdown_sync() and its kin: the timer is taken away */
	CALLER_SEGMENT,		/* tcp_timewait_state_process(): an RST */
	CALLER_RECEIVE,		/* tcp_v4_rcv(), tcp_v6_rcv() */
	CALLER_CONNECT,		/* __inet_hash_connect() and what it calls */
	CALLER_ABORT,		/* tcp_abort() */
	CALLER_PURGE,		/* inet_twsk_purge() */
	CALLER_KEEPALIVE,	/* tcp_keepalive_timer() */
	CALLER_LISTEN,		/* inet_csk_listen_start() */
	CALLER_VALIDATE,	/* tcp_validate_incoming() */
	CALLER_STATE_PROCESS,	/* tcp_rcv_state_process() */
};

#define MAX_CALLERS	64
#define MAX_FRAMES	20

struct caller_range {
	__u64 start;
	__u64 end;		/* the first address past it */
	__u32 caller;		/* enum caller */
	__u32 pad;
};

const volatile struct caller_range callers[MAX_CALLERS];
const volatile __u32 n_callers;

/* Global, so that the verifier looks at it once, for any address. */
__noinline __u32 caller_at(__u64 ip)
{
	for (__u32 i = 0; i < MAX_CALLERS; i++) {
		if (i >= n_callers)
			break;
		if (ip > callers[i].start && ip <= callers[i].end)
			return callers[i].caller;
	}
	return CALLER_NONE;
}

/* What the stack says. */
struct stack {
	__u32 caller;	/* the innermost caller in the list, CALLER_DELETE aside */
	bool deletes;	/* CALLER_DELETE is further in */
};

#define DELETES	(1u << 31)

/*
 * The innermost counts, since a softirq runs on top of whatever it
 * interrupted, and that must not be taken for its cause. Where the kernel
 * cannot unwind nothing is said. A function of its own, for the sake of the
 * stack: the addresses would take a third of it from whoever asks.
 */
static __noinline __u32 read_stack(void *ctx)
{
	__u64 ips[MAX_FRAMES] = {};
	long len = bpf_get_stack(ctx, ips, sizeof(ips), 0);
	__u32 deletes = 0;

	for (__u32 i = 0; i < MAX_FRAMES; i++) {
		__u32 caller;

		if ((long)i * 8 >= len)
			break;
		caller = caller_at(ips[i]);
		if (caller == CALLER_DELETE)
			deletes = DELETES;
		else if (caller != CALLER_NONE)
			return caller | deletes;
	}
	return deletes;
}

static __always_inline struct stack find_caller(void *ctx)
{
	__u32 what = read_stack(ctx);

	return (struct stack){ .caller = what & ~DELETES, .deletes = what & DELETES };
}

#endif
