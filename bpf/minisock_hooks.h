/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The tracepoint hooks: a minisock's timer, and segments that are dropped after it has handled them. */
#ifndef FINWAIT_MINISOCK_HOOKS_H
#define FINWAIT_MINISOCK_HOOKS_H

#include "kernel.h"
#include "event.h"
#include "unwind.h"
#include "audit.h"
#include "output.h"
#include "reason.h"
#include "minisock.h"

/*
 * Runs for every timer of the host and mostly says no. The handlers are not inlined,
 * so that this path saves no registers.
 */
static __always_inline bool is_minisocks(struct timer_list *timer)
{
	return (__u64)timer->function == tw_timer_handler;
}

static __always_inline void timer_mini(struct mini *m, struct timer_list *timer, __u8 hook)
{
	read_mini(m, (void *)timer - bpf_core_field_offset(struct inet_timewait_sock, tw_timer), hook);
	if (raw)
		emit_raw_mini(m);
}

static __own_frame int on_timer_start(struct timer_list *timer)
{
	struct mini m;

	timer_mini(&m, timer, HOOK_TIMER_START);
	mini_armed(&m, true);
	return 0;
}

static __own_frame int on_timer_expire(struct timer_list *timer)
{
	struct mini m;

	timer_mini(&m, timer, HOOK_TIMER_EXPIRE);
	mini_seen(&m, false);
	mini_ended(&m, REASON_EXPIRED);
	return 0;
}

static __own_frame int on_timer_cancel(void *ctx, struct timer_list *timer)
{
	struct stack st;
	struct mini m;
	__u8 reason;

	timer_mini(&m, timer, HOOK_TIMER_CANCEL);
	st = find_caller(ctx);
	mini_seen(&m, st.caller == CALLER_REARM);
	reason = cancel_reason(m.substate, st);
	if (reason != REASON_NONE)
		mini_ended(&m, reason);
	else if (st.caller == CALLER_REARM)
		mini_moves(&m);
	else if ((st.caller == CALLER_NONE || st.caller == CALLER_UNKNOWN) && !raw) {
		struct inet_timewait_sock *tw = m.tw;
		struct mini_info *info = find_mini(&m, false);

		if (info && info->minisock == (__u64)tw)
			atomic_or(&info->flags, MINI_NO_STACK);
		count(seen); /* it may have been an end */
		count(unwind_failed);
		if (audit)
			audit_lost(netns_slot(BPF_CORE_READ(tw, __tw_common.skc_net.net)));
	}
	return 0;
}

/*
 * A minisock answers a segment with an RST, and tcp_v4_rcv() is about to end it
 * (TCP_TW_RST). What segment it was is written to its record. sk can be NULL, which not
 * every kernel tells the verifier: it is read with probes.
 */
static __own_frame int on_send_reset(struct sock *sk, struct sk_buff *skb)
{
	struct mini_info *info;
	__u8 th[14] = {};	/* struct tcphdr as far as its flags */
	__u32 len, header;
	unsigned char *at;
	struct mini m;

	if (!sk || !skb || BPF_CORE_READ(sk, __sk_common.skc_state) != TCP_TIME_WAIT)
		return 0;
	read_mini(&m, (struct inet_timewait_sock *)sk, HOOK_SEND_RESET);
	if (raw)
		emit_raw_mini(&m);
	mini_seen(&m, false);
	info = find_mini(&m, false);
	at = BPF_CORE_READ(skb, head) + BPF_CORE_READ(skb, transport_header);
	if (!info || info->minisock != (__u64)m.tw || bpf_probe_read_kernel(th, sizeof(th), at))
		return 0;
	len = BPF_CORE_READ(skb, len); /* from the TCP header on (ip_local_deliver_finish()) */
	header = th[12] >> 4 << 2;
	if (th[13] & TCPHDR_SYN)
		info->answered = DETAIL_SYN;
	else
		info->answered = len > header ? DETAIL_DATA_AFTER_CLOSE : DETAIL_OUT_OF_WINDOW;
	return 0;
}

/* A packet is dropped. rx_sk: the socket that it was for (since 6.11). */
static __always_inline void on_kfree_skb(struct sock *rx_sk)
{
	struct mini m;

	/*
	 * Read with a probe, although the verifier knows the type. Kernels without
	 * 5da7e15fb5a1 ("net: Add rx_skb of kfree_skb to raw_tp_null_args[]") believe
	 * that it is never NULL, and remove a test for NULL.
	 */
	if (!rx_sk || BPF_CORE_READ(rx_sk, __sk_common.skc_state) != TCP_TIME_WAIT)
		return;
	read_mini(&m, (struct inet_timewait_sock *)rx_sk, HOOK_KFREE_SKB);
	if (raw)
		emit_raw_mini(&m);
	mini_segment(&m);
}

#endif
