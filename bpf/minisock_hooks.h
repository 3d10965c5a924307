/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What the tracepoints tell of a minisock: timers, and segments that were dropped after it dealt with them. */
#ifndef FINWAIT_MINISOCK_HOOKS_H
#define FINWAIT_MINISOCK_HOOKS_H

#include "kernel.h"
#include "maps.h"
#include "filter.h"
#include "identity.h"
#include "minisock.h"
#include "unwind.h"

/*
 * What ended a minisock whose timer was cancelled. REASON_NONE if nothing did:
 * the timer was moved, or is about to fire.
 */
static __always_inline __u8 cancel_reason(const struct mini *m, const struct stack *st)
{
	if (!st->deletes)
		return REASON_NONE;

	switch (st->caller) {
	case CALLER_SEGMENT:
		return REASON_RST_RECEIVED;
	case CALLER_RECEIVE:
		/* tcp_v4_rcv() kills FIN_WAIT_2 after TCP_TW_RST, TIME_WAIT after TCP_TW_SYN. */
		return m->substate == TCP_FIN_WAIT2 ? REASON_RST_SENT : REASON_RECYCLED;
	case CALLER_CONNECT:
		return REASON_REUSED;
	case CALLER_ABORT:
		return REASON_DESTROYED;
	case CALLER_PURGE:
		return REASON_NETNS_REMOVED;
	default:
		return REASON_KILLED;
	}
}

static __always_inline void emit_raw_mini(struct mini *m)
{
	struct mini_info *info = find_mini(m);
	struct owner nobody = {};
	struct event *e;
	struct tuple t;

	count(seen);
	read_tuple(&t, (struct sock_common *)m->tw);
	if ((info ? info->verdict : judge(&t, &nobody, NULL, false)) != VERDICT_PASS) {
		count(filtered);
		return;
	}
	e = reserve();
	if (!e)
		return;
	__builtin_memset(e, 0, sizeof(*e));
	fill_tuple(e, &t);
	e->time_ns = m->now;
	e->cookie = m->cookie;
	e->minisock = (__u64)m->tw;
	e->owner.pid = current_process(e->owner.comm);
	e->from = m->substate;
	e->flags = EVENT_RAW | EVENT_MINISOCK;
	e->hook = m->hook;
	e->cpu = bpf_get_smp_processor_id();
	e->timer_left = (__s32)(m->expires - bpf_jiffies64());
	submit(e);
}

/* The minisock that this timer belongs to, or false for any other timer. */
static __always_inline bool timer_mini(struct mini *m, struct timer_list *timer, __u8 hook)
{
	if ((__u64)timer->function != tw_timer_handler)
		return false;
	read_mini(m, (void *)timer - bpf_core_field_offset(struct inet_timewait_sock, tw_timer), hook);
	if (raw)
		emit_raw_mini(m);
	return true;
}

static __always_inline void on_timer_start(struct timer_list *timer)
{
	struct mini m;

	if (timer_mini(&m, timer, HOOK_TIMER_START))
		mini_armed(&m);
}

static __always_inline void on_timer_expire(struct timer_list *timer)
{
	struct mini m;

	if (timer_mini(&m, timer, HOOK_TIMER_EXPIRE))
		mini_ended(&m, REASON_EXPIRED);
}

static __always_inline void on_timer_cancel(void *ctx, struct timer_list *timer)
{
	struct stack st;
	struct mini m;
	__u8 reason;

	if (!timer_mini(&m, timer, HOOK_TIMER_CANCEL))
		return;
	st = find_caller(ctx);
	reason = cancel_reason(&m, &st);
	if (reason != REASON_NONE)
		mini_ended(&m, reason);
	else if (st.caller == CALLER_REARM)
		mini_moves(&m);
	else if (st.caller == CALLER_NONE && !raw) {
		count(seen); /* for all that is known, an end */
		count(unwind_failed);
	}
}

/* rx_sk: the socket that the dropped packet was for (since 6.11). */
static __always_inline void on_kfree_skb(struct sock *rx_sk)
{
	struct mini m;

	if (!rx_sk || rx_sk->__sk_common.skc_state != TCP_TIME_WAIT)
		return;
	read_mini(&m, (struct inet_timewait_sock *)rx_sk, HOOK_KFREE_SKB);
	if (raw)
		emit_raw_mini(&m);
	mini_segment(&m);
}

#endif
