/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The fentry hooks: kernel functions that run at the birth of a minisock, whenever
 * its timer is armed, and at its end. They run for minisocks only, and see re-arms
 * that the timer tracepoints do not show.
 *
 * tcp_timewait_state_process() turns FIN_WAIT_2 into TIME_WAIT and arms the timer
 * for it. So __inet_twsk_schedule() shows that change too, at the same moment on
 * every kernel. It is not called for segments that change nothing.
 */
#ifndef FINWAIT_MINISOCK_FENTRY_H
#define FINWAIT_MINISOCK_FENTRY_H

#include "kernel.h"
#include "event.h"
#include "maps.h"
#include "unwind.h"
#include "output.h"
#include "reason.h"
#include "minisock.h"

/*
 * inet_twsk_alloc() has made a minisock out of sk. No other CPU can reach it yet. It
 * has its cookie and its state, but no IPv6 addresses and no timer.
 */
static __always_inline void on_twsk_alloc(struct sock *sk, struct inet_timewait_sock *tw)
{
	struct mini m;

	if (!tw) /* no memory, or tcp_max_tw_buckets */
		return;
	read_mini(&m, tw, HOOK_TWSK_ALLOC);
	m.skc = &sk->__sk_common;
	m.expires = bpf_jiffies64();
	if (raw)
		emit_raw_mini(&m);
	m.expires += (__u64)TIMEWAIT_LEN * hz;
	mini_armed(&m, true);
}

/*
 * The timer is about to be armed: for the first time, or as a re-arm. The first time
 * also shows a birth that on_twsk_alloc() missed: a softirq can interrupt it and
 * make another minisock, and for that one the kernel skips the program.
 */
static __always_inline void on_twsk_schedule(struct inet_timewait_sock *tw, int timeo, bool rearm)
{
	struct mini_info *info;
	struct mini m;

	read_mini(&m, tw, HOOK_TWSK_SCHEDULE);
	m.expires = bpf_jiffies64() + timeo;
	if (raw)
		emit_raw_mini(&m);
	info = find_mini(&m, !rearm);
	/*
	 * It is also called for a segment that found the minisock just before another
	 * CPU killed it. Then mod_timer_pending() arms nothing.
	 */
	if (rearm && (info ? info->flags & MINI_ENDED : !BPF_CORE_READ(tw, tw_timer.entry.pprev)))
		return;
	if (!rearm && info && !info->minisock)
		count(births_rescued);
	if (rearm && info && info->time_wait_ns)
		note_rearm(info);
	else if (rearm || info) /* a first time without a record: the map was full at its birth */
		mini_armed(&m, !rearm);
}

/*
 * Every minisock ends here. The kernel stack says why: its timer, or a function
 * that was faster. Without a stack, a timer that is due is taken for the reason.
 */
static __always_inline void on_twsk_kill(void *ctx, struct inet_timewait_sock *tw)
{
	struct stack st;
	struct mini m;
	__u32 caller;

	read_mini(&m, tw, HOOK_TWSK_KILL);
	if (raw)
		emit_raw_mini(&m);
	mini_seen(&m);
	st = find_caller(ctx);
	caller = st.caller;
	/* Whoever deletes the timer before it fires clears its function (since 6.11). */
	if ((caller == CALLER_NONE || caller == CALLER_UNKNOWN) && !st.deletes && (__s64)(bpf_jiffies64() - m.expires) >= 0 &&
	    BPF_CORE_READ(tw, tw_timer.function))
		caller = CALLER_TIMER;
	mini_ended(&m, kill_reason(m.substate, caller));
}

#endif
