/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The life of a full socket, as sock:inet_sock_set_state tells it. */
#ifndef FINWAIT_SOCKET_H
#define FINWAIT_SOCKET_H

#include "kernel.h"
#include "compat.h"
#include "maps.h"
#include "filter.h"
#include "identity.h"
#include "minisock.h"
#include "netns.h"
#include "tally.h"
#include "unwind.h"

/* One transition of one socket, and the event that tells of it. */
struct step {
	struct sock *sk;
	struct sock_info *info;
	struct event e;
};

/* tcp_set_state() gives the port back, but leaves inet_sport as it was. */
static __always_inline __u16 kept_port(struct sock *sk)
{
	return bpf_ntohs(BPF_CORE_READ((struct inet_sock *)sk, inet_sport));
}

/*
 * connect() and listen() run in the process that owns the socket from then on
 * (tcp_v4_connect(), inet_csk_listen_start()). A socket that starts over after
 * a close keeps nothing but the time that it was closed.
 */
static __always_inline void begin_life(struct step *s)
{
	struct sock_info *info = s->info;
	struct cgroup *cgrp;

	info->opened_ns = 0;
	info->verdict = VERDICT_NONE;
	info->deferred_fin = 0;
	info->old_port = s->e.tuple.sport ? 0 : kept_port(s->sk);
	info->role = s->e.to == TCP_LISTEN ? ROLE_LISTENER : ROLE_CLIENT;
	info->closer.pid = 0;
	if (!owners)
		return;
	info->owner.pid = calling_process(info->owner.comm);
	info->owner.uid = s->sk->sk_uid.val;
	cgrp = s->sk->sk_cgrp_data.cgroup;
	info->owner.cgroup_id = cgrp ? cgroup_id(cgrp) : 0;
}

/* A child starts with a copy of its listener's info; only the owner is its own. */
static __always_inline void begin_child(struct step *s)
{
	s->info->since_ns = 0;
	s->info->cookie = 0;
	s->info->opened_ns = 0;
	s->info->counted = 0;
	s->info->closer.pid = 0;
	s->info->deferred_fin = 0;
	s->info->untracked = 0;
	s->info->handed_over = 0;
	s->info->old_port = 0;
	s->info->precision = PRECISION_UNKNOWN;
	s->info->role = ROLE_SERVER;
	s->info->verdict = VERDICT_NONE;
}

/*
 * Does close() or shutdown() run this in the process that called it? An active
 * close does, unless shutdown() came before the handshake was over: then
 * tcp_rcv_state_process() sends the FIN. The answer to a passive close does. An
 * abort does if __tcp_close() has set both shutdown bits.
 */
static __always_inline bool closed_by_process(const struct step *s)
{
	bool closing = s->sk->sk_shutdown == SHUTDOWN_MASK;

	switch (s->e.to) {
	case TCP_FIN_WAIT1:
		return s->e.from == TCP_SYN_RECV || (s->e.from == TCP_ESTABLISHED && !s->info->deferred_fin);
	case TCP_LAST_ACK:
		return s->e.from == TCP_CLOSE_WAIT;
	case TCP_CLOSE:
		if (s->e.from == TCP_LISTEN)
			return s->e.reason == REASON_CLOSED;
		return closing && (s->e.from == TCP_ESTABLISHED || s->e.from == TCP_SYN_SENT ||
				   s->e.from == TCP_CLOSE_WAIT);
	}
	return false;
}

/* All that was sent has been acknowledged, the FIN included. */
static __always_inline bool all_acknowledged(struct sock *sk)
{
	struct tcp_sock *tp = (struct tcp_sock *)sk;

	return BPF_CORE_READ(tp, snd_una) == BPF_CORE_READ(tp, write_seq);
}

/*
 * Has tcp_time_wait() closed it, in FIN_WAIT_2 or CLOSING? A TCP_LINGER2 of -1 asks
 * for no TIME_WAIT; and __tcp_close() aborts, for data that was not read or
 * SO_LINGER 0, while the process still has the socket.
 */
static __always_inline bool asked_for_time_wait(struct sock *sk, __u32 caller)
{
	if (BPF_CORE_READ((struct tcp_sock *)sk, linger2) < 0)
		return false;
	return caller == CALLER_STATE_PROCESS || !BPF_CORE_READ(sk, sk_socket);
}

static __always_inline __u8 listener_reason(__u32 caller, struct sock *sk)
{
	/* close() sets this before; neither an abort nor a listen() that fails does. */
	if (!n_callers && sk->sk_shutdown != SHUTDOWN_MASK)
		return REASON_KILLED;
	switch (caller) {
	case CALLER_ABORT:
		return REASON_DESTROYED;
	case CALLER_LISTEN: /* listen() failed */
		return REASON_ABORTED;
	}
	return REASON_CLOSED;
}

