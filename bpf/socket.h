/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The life of a full socket, as sock:inet_sock_set_state reports it. */
#ifndef FINWAIT_SOCKET_H
#define FINWAIT_SOCKET_H

#include "kernel.h"
#include "event.h"
#include "compat.h"
#include "maps.h"
#include "filter.h"
#include "identity.h"
#include "tally.h"
#include "audit.h"
#include "output.h"
#include "records.h"
#include "handover.h"
#include "overflow.h"
#include "step.h"
#include "tell.h"

/*
 * connect() and listen() run in the process that owns the socket from now on
 * (tcp_v4_connect(), inet_csk_listen_start()).
 */
static __always_inline void begin_life(struct step *s)
{
	struct sock_info *info = s->info;
	struct sock *sk = s->sk;
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct owner *owner;
	struct cgroup *cgrp;

	info->old_port = s->e.tuple.sport ? 0 : kept_port(sk);
	info->err = sk->sk_err;
	info->soft_err = 0;
	info->role = s->e.to == TCP_LISTEN ? ROLE_LISTENER : ROLE_CLIENT;
	info->write_seq = tp ? tp->write_seq : 0;
	info->restored = !raw && tp && s->e.to == TCP_SYN_SENT && BPF_CORE_READ_BITFIELD(tp, repair);
	if (info->restored)
		info->role = ROLE_UNKNOWN;
	if (stream && s->e.to == TCP_SYN_SENT && s->e.tuple.sport && !(BPF_CORE_READ_BITFIELD(sk, sk_userlocks) & SOCK_BINDPORT_LOCK))
		s->e.flags |= EVENT_PORT_BY_BIND;
	if (owners) {
		if (s->e.to == TCP_LISTEN || !later_subflow(sk))
			info->owner.pid = calling_process(info->owner.comm);
		info->owner.uid = s->sk->sk_uid.val;
		/*
		 * BPF_CORE_READ() and no load: for a pointer that is loaded from a trusted
		 * pointer the verifier searches all types (from 6.3 until they are sorted),
		 * which takes 1 ms on each path.
		 */
		cgrp = BPF_CORE_READ(sk, sk_cgrp_data.cgroup);
		info->owner.cgroup_id = cgrp ? cgroup_id(cgrp) : 0;
	}
	if (s->e.to == TCP_LISTEN) {
		owner = bpf_sk_storage_get(&listeners, s->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
		if (owner)
			*owner = info->owner;
	} else if (info->lived_before) { /* perhaps as a listener, or as the child of one */
		bpf_sk_storage_delete(&listeners, s->sk);
	}
}

static __always_inline void name_netns(struct step *s)
{
	struct net *net;

	if (!audit || s->info->netns_slot)
		return;
	net = s->sk->__sk_common.skc_net.net;
	s->info->netns_slot = cookie_slot(net->net_cookie, net);
}

/*
 * The socket of this record is gone, and no program was run for its last transition.
 * If that was the hand-over, nothing is missed: then its minisock is or was live.
 */
static __always_inline void lost_socket(struct sock_info *info, __u64 cookie)
{
	__u32 state = info->state, counted = info->counted;
	struct mini_info *mini = NULL;

	info->counted = 0;
	if ((state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2 || state == TCP_CLOSING || state == ANY_STATE) &&
	    !info->untracked && cookie)
		mini = find_record(cookie);
	if (mini && hand_over_finish(mini, cookie))
		return;
	if (mini && state == TCP_FIN_WAIT1)
		atomic_or(&mini->flags, MINI_HANDED_OVER); /* its minisock may exist: mini_begins() */
	else if (mini)
		drop_record(mini, cookie);
	note_missed(info->netns_slot, state, TCP_CLOSE);
	if (counted)
		tally_gone(&info->group, counted);
}

static __always_inline bool is_birth(__u32 from, __u32 to)
{
	return from == TCP_LISTEN && to == TCP_SYN_RECV;
}

/*
 * Should the listener's storage be looked up? At birth only for the owner; later, to
 * recognise a child without a record.
 */
__verified_once int may_be_child(__u32 from, __u32 to, __u32 known)
{
	if (is_birth(from, to))
		return owners;
	return !known && from != TCP_CLOSE && from != TCP_LISTEN && from != TCP_SYN_SENT;
}

/*
 * The state in the record must be the state that is left. If it is not, a transition
 * was missed in between, and no hook saw the start of that state. A socket without a
 * record may have existed before the programs; a transition was surely missed only
 * if the socket is the child of a known listener. cookie: of the socket; 0: it has
 * none yet.
 */
__verified_once int start_life(struct sock_info *info, __u32 from, __u32 to, __u64 cookie, bool child)
{
	bool begins = from == TCP_CLOSE || is_birth(from, to);
	__u64 was;

	if (!info)
		return 0;
	if (info->state && !same_socket(info, cookie)) {
		was = xchg(&info->cookie, 0);
		if (was) /* otherwise it is being swept */
			lost_socket(info, was);
		clear_socket(info);
	}
	if (info->state == ANY_STATE) {
		info->since_ns = 0;
		info->precision = PRECISION_UNKNOWN;
	} else if (info->state && info->state != from) {
		if (begins || from == TCP_SYN_SENT) { /* the record is of an earlier life */
			lost_socket(info, info->cookie);
			clear_socket(info);
		}
		if (!begins)
			note_missed(info->netns_slot, info->state, from);
		info->since_ns = 0;
		info->precision = PRECISION_UNKNOWN;
	} else if (!info->state && !begins && child && !sockets_full) {
		note_missed(info->netns_slot, info->state, from);
	}
	/* A cookie means that the socket existed before we first saw it. */
	if (!info->state)
		info->lived_before = cookie != 0;
	if (child || is_birth(from, to))
		info->role = ROLE_SERVER;
	info->state = to;
	return 0;
}

/* The record does not have the state that the socket leaves: it is new, or a transition was missed. */
static __always_inline void start(struct step *s)
{
	struct sock_info *info = s->info;
	struct sock *sk = s->sk;
	struct owner *listener = NULL;

	if (may_be_child(s->e.from, s->e.to, info->state))
		listener = bpf_sk_storage_get(&listeners, sk, 0, 0);
	name_netns(s);
	start_life(info, s->e.from, s->e.to, sk->__sk_common.skc_cookie.counter, listener != NULL);
	name_netns(s);
	if (listener)
		info->owner = *listener;
}

/* The socket is in its new state: keep since when, and what a minisock will need. */
static __always_inline void keep_step(struct step *s)
{
	s->info->since_ns = s->e.time_ns;
	s->info->err = s->sk->sk_err;
	s->info->precision = PRECISION_EXACT;
	if (s->e.to == TCP_FIN_WAIT1 || s->e.to == TCP_FIN_WAIT2 || s->e.to == TCP_CLOSING) {
		hand_over_prepare(s->info, s->info->cookie, s->e.to);
		/*
		 * From where to count on this CPU. Not in FIN_WAIT_1: the count of minisocks is
		 * in a cache line that every CPU writes, and it would be read for nothing.
		 */
		if (s->e.to != TCP_FIN_WAIT1 && timewait_full(s->sk->__sk_common.skc_net.net))
			overflow_moved(s->sk, false);
	}
}

/*
 * Is this FIN_WAIT_2 or CLOSING -> CLOSE the hand-over to a minisock? If there was no
 * room for the socket's records, or if it was never seen before, the cookie finds no
 * minisock. Then an end without an error is taken for the hand-over, which it nearly
 * always is: finwait must not make up a close.
 */
static __always_inline bool hand_over_taken(const struct sock_info *info, const struct event *e)
{
	struct mini_info *mini = info->untracked ? NULL : find_record(info->cookie);

	if (mini)
		return hand_over_finish(mini, info->cookie);
	if ((e->err && e->err != info->err) || (!info->untracked && info->since_ns))
		return false;
	if (info->untracked && !raw) {
		count(seen);
		count(map_full);
		if (audit)
			audit_lost(info->netns_slot);
	}
	return true;
}

/* Returns 1 if a minisock takes over. From now on the minisock is counted as live, if it has a record. */
__verified_once int hand_over_step(struct sock_info *info, struct event *e)
{
	if (!info || !e || !hand_over_taken(info, e))
		return 0;
	if (raw)
		emit_step(info, e, 0);
	else if (info->untracked || !info->since_ns)
		tally_live(info, e, 0);
	info->counted = 0;
	return 1;
}

/*
 * Leaves the verdict in the record. It is a function of its own, because set_state has no
 * room left on its stack.
 */
__verified_once int judge_socket(struct sock_info *info, const struct event *e, bool in_cgroup)
{
	bool pending;

	if (!info || !e)
		return 0;
	/* connect() and listen() report the state before they choose a port. */
	pending = (e->to == TCP_SYN_SENT || e->to == TCP_LISTEN) && e->from == TCP_CLOSE && !e->tuple.sport;
	info->verdict = VERDICT_PASS;
	if (!in_cgroup)
		info->verdict = VERDICT_REJECT;
	else if (filters_connections)
		info->verdict = judge_lists(&e->tuple, &info->owner, info->cookie, info->role, pending);
	/* The group of a listener is its port. */
	if (split_by == SPLIT_PORT && e->to == TCP_LISTEN && pending && info->verdict == VERDICT_PASS)
		info->verdict = VERDICT_UNDECIDED;
	return 0;
}

/*
 * Asks the connection filters, unless they have answered before. connect() chooses a
 * local port, and listen() without bind(), just after the kernel has reported the state
 * (tcp_v4_connect(), inet_csk_listen_start()).
 */
static __always_inline void judge_step(struct step *s)
{
	struct sock_info *info = s->info;
	struct sock *sk = s->sk;

	if (half_made(s)) {
		info->verdict = VERDICT_UNDECIDED;
		info->cookie = 0;
	} else if (info->verdict == VERDICT_NONE || info->verdict == VERDICT_UNDECIDED) {
		judge_socket(info, &s->e, !n_cgroups || in_cgroups(sk->sk_cgrp_data.cgroup));
	}
}

/*
 * A socket is put back as it was (TCP_REPAIR): connect() sends no SYN, and goes on to
 * ESTABLISHED at once (tcp_connect()). That is told as one transition, from CLOSED.
 * Returns 1 if there is nothing to tell.
 */
static __always_inline bool restore_step(struct sock_info *info, struct event *e)
{
	if (e->to == TCP_SYN_SENT || (e->from == TCP_SYN_SENT && e->to == TCP_CLOSE))
		return true;
	info->restored = 0;
	if (e->from != TCP_SYN_SENT) /* no program was run for that */
		return false;
	info->since_ns = 0;
	e->from = TCP_CLOSE;
	return false;
}

/*
 * Decides what the transition is: a hand-over, one that is deferred, or an event. to
 * is s->e.to, in a register: there the verifier keeps track of its value.
 */
static __always_inline void settle_step(void *ctx, struct step *s, int to)
{
	struct sock_info *info = s->info;

	if (is_a(s, MAY_HAND_OVER) && hand_over_step(info, &s->e)) {
		if (metrics_on && info->verdict == VERDICT_PASS)
			keep_metrics(s->sk, info->cookie);
		drop_socket(info);
		return;
	}
	if (info->restored && restore_step(info, &s->e)) {
		if (to == TCP_CLOSE)
			drop_socket(info);
		else
			keep_step(s);
		return;
	}
	if (info->verdict == VERDICT_UNDECIDED) {
		keep_step(s);
		info->deferred_ns = s->e.time_ns;
		info->deferred_cpu = bpf_get_smp_processor_id();
		ports_pending = 1;
		return;
	}
	if (info->deferred_ns)
		tell_deferred(info, &s->e);
	if (!is_a(s, CLOSES)) {
		tell_move(info, &s->e);
		keep_step(s);
		return;
	}
	read_facts(ctx, s);
	if (is_a(s, MAY_HAND_OVER) && surely_hands_over(&s->f)) {
		if (raw)
			emit_step(info, &s->e, 0);
		hand_over_unseen(info);
		if (metrics_on && info->verdict == VERDICT_PASS)
			keep_metrics(s->sk, info->cookie);
		tally_live(info, &s->e, 0);
		drop_socket(info);
		return;
	}
	if (is_a(s, MAY_HAND_OVER | NO_HAND_OVER))
		hand_over_forget(info->cookie);
	tell_close(info, &s->e, &s->f);
	forget_handler(info->cookie);
	drop_socket(info);
}

/*
 * tcp_v4_err() has put an ICMP error into the error queue (ip_icmp_error()), and reports
 * it before it sets sk_err. If the socket is locked, it sets sk_err_soft instead: the
 * program is told, which clears that, and the kernel goes on trying to connect.
 */
static __always_inline void on_error_report(struct sock *sk)
{
	struct sock_info *info;
	struct sk_buff *skb;
	__u32 err = 0;

	if (BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP || BPF_CORE_READ(sk, __sk_common.skc_state) != TCP_SYN_SENT)
		return;
	skb = BPF_CORE_READ(sk, sk_error_queue.prev);
	if (!BPF_CORE_READ(sk, sk_error_queue.qlen) || BPF_CORE_READ(sk, sk_err))
		return;
	bpf_core_read(&err, sizeof(err), &((struct sock_exterr_skb *)&skb->cb)->ee.ee_errno);
	info = find_socket(sk);
	if (info && same_socket(info, BPF_CORE_READ(sk, __sk_common.skc_cookie.counter)))
		info->soft_err = err;
}

static __always_inline void on_set_state(void *ctx, struct sock *sk, int from, int to)
{
	struct sock_info *info;
	struct step s;

	if (sk->sk_protocol != IPPROTO_TCP) {
		count(seen);
		count(filtered);
		return;
	}

	/* close() after shutdown() sets the same state again (tcp_close_state()). */
	if (from == to && !raw)
		return;
	if (is_skipped(sk->__sk_common.skc_net.net, from, to))
		return;

	read_step(&s, sk, from, to);
	info = find_socket(sk) ?: add_socket(sk);
	if (!info) {
		count(seen);
		count(map_full);
		if (audit)
			audit_lost(netns_slot(BPF_CORE_READ(sk, __sk_common.skc_net.net)));
		return;
	}
	s.info = info;
	if (info->state == from && same_socket(info, sk->__sk_common.skc_cookie.counter))
		info->state = to; /* this tells set_state_nested that set_state has run */
	else
		start(&s);
	if (is_a(&s, BEGINS))
		begin_life(&s);
	set_aside_old(&s);
	if (!info->cookie)
		info->cookie = bpf_get_socket_cookie(sk);
	if (is_a(&s, BEGINS) && info->lived_before)
		hand_over_give_up(info->cookie);
	if (is_a(&s, ESTABLISHES))
		info->deferred_fin = sk->sk_shutdown & SEND_SHUTDOWN;

	judge_step(&s);
	settle_step(ctx, &s, to);
}

#endif
