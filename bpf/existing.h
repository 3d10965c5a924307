/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Sockets that existed before the programs. An iterator visits each of them once,
 * after the programs are attached, so that no socket is missed in between. What a
 * hook has seen meanwhile is better, and stays.
 */
#ifndef FINWAIT_EXISTING_H
#define FINWAIT_EXISTING_H

#include "kernel.h"
#include "event.h"
#include "compat.h"
#include "maps.h"
#include "filter.h"
#include "identity.h"
#include "tally.h"
#include "audit.h"
#include "records.h"
#include "handover.h"
#include "minisock.h"
#include "socket.h"

/*
 * Names the process that holds the socket, which need not have created it. An orphan has
 * none; if several hold it, none is named.
 */
static __always_inline void find_holder(struct sock *sk, struct owner *owner)
{
	__u64 ino = BPF_CORE_READ(sk, sk_socket, file, f_inode, i_ino);
	struct cgroup *cgrp = BPF_CORE_READ(sk, sk_cgrp_data.cgroup);
	struct owner *holder = ino ? bpf_map_lookup_elem(&holders, &ino) : NULL;

	if (!holder)
		return;
	__builtin_memcpy(owner->comm, holder->comm, COMM_LEN);
	owner->uid = BPF_CORE_READ(sk, sk_uid.val);
	owner->cgroup_id = cgrp ? cgroup_id(cgrp) : 0;
	owner->holder = 1;
	owner->pid = holder->pid;
}

static __own_frame int existing_socket(struct sock *sk, __u8 state)
{
	struct sock_info *info = find_socket(sk) ?: add_socket(sk);
	struct event e = {};
	__u64 cookie;

	if (!info)
		return 0;
	if (!same_socket(info, BPF_CORE_READ(sk, __sk_common.skc_cookie.counter))) {
		lost_socket(info, info->cookie);
		clear_socket(info);
	}
	if (!info->owner.pid) {
		find_holder(sk, &info->owner);
		info->verdict = VERDICT_NONE; /* the filters may have been asked without an owner */
	}
	if (state == TCP_LISTEN) {
		info->role = ROLE_LISTENER;
		bpf_sk_storage_get(&listeners, sk, &info->owner, BPF_SK_STORAGE_GET_F_CREATE);
	}

	/* If a transition came first, it knows better when the state began. */
	if (cmpxchg(&info->since_ns, 0, bpf_ktime_get_ns()))
		return 0;
	info->precision = PRECISION_AT_LEAST;
	info->state = state;
	info->netns_slot = netns_slot(BPF_CORE_READ(sk, __sk_common.skc_net.net));

	info->lived_before = BPF_CORE_READ(sk, __sk_common.skc_cookie.counter) != 0;
	cookie = info->cookie = bpf_get_socket_cookie(sk);
	read_tuple(&e.tuple, &sk->__sk_common);
	e.from = TCP_CLOSE;
	e.to = state;
	judge_socket(info, &e, !n_cgroups || in_cgroups(BPF_CORE_READ(sk, sk_cgrp_data.cgroup)));
	if (info->verdict == VERDICT_PASS &&
	    !cmpxchg(&info->counted, 0, state)) {
		e.owner = info->owner;
		e.role = info->role;
		if (split_by)
			name_group(&info->group, &e.tuple, &e.owner, e.role, e.cookie);
		tally_move(&info->group, 0, state);
	}
	if (state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2 || state == TCP_CLOSING)
		hand_over_prepare(info, cookie, state);
	return 0;
}

static __always_inline void existing_mini(struct sock_common *skc)
{
	struct inet_timewait_sock *tw = (struct inet_timewait_sock *)skc;
	struct mini m;

	bpf_get_socket_cookie(skc);
	read_mini(&m, tw, HOOK_SET_STATE);
	/* A hook may have added a record meanwhile, by address. */
	if (find_mini(&m, false))
		return;
	if (!add_found(&m, m.now))
		forget_ended(&m);
}

static __always_inline void on_existing(struct sock_common *skc)
{
	struct tcp_sock *tp;

	if (skc->skc_state == TCP_TIME_WAIT) {
		existing_mini(skc);
		return;
	}
	tp = bpf_skc_to_tcp_sock(skc);
	if (tp && skc->skc_state != TCP_CLOSE)
		existing_socket((struct sock *)tp, skc->skc_state);
}

#endif
