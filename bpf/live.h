/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Since when each socket is in its state, as the records know it. An iterator asks, because
 * it has the full socket locked: no hook is at work on the record that it reads.
 */
#ifndef FINWAIT_LIVE_H
#define FINWAIT_LIVE_H

#include "kernel.h"
#include "event.h"
#include "records.h"
#include "minisock.h"

static __always_inline bool live_full(struct live_socket *live, struct tcp_sock *tp)
{
	struct sock *sk = (struct sock *)tp;
	struct sock_info *info = find_socket(sk);

	live->cookie = BPF_CORE_READ(sk, __sk_common.skc_cookie.counter);
	if (!info || !live->cookie || info->cookie != live->cookie || info->state != live->state)
		return false;
	live->since_ns = info->since_ns;
	live->precision = info->precision;
	live->role = info->role;
	return true;
}

/* A minisock is not locked: its record may end meanwhile, and the room be given to another. */
static __always_inline bool live_mini(struct live_socket *live, struct sock_common *skc)
{
	struct mini_info *info;
	struct mini m;

	read_mini(&m, (struct inet_timewait_sock *)skc, HOOK_SET_STATE);
	info = find_mini(&m, false);
	if (!info || m.by_address || info->minisock != (__u64)m.tw)
		return false;
	live->cookie = m.cookie;
	live->state = m.substate;
	live->role = info->role;
	if (m.substate == TCP_TIME_WAIT) {
		live->since_ns = *(volatile __u64 *)&info->time_wait_ns;
		live->precision = *(volatile __u8 *)&info->time_wait_precision;
	} else if (info->from == m.substate) {
		live->since_ns = info->since_ns;
		live->precision = info->precision;
	}
	return find_mini(&m, false) == info && *(volatile __u64 *)&info->minisock == (__u64)m.tw;
}

static __always_inline void on_live(struct bpf_iter__tcp *ctx, struct sock_common *skc)
{
	struct live_socket live = { .state = skc->skc_state };
	struct tcp_sock *tp;
	bool known;

	if (live.state == TCP_TIME_WAIT) {
		known = live_mini(&live, skc);
	} else {
		tp = bpf_skc_to_tcp_sock(skc);
		known = tp && live_full(&live, tp);
	}
	if (known && live.since_ns && live.precision != PRECISION_UNKNOWN)
		bpf_seq_write(ctx->meta->seq, &live, sizeof(live));
}

#endif
