/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The kernel skips a tp_btf program on a CPU where it is already running: a softirq
 * has interrupted that run (05b24ff9b2cf, 6.1), or from 7.0 on another task. Further
 * programs on the same tracepoint run after it, and take over a transition that
 * was skipped.
 */
#ifndef FINWAIT_NESTED_H
#define FINWAIT_NESTED_H

#include "kernel.h"
#include "maps.h"
#include "filter.h"
#include "records.h"

/*
 * Was set_state skipped for this transition? Transitions of one socket never overlap.
 * So a program that has seen this one has written the new state to the socket's
 * record, or has deleted the record of a closed socket. For a closed socket without
 * a record this cannot be decided; the kernel's own miss count covers it.
 */
static __always_inline bool set_state_was_skipped(struct sock *sk, int from, int to)
{
	struct sock_info *info;

	if (sk->sk_protocol != IPPROTO_TCP || from == to || is_skipped(sk->__sk_common.skc_net.net, from, to))
		return false;
	info = find_socket(sk);
	if (info)
		return info->state != to || !same_socket(info, sk->__sk_common.skc_cookie.counter);
	/* If sockets_full is set: set_state has counted the full map, or the kernel the skipped run. */
	return to != TCP_CLOSE && !sockets_full;
}

#endif