/* What sk_err says, if it has been set since the last transition. */
static __always_inline __u8 error_reason(__u32 caller, const struct step *s)
{
	switch (s->e.err) {
	case 0:
		return REASON_NONE;
	case ECONNREFUSED:
		return REASON_REFUSED;
	case ETIMEDOUT:
		return REASON_TIMED_OUT;
	case EHOSTUNREACH:
	case ENETUNREACH:
		return REASON_UNREACHABLE;
	case ECONNABORTED:
		return REASON_DESTROYED;
	case ECONNRESET:
	case EPIPE:
		/*
		 * Data that arrives after close() makes tcp_rcv_state_process()
		 * reset the connection itself; an RST comes by way of
		 * tcp_validate_incoming(). sk_err is the same.
		 */
		if (s->e.from == TCP_FIN_WAIT1 || s->e.from == TCP_FIN_WAIT2) {
			if (!n_callers)
				return REASON_KILLED;
			if (caller == CALLER_STATE_PROCESS)
				return REASON_RST_SENT;
		}
		return REASON_RESET;
	}
	return REASON_KILLED;
}

/*
 * Why a full socket closed, from what is set on it as the tracepoint fires. An
 * error can be left from an ICMP message that ended nothing (IP_RECVERR): where
 * something else shows why the socket closed, that counts.
 */
static __always_inline __u8 close_reason(void *ctx, const struct step *s)
{
	__u32 caller = CALLER_NONE;
	__u8 reason;

	/* Rare, as the hand-over to a minisock is no close, and that is as well: a stack costs microseconds. */
	if (s->e.from == TCP_LISTEN || s->e.from == TCP_FIN_WAIT1 || s->e.from == TCP_FIN_WAIT2 || s->e.from == TCP_CLOSING)
		caller = find_caller(ctx).caller;
	if (s->e.from == TCP_LISTEN)
		return listener_reason(caller, s->sk);
	if (s->e.from == TCP_LAST_ACK && all_acknowledged(s->sk))
		return REASON_CLOSED;
	if (s->sk->sk_shutdown == SHUTDOWN_MASK &&
	    (s->e.from == TCP_ESTABLISHED || s->e.from == TCP_CLOSE_WAIT))
		return REASON_ABORTED;

	reason = error_reason(caller, s);
	if (reason != REASON_NONE)
		return reason;

	switch (s->e.from) {
	case TCP_SYN_SENT:
		if (s->sk->sk_shutdown == SHUTDOWN_MASK)
			return REASON_CLOSED;
		return s->e.tuple.sport ? REASON_ABORTED : REASON_NO_PORT;
	case TCP_FIN_WAIT2:
	case TCP_CLOSING:
		if (!n_callers)
			return REASON_KILLED;
		/*
		 * An orphan whose FIN was acknowledged while a process had it
		 * locked gets no minisock, but tcp_fin_timeout all the same.
		 */
		if (s->e.from == TCP_FIN_WAIT2 && caller == CALLER_KEEPALIVE)
			return REASON_EXPIRED;
		if (asked_for_time_wait(s->sk, caller) && timewait_full(s->sk->__sk_common.skc_net.net))
			return REASON_TIMEWAIT_OVERFLOW;
	}
	return REASON_ABORTED;
}

static __always_inline __u8 step_reason(void *ctx, const struct step *s)
{
	if (s->e.to == TCP_CLOSE)
		return close_reason(ctx, s);
	if (s->e.to == TCP_CLOSE_WAIT || s->e.to == TCP_CLOSING)
		return REASON_FIN_RECEIVED;
	return REASON_NONE;
}

static __always_inline void name_owner(struct step *s)
{
	s->e.cookie = s->info->cookie;
	s->e.owner = s->info->owner;
	s->e.closer = s->info->closer;
	s->e.role = s->info->role;
}

/* The socket is counted as live under another state; 0: under none. */
static __always_inline void count_live(struct step *s, __u8 state)
{
	struct sock_info *info = s->info;
	__u32 was;

	if (state == TCP_CLOSE)
		state = 0;
	was = __sync_lock_test_and_set(&info->counted, state);
	if (!was && !state)
		return;
	if (split_by)
		name_owner(s);
	move_live(&s->e, was, state);
}

/* A SYN that was queued stays so until it is acknowledged. */
static __always_inline bool sent_syn(struct sock *sk)
{
	return BPF_CORE_READ((struct tcp_sock *)sk, packets_out) != 0;
}

