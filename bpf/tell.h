/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The event of a full socket: who, why, since when; told now, or deferred until more is known. */
#ifndef FINWAIT_TELL_H
#define FINWAIT_TELL_H

#include "kernel.h"
#include "event.h"
#include "maps.h"
#include "filter.h"
#include "identity.h"
#include "tally.h"
#include "audit.h"
#include "output.h"
#include "reason.h"

static __always_inline void name_owner(struct event *e, const struct sock_info *info)
{
	e->cookie = info->cookie;
	e->owner = info->owner;
	e->closer = info->closer;
	e->role = info->role;
}

/* Another listener has the child now, and perhaps another process. */
static __always_inline void forget_owner(struct sock_info *info)
{
	info->listener_gone = 0;
	info->owner = (struct owner){};
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
	if (!split_by || was)
		tally_move_inlined(&info->group, was, split_by ? 0 : state); /* a call is a tenth of what it costs */
	if (split_by && state) { /* the group may be another one now */
		name_owner(e, info);
		name_group(&info->group, &e->tuple, &e->owner, e->role, e->cookie);
		tally_move(&info->group, 0, state);
	}
}

/* How a full socket closed, for the audit. */
enum how {
	SENT_NO_SYN	= 1 << 0,
	FAILED		= 1 << 1,	/* sk_err was set: tcp_done() has ended it */
};

static __always_inline int emit_step_inlined(struct sock_info *info, struct event *e, __u32 how)
{
	count(seen);
	if (info->verdict != VERDICT_PASS) {
		if (info->counted) /* the filters have been asked again, with an owner */
			tally_live(info, e, 0);
		count(filtered);
		return 0;
	}
	if (info->listener_gone && e->detail != DETAIL_LISTENER_CLOSED)
		forget_owner(info);
	if (stream || split_by)
		name_owner(e, info);
	if (!raw) {
		tally_live(info, e, e->to);
		if (!transition_passes(e) || !handler_passes(e->cookie)) {
			count(filtered);
			return 0;
		}
		if (audit) {
			audit_step(info->netns_slot, e->from, e->to, !(how & SENT_NO_SYN), how & FAILED);
			if (e->reason == REASON_TIME_WAIT_OVERFLOW)
				audit_overflow(info->netns_slot);
		}
	} else if (e->flags & EVENT_LATE && info->role != ROLE_SERVER) {
		e->cpu = info->deferred_cpu; /* the owner called connect() or listen() there */
	} else { /* of a child that was half made, this is the same softirq */
		e->owner.pid = current_process(e->owner.comm);
		e->cpu = bpf_get_smp_processor_id();
	}
	deliver_inlined(e);
	return 0;
}

__verified_once int emit_step(struct sock_info *info, struct event *e, __u32 how)
{
	return info && e ? emit_step_inlined(info, e, how) : 0;
}

static long await_settled(__u32 turn, struct sock_info **info)
{
	return *(volatile __u64 *)&(*info)->deferred_ns != SETTLING;
}

/*
 * The time of a first transition whose event this program has to send now; 0: there is
 * none. If another CPU is sending it (sweep.h), this waits, so that the events stay in
 * order. A softirq that has interrupted that program waits in vain: hence the bound.
 */
__verified_once __u64 take_deferred(struct sock_info *info)
{
	__u64 at;

	if (!info)
		return 0;
	at = *(volatile __u64 *)&info->deferred_ns;
	if (at > SETTLING && cmpxchg(&info->deferred_ns, at, 0) == at)
		return at;
	loop_until(1000, await_settled, &info);
	return 0;
}

/*
 * The first transition was deferred until more is known: for a child its addresses
 * and its cookie, for a client or a listener its local port if something asks for
 * that. Its event is sent now. at: its time.
 */
__verified_once int emit_deferred(struct sock_info *info, struct event *e, __u64 at)
{
	__u16 sport, err;
	__u8 from, to;
	__u64 now;
	__u8 role;

	if (!info || !e)
		return 0;
	role = info->role;
	sport = e->tuple.sport;
	err = e->err;
	from = e->from;
	to = e->to;
	now = e->time_ns;
	/* The stack has no room for a second event: this one is changed, and changed back. */
	if (role == ROLE_CLIENT)
		e->tuple.sport = 0;
	e->err = 0;
	e->from = role == ROLE_SERVER ? TCP_LISTEN : TCP_CLOSE;
	e->to = role == ROLE_SERVER ? TCP_SYN_RECV : role == ROLE_LISTENER ? TCP_LISTEN : TCP_SYN_SENT;
	e->time_ns = at;
	e->flags = EVENT_LATE;
	emit_step(info, e, 0);
	e->flags = 0;
	e->tuple.sport = sport;
	e->err = err;
	e->from = from;
	e->to = to;
	e->time_ns = now;
	return 0;
}

/* Before the event of the next transition. */
__verified_once int tell_deferred(struct sock_info *info, struct event *e)
{
	__u64 at = take_deferred(info);

	return at ? emit_deferred(info, e, at) : 0;
}

/* Adds who closed the socket, and since when it was in the state that it leaves. */
static __always_inline void tell_step(struct sock_info *info, struct event *e, __u32 caller, __u32 how)
{
	if (stream && closed_by_process(e, caller, info->deferred_fin))
		info->closer.pid = calling_process(info->closer.comm);
	e->since_ns = info->since_ns;
	e->precision = info->since_ns ? info->precision : PRECISION_UNKNOWN;
	emit_step_inlined(info, e, how);
}

__verified_once int tell_move(struct sock_info *info, struct event *e)
{
	if (!info || !e)
		return 0;
	e->reason = move_reason(e);
	if (!raw)
		e->err = 0; /* an error that ended nothing */
	tell_step(info, e, CALLER_UNKNOWN, 0);
	return 0;
}

__verified_once int tell_close(struct sock_info *info, struct event *e, struct facts *f)
{
	struct why why;

	if (!info || !e || !f)
		return 0;
	why = close_why(e, f, info->since_ns ? e->time_ns - info->since_ns : 0);
	e->reason = why.reason;
	e->detail = why.detail;
	if (!raw)
		e->err = why.err;
	if (e->reason == REASON_TIMED_OUT || e->reason == REASON_UNREACHABLE || e->reason == REASON_GIVEN_UP)
		e->retransmits = f->retransmits > f->probes ? f->retransmits : f->probes;
	tell_step(info, e, f->caller, (f->sent_syn ? 0 : SENT_NO_SYN) | (f->err ? FAILED : 0));
	/* tcp_send_active_reset() takes the next number. */
	if (rst_senders_on && has_sent_rst(e)) {
		struct tcp_sock *tp = (struct tcp_sock *)e->minisock;
		__u32 seq = BPF_CORE_READ(tp, snd_nxt);

		if (info->closer.pid)
			note_rst(&e->tuple, seq, 0, RST_END_SOCKET, info->closer.pid, info->closer.comm);
		else
			note_rst(&e->tuple, seq, 0, RST_END_SOCKET, info->owner.pid, info->owner.comm);
	}
	return 0;
}

#endif
