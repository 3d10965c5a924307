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
#include "unwind.h"
#include "tally.h"
#include "audit.h"
#include "output.h"
#include "reason.h"
#include "records.h"
#include "handover.h"

/* One transition of one socket, and its event. */
struct step {
	struct sock *sk;
	struct sock_info *info;
	__u32 kind;		/* enum kind */
	struct event e;
	struct facts f;
};

/*
 * What kind of transition it is, by its two states. The verifier explores both sides of
 * every branch; a table lookup adds no branch.
 */
enum kind {
	BEGINS		= 1 << 0,	/* connect(), listen() */
	ESTABLISHES	= 1 << 1,	/* the passive end */
	GIVES_UP	= 1 << 2,	/* connect() failed */
	MAY_HAND_OVER	= 1 << 3,
	CLOSES		= 1 << 4,
	ASKS_SEQUENCE	= 1 << 5,	/* its reason needs the sequence numbers */
	ASKS_CALLER	= 1 << 6,	/* its reason needs the kernel stack, which costs microseconds; asked for rare closes only */
};

static const volatile __u8 kinds[STATES][STATES] = {
	[TCP_CLOSE]	  = { [TCP_SYN_SENT] = BEGINS, [TCP_LISTEN] = BEGINS, [TCP_CLOSE] = CLOSES },
	[TCP_SYN_SENT]	  = { [TCP_CLOSE] = CLOSES | GIVES_UP | ASKS_SEQUENCE },
	[TCP_SYN_RECV]	  = { [TCP_ESTABLISHED] = ESTABLISHES, [TCP_CLOSE] = CLOSES },
	[TCP_ESTABLISHED] = { [TCP_CLOSE] = CLOSES },
	[TCP_FIN_WAIT1]	  = { [TCP_CLOSE] = CLOSES | ASKS_CALLER },
	[TCP_FIN_WAIT2]	  = { [TCP_CLOSE] = CLOSES | ASKS_CALLER | MAY_HAND_OVER },
	[TCP_CLOSING]	  = { [TCP_CLOSE] = CLOSES | ASKS_CALLER | MAY_HAND_OVER },
	[TCP_CLOSE_WAIT]  = { [TCP_CLOSE] = CLOSES },
	[TCP_LAST_ACK]	  = { [TCP_CLOSE] = CLOSES | ASKS_SEQUENCE },
	[TCP_LISTEN]	  = { [TCP_CLOSE] = CLOSES | ASKS_CALLER },
};

static __always_inline bool is_a(const struct step *s, enum kind kind)
{
	return s->kind & kind;
}

/* tcp_set_state() gives the port back, but inet_sport keeps it. */
static __always_inline __u16 kept_port(struct sock *sk)
{
	struct inet_sock *inet = (struct inet_sock *)bpf_skc_to_tcp_sock(sk);

	return inet ? bpf_ntohs(inet->inet_sport) : 0;
}

/*
 * connect() and listen() run in the process that owns the socket from now on
 * (tcp_v4_connect(), inet_csk_listen_start()).
 */
