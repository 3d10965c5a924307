/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The kernel skips a tp_btf program on a CPU that is in the middle of a run of
 * it: a softirq may have interrupted the run (05b24ff9b2cf, 6.1) or, as seen
 * from 7.0 on, another task. Further programs on the same tracepoint, called
 * after the first, take the transition over then.
 */
#ifndef FINWAIT_NESTED_H
#define FINWAIT_NESTED_H

#include "kernel.h"
#include "maps.h"
#include "records.h"

/*
 * The transitions of one socket do not overlap, whatever else runs in between:
 * whichever program has seen this one has left its mark on the socket's record,
 * or has dropped that, as the socket is closed. Of one that is closed and had no
 * record nobody can tell: what was skipped the kernel has counted.
 */
static __always_inline bool set_state_was_skipped(struct sock *sk, int from, int to)
{
	struct sock_info *info;

	if (sk->sk_protocol != IPPROTO_TCP || from == to)
		return false;
	info = find_socket(sk);
	if (info)
		return info->state != to || !same_socket(info, sk->__sk_common.skc_cookie.counter);
	/* No room: set_state has counted that, or the kernel that it skipped it. */
	return to != TCP_CLOSE && !sockets_full;
}

#endif