static __always_inline void audit_of(const struct step *s)
{
	struct sock_info *info = s->info;

	if (!info->netns_slot)
		info->netns_slot = netns_slot(s->sk->__sk_common.skc_net.net);
	audit_step(info->netns_slot, s->e.from, s->e.to, s->e.from != TCP_SYN_SENT || sent_syn(s->sk), s->e.err != 0);
	if (s->e.reason == REASON_TIMEWAIT_OVERFLOW)
		audit_overflow(info->netns_slot);
}

static __always_inline void emit_step(struct step *s)
{
	const struct sock_info *info = s->info;
	struct event *e = &s->e;

	count(seen);
	if (info->verdict != VERDICT_PASS) {
		if (info->counted) /* its owner has been found since */
			count_live(s, 0);
		count(filtered);
		return;
	}
	if (stream || split_by)
		name_owner(s);
	if (!raw) {
		count_live(s, e->to);
		if (!transition_passes(e->from, e->to, e->since_ns, e->time_ns)) {
			count(filtered);
			return;
		}
		if (audit)
			audit_of(s);
	} else {
		e->owner.pid = current_process(e->owner.comm);
		e->flags = EVENT_RAW;
		e->cpu = bpf_get_smp_processor_id();
	}
	deliver(e);
}

/*
 * The first transition was put aside for what was not known then, and is now:
 * for a child its ends and its cookie, for a client its local port, if there is
 * a filter on it.
 */
static __always_inline void emit_opened(struct step *s)
{
	bool child = s->info->role == ROLE_SERVER;
	struct event *e = &s->e;
	__u16 sport = e->tuple.sport, err = e->err;
	__u8 from = e->from, to = e->to;
	__u64 now = e->time_ns;

	/* The stack has no room for two. */
	if (!child)
		e->tuple.sport = 0;
	e->err = 0;
	e->from = child ? TCP_LISTEN : TCP_CLOSE;
	e->to = child ? TCP_SYN_RECV : TCP_SYN_SENT;
	e->time_ns = s->info->opened_ns;
	emit_step(s);
	e->tuple.sport = sport;
	e->err = err;
	e->from = from;
	e->to = to;
	e->time_ns = now;
	s->info->opened_ns = 0;
}

/*
 * Until a3a128f611a9 ("inet: consolidate inet_csk_clone_lock()", 6.15) a child is
 * reported that has neither its peer nor its cookie: one that it is given now is
 * overwritten.
 */
static __always_inline bool half_made(const struct step *s)
{
	return s->e.from == TCP_LISTEN && s->e.to == TCP_SYN_RECV && !s->e.tuple.dport;
}

static __always_inline void read_step(struct step *s, __u64 now, struct sock *sk, int from, int to)
{
	struct event *e = &s->e;

	__builtin_memset(e, 0, sizeof(*e));
	s->sk = sk;
	e->time_ns = now;
	e->from = from;
	e->to = to;
	e->err = sk->sk_err != s->info->err ? sk->sk_err : 0;
	e->hook = HOOK_SET_STATE;
	if (stream || split_by || filters_connections())
		read_sock_tuple(&e->tuple, sk);
	else
		read_ports(&e->tuple, sk);
	if (to == TCP_CLOSE && !e->tuple.sport) {
		e->tuple.sport = kept_port(sk);
		if (from == TCP_SYN_SENT && e->tuple.sport == s->info->old_port)
			e->tuple.sport = 0;
	}
}

/* One of the socket's transitions is counted as lost. */
static __always_inline void lose(struct sock_info *info, struct sock *sk)
{
	if (!audit)
		return;
	if (!info->netns_slot)
		info->netns_slot = netns_slot(sk->__sk_common.skc_net.net);
	audit_lost(info->netns_slot);
}

/* Nothing is known of the life that the socket has begun since it was closed. */
static __always_inline void forget_life(struct sock_info *info)
{
	info->cookie = 0;
	info->opened_ns = 0;
	info->owner.pid = 0;
	info->closer.pid = 0;
	info->role = ROLE_UNKNOWN;
	info->verdict = VERDICT_NONE;
	info->deferred_fin = 0;
}

/*
 * A transition was missed in between: nobody saw s->e.from begin. A child has its
 * listener's state; if that is wrong, the listener's next transition tells.
 */
static __always_inline void check_continuity(struct step *s)
{
	struct sock_info *info = s->info;

	if (info->state == s->e.from)
		return;
	info->since_ns = 0;
	info->precision = PRECISION_UNKNOWN;
	if (info->state == TCP_CLOSE || (info->state && s->e.from == TCP_SYN_SENT))
		forget_life(info);
	if (info->state && !(s->e.from == TCP_LISTEN && s->e.to == TCP_SYN_RECV) && !raw) {
		count(seen);
		count(missed);
		lose(info, s->sk);
	}
}