static __always_inline void begin_life(struct step *s)
{
	struct sock_info *info = s->info;
	struct sock *sk = s->sk;
	struct owner *owner;
	struct cgroup *cgrp;

	info->old_port = s->e.tuple.sport ? 0 : kept_port(s->sk);
	info->role = s->e.to == TCP_LISTEN ? ROLE_LISTENER : ROLE_CLIENT;
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

static __always_inline void read_facts(void *ctx, struct step *s)
{
	struct sock *sk = s->sk; /* CO-RE would look for struct step in the kernel */
	struct tcp_sock *tp = is_a(s, ASKS_SEQUENCE | ASKS_CALLER) ? bpf_skc_to_tcp_sock(sk) : NULL;
	struct facts *f = &s->f;

	__builtin_memset(f, 0, sizeof(*f));
	f->shutdown = sk->sk_shutdown;
	if (!tp)
		return;
	if (is_a(s, ASKS_SEQUENCE)) {
		f->unacked = tp->snd_una != tp->write_seq;
		/* A SYN counts as a packet out until it is acknowledged. */
		f->sent_syn = tp->packets_out != 0;
	}
	if (is_a(s, ASKS_CALLER)) {
		f->caller = find_caller(ctx).caller;
		f->lingerless = tp->linger2 < 0;
		f->held = BPF_CORE_READ(sk, sk_socket) != NULL;
		f->timewait_full = timewait_full(BPF_CORE_READ(sk, __sk_common.skc_net.net));
	}
}

static __always_inline void name_owner(struct event *e, const struct sock_info *info)
{
	e->cookie = info->cookie;
	e->owner = info->owner;
	e->closer = info->closer;
	e->role = info->role;
}

/* Moves the socket to another live count. TCP_CLOSE or 0: it is not counted any more. */
static __always_inline void tally_live(struct sock_info *info, struct event *e, __u8 state)
{
	__u32 was;

	if (!totals_on)
		return;
	if (state == TCP_CLOSE)
		state = 0;
	was = xchg(&info->counted, state);
	if (!was && !state)
		return;
	if (split_by)
		name_owner(e, info);
	__tally_move(e, was, state);
}

static __always_inline void name_netns(struct step *s)
{
	struct net *net;

	if (!audit || s->info->netns_slot)
		return;
	net = s->sk->__sk_common.skc_net.net;
	s->info->netns_slot = cookie_slot(net->net_cookie, net);
}

__verified_once int emit_step(struct sock_info *info, struct event *e, bool sent_syn)
{
	if (!info || !e)
		return 0;
	count(seen);
	if (info->verdict != VERDICT_PASS) {
		if (info->counted) /* the filters have been asked again, with an owner */
			tally_live(info, e, 0);
		count(filtered);
		return 0;
	}
	if (stream || split_by)
		name_owner(e, info);
	if (!raw) {
		tally_live(info, e, e->to);
		if (!transition_passes(e->from, e->to, e->since_ns, e->time_ns)) {
			count(filtered);
			return 0;
		}
		if (audit) {
			audit_step(info->netns_slot, e->from, e->to, e->from != TCP_SYN_SENT || sent_syn, e->err != 0);
			if (e->reason == REASON_TIMEWAIT_OVERFLOW)
				audit_overflow(info->netns_slot);
		}
	} else {
		e->owner.pid = current_process(e->owner.comm);
		e->cpu = bpf_get_smp_processor_id();
	}
	deliver(e);
	return 0;
}

/*
 * The first transition was deferred until more is known: for a child its addresses
 * and its cookie, for a client its local port if there is a filter on that. Its
 * event is sent now, before the event of this transition.
 */
__verified_once int emit_deferred(struct sock_info *info, struct event *e)
{
	__u16 sport, err;
	__u8 from, to;
	__u64 now;
	bool child;

	if (!info || !e)
		return 0;
	child = info->role == ROLE_SERVER;
	sport = e->tuple.sport;
	err = e->err;
	from = e->from;
	to = e->to;
	now = e->time_ns;
	/* The stack has no room for a second event: this one is changed, and changed back. */
	if (!child)
		e->tuple.sport = 0;
	e->err = 0;
	e->from = child ? TCP_LISTEN : TCP_CLOSE;
	e->to = child ? TCP_SYN_RECV : TCP_SYN_SENT;
	e->time_ns = info->deferred_ns;
	emit_step(info, e, true);
	e->tuple.sport = sport;
	e->err = err;
	e->from = from;
	e->to = to;
	e->time_ns = now;
	info->deferred_ns = 0;
	return 0;
}

/* Adds why the state ended, who closed the socket, and since when it was in that state. */
__verified_once int tell_step(struct sock_info *info, struct event *e, struct facts *f)
{
	if (!info || !e || !f)
		return 0;
	e->reason = step_reason(e, f);
	if (stream && closed_by_process(e->from, e->to, e->reason, f->shutdown, info->deferred_fin))
		info->closer.pid = calling_process(info->closer.comm);
	e->since_ns = info->since_ns;
	e->precision = info->since_ns ? info->precision : PRECISION_UNKNOWN;
	emit_step(info, e, f->sent_syn);
	return 0;
}

/*
 * Before a3a128f611a9 ("inet: consolidate inet_csk_clone_lock()", 6.15) the kernel
 * reports a child before it has its peer and its cookie. A cookie that it is given
 * now would be overwritten.
 */
static __always_inline bool half_made(const struct step *s)
{
	return s->e.from == TCP_LISTEN && s->e.to == TCP_SYN_RECV && !s->e.tuple.dport;
}

static __always_inline void read_step(struct step *s, struct sock *sk, int from, int to)
{
	struct event *e = &s->e;

	__builtin_memset(e, 0, sizeof(*e));
	s->sk = sk;
	s->kind = kinds[from & (STATES - 1)][to & (STATES - 1)];
	e->time_ns = bpf_ktime_get_ns();
	e->from = from;
	e->to = to;
	e->err = sk->sk_err;
	e->hook = HOOK_SET_STATE;
	if (stream || split_by || filters_connections)
		read_sock_tuple(&e->tuple, sk);
	else
		read_ports(&e->tuple, sk);
	if (is_a(s, CLOSES) && !e->tuple.sport)
		e->tuple.sport = kept_port(sk);
}

/* sk_err and the port may be left over from an earlier life: ignore them. */
static __always_inline void set_aside_old(struct step *s)
{
	const struct sock_info *info = s->info;
	struct event *e = &s->e;

	if (e->err == info->err)
		e->err = 0;
	if (is_a(s, GIVES_UP) && e->tuple.sport == info->old_port)
		e->tuple.sport = 0;
}

/* No program ran for an earlier transition of this socket. */
static __always_inline void note_missed(const struct sock_info *info)
{
	if (raw)
		return;
	count(seen);
	count(missed);
	if (audit)
		audit_lost(info->netns_slot);
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

	if (!info)
		return 0;
	if (info->state && !same_socket(info, cookie)) {
		note_missed(info);
		clear_socket(info);
		if (split_by)
			info->counted = 0; /* its group is not known any more */
	}
	if (info->state && info->state != from) {
		note_missed(info);
		if (begins || from == TCP_SYN_SENT)
			clear_socket(info); /* the record is of an earlier life */
		info->since_ns = 0;
		info->precision = PRECISION_UNKNOWN;
	} else if (!info->state && !begins && child && !sockets_full) {
		note_missed(info);
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
	if (s->e.to == TCP_FIN_WAIT2 || s->e.to == TCP_CLOSING)
		hand_over_prepare(s->info, s->info->cookie, s->e.to);
}

/*
 * Is this FIN_WAIT_2 or CLOSING -> CLOSE the hand-over to a minisock? If there was no
 * room for the socket's records, or if it was never seen before, the cookie finds no
 * minisock. Then an end without an error is taken for the hand-over, which it nearly
 * always is: finwait must not make up a close.
 */
static __always_inline bool hand_over_taken(const struct sock_info *info, const struct event *e)
{
	if (!info->untracked && hand_over_finish(info->cookie))
		return true;
	if (e->err || (!info->untracked && info->since_ns))
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
		emit_step(info, e, true);
	else if (info->untracked || !info->since_ns)
		tally_live(info, e, 0);
	info->counted = 0;
	return 1;
}

/* Asks the connection filters, unless they have answered before. */
static __always_inline void judge_step(struct step *s, int to)
{
	struct sock_info *info = s->info;
	struct sock *sk = s->sk;

	if (half_made(s)) {
		info->verdict = VERDICT_UNDECIDED;
		info->cookie = 0;
	} else if (info->verdict == VERDICT_NONE || info->verdict == VERDICT_UNDECIDED) {
		info->verdict = judge(&s->e.tuple, &info->owner, n_cgroups ? sk->sk_cgrp_data.cgroup : NULL,
				      to == TCP_SYN_SENT);
	}
}

/*
 * Decides what the transition is: a hand-over, one that is deferred, or an event. to
 * is s->e.to, in a register: there the verifier keeps track of its value.
 */
static __always_inline void settle_step(void *ctx, struct step *s, int to)
{
	struct sock_info *info = s->info;

	if (is_a(s, MAY_HAND_OVER) && hand_over_step(info, &s->e)) {
		drop_socket(info);
		return;
	}
	if (info->verdict == VERDICT_UNDECIDED) {
		info->deferred_ns = s->e.time_ns;
		keep_step(s);
		return;
	}
	if (info->deferred_ns)
		emit_deferred(info, &s->e);
	read_facts(ctx, s);
	tell_step(info, &s->e, &s->f);
	if (to == TCP_CLOSE)
		drop_socket(info);
	else
		keep_step(s);
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
		info->err = sk->sk_err; /* left over from an earlier life */
	set_aside_old(&s);
	if (is_a(&s, BEGINS))
		begin_life(&s);
	if (!info->cookie)
		info->cookie = bpf_get_socket_cookie(sk);
	if (is_a(&s, ESTABLISHES))
		info->deferred_fin = sk->sk_shutdown & SEND_SHUTDOWN;

	judge_step(&s, to);
	settle_step(ctx, &s, to);
}

#endif
