/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What the kernel's own functions tell of a minisock, where programs can be
 * attached to functions: its birth, each arming of its timer, its end. They run
 * for minisocks only, and miss nothing that timers do not show.
 *
 * FIN_WAIT_2 becomes TIME_WAIT in tcp_timewait_state_process(), which arms the
 * timer for it: so __inet_twsk_schedule() tells that too, at the same moment on
 * every kernel, and is not called for the segments that change nothing.
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
 * inet_twsk_alloc() has made a minisock out of sk. Nobody else can reach it yet;
 * it has its cookie and its state, but neither IPv6 addresses nor a timer.
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
 * The timer is about to be armed, for the first time or again. The first time
 * tells of births as well: on_twsk_alloc() can be interrupted in a process by a
 * softirq that makes another minisock, which the kernel then runs no program for.
 */
static __always_inline void on_twsk_schedule(struct inet_timewait_sock *tw, int timeo, bool rearm)
{
	struct mini_info *info;
	struct mini m;

	read_mini(&m, tw, HOOK_TWSK_SCHEDULE);
	m.expires = bpf_jiffies64() + timeo;
	if (raw)
		emit_raw_mini(&m);
	info = find_mini(&m);
	/*
	 * Called for a segment that met the minisock a moment before it was killed,
	 * too. Then nothing is armed: mod_timer_pending() leaves the timer alone.
	 */
	if (rearm && (info ? info->flags & MINI_ENDED : !BPF_CORE_READ(tw, tw_timer.entry.pprev)))
		return;
	if (!rearm && info && !info->minisock)
		count(births_rescued);
	if (rearm && info && info->time_wait_ns)
		note_rearm(info);
	else if (rearm || info) /* without a record there was no room for its birth */
		mini_armed(&m, !rearm);
}

/*
 * Every minisock ends here. The stack says why: the timer, or who was faster.
 * Where there is none, the timer is due or it was not.
 */
static __always_inline void on_twsk_kill(void *ctx, struct inet_timewait_sock *tw)
{
	struct stack st;
	struct mini m;
	__u32 caller;

	read_mini(&m, tw, HOOK_TWSK_KILL);
	if (raw)
		emit_raw_mini(&m);
	st = find_caller(ctx);
	caller = st.caller;
	/* Who takes the timer away, and is faster, clears its function (since 6.11). */
	if ((caller == CALLER_NONE || caller == CALLER_UNKNOWN) && !st.deletes && (__s64)(bpf_jiffies64() - m.expires) >= 0 &&
	    BPF_CORE_READ(tw, tw_timer.function))
		caller = CALLER_TIMER;
	mini_ended(&m, kill_reason(m.substate, caller));
}

#endif
