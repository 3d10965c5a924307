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

/*
 * The transitions of one socket do not overlap, whatever else runs in between:
 * whichever program has seen this one has left its mark on the socket.
 */
static __always_inline bool set_state_was_skipped(struct sock *sk, int from, int to)
{
	struct sock_info *info;

	if (sk->sk_protocol != IPPROTO_TCP || from == to)
		return false;
	info = bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	/* No memory: set_state has counted that, or the kernel that it skipped it. */
	return info && info->state != to;
}

#endif