/* The socket has left s->e.from: keep when, and what the minisock will need. */
static __always_inline void keep_step(struct step *s)
{
	s->info->since_ns = s->e.time_ns;
	s->info->err = s->sk->sk_err;
	s->info->precision = PRECISION_EXACT;
	if (s->e.to == TCP_FIN_WAIT2 || s->e.to == TCP_CLOSING)
		expect_minisock(s->info, s->info->cookie, s->e.tuple.netns, s->e.to);
}

/*
 * Is this FIN_WAIT_2 or CLOSING -> CLOSE the hand-over to a minisock? One whose
 * socket could not be followed, for want of room or because it has never been
 * seen before, cannot be found by its cookie: then an orderly end is taken for
 * the hand-over that it nearly always is, as a close must not be made up.
 */
static __always_inline bool hands_over(const struct step *s)
{
	if (s->e.to != TCP_CLOSE || (s->e.from != TCP_FIN_WAIT2 && s->e.from != TCP_CLOSING))
		return false;
	if (!s->info->untracked && hand_over(s->info->cookie))
		return true;
	if (s->e.err || (!s->info->untracked && s->info->since_ns))
		return false;
	if (s->info->untracked && !raw) {
		count(seen);
		count(map_full);
		lose(s->info, s->sk);
	}
	return true;
}

/* From here on the minisock is what is counted as live, if it can be followed. */
static __always_inline void stop_counting(struct step *s)
{
	if (s->info->untracked || !s->info->since_ns)
		count_live(s, 0);
	s->info->counted = 0;
}

/* The socket itself is closed; it may connect again. */
static __always_inline void keep_closed(const struct step *s)
{
	s->info->since_ns = s->e.time_ns;
	s->info->precision = PRECISION_EXACT;
	s->info->err = s->sk->sk_err;
}

static __always_inline void on_set_state(void *ctx, struct sock *sk, int from, int to)
{
	__u64 now = bpf_ktime_get_ns();
	struct sock_info *info;
	struct step s;

	if (sk->sk_protocol != IPPROTO_TCP) {
		count(seen);
		count(filtered);
		return;
	}

	/* close() after shutdown() sets the state that is set already (tcp_close_state()). */
	if (from == to && !raw)
		return;

	info = bpf_sk_storage_get(&sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!info) {
		count(seen);
		count(map_full);
		if (audit)
			audit_lost(netns_slot(sk->__sk_common.skc_net.net));
		return;
	}
	s.info = info;
	/* What it was before is not known, but it had a cookie then. */
	if (!info->state)
		info->handed_over = sk->__sk_common.skc_cookie.counter != 0;
	read_step(&s, now, sk, from, to);
	check_continuity(&s);
	info->state = to; /* from here on set_state_nested knows that this one is seen */

	if (from == TCP_CLOSE && (to == TCP_SYN_SENT || to == TCP_LISTEN))
		begin_life(&s);
	else if (from != TCP_LISTEN ? info->role == ROLE_LISTENER : to == TCP_SYN_RECV)
		begin_child(&s);
	if (!info->cookie)
		info->cookie = bpf_get_socket_cookie(sk);
	if (from == TCP_SYN_RECV && to == TCP_ESTABLISHED)
		info->deferred_fin = sk->sk_shutdown & SEND_SHUTDOWN;

	if (half_made(&s)) {
		info->verdict = VERDICT_UNDECIDED;
		info->cookie = 0;
	} else if (info->verdict == VERDICT_NONE || info->verdict == VERDICT_UNDECIDED)
		info->verdict = judge(&s.e.tuple, &info->owner, n_cgroups ? sk->sk_cgrp_data.cgroup : NULL,
				      to == TCP_SYN_SENT);

	if (hands_over(&s)) {
		if (raw)
			emit_step(&s);
		else
			stop_counting(&s);
		info->handed_over = 1;
		keep_closed(&s);
		return;
	}
	if (info->verdict == VERDICT_UNDECIDED) {
		info->opened_ns = now;
		keep_step(&s);
		return;
	}
	if (info->opened_ns)
		emit_opened(&s);

	s.e.reason = step_reason(ctx, &s);
	if (stream && closed_by_process(&s))
		info->closer.pid = calling_process(info->closer.comm);
	s.e.since_ns = info->since_ns;
	s.e.precision = info->since_ns ? info->precision : PRECISION_UNKNOWN;
	emit_step(&s);
	keep_step(&s);
}

#endif
