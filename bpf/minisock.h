/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The life of a minisock: the small timewait socket that takes over from a
 * full one in FIN_WAIT_2 or TIME_WAIT, and that inet_sock_set_state never
 * speaks of. mini_armed(), mini_segment() and mini_ended() are what happens to
 * it; they do not care which hook saw it.
 *
 * A minisock is reachable from other CPUs before its full socket is done with
 * the hand-over. So everything about the socket is put into the map before
 * (hand_over_prepare), the start of TIME_WAIT is claimed with a compare-and-swap,
 * and the entry is deleted by whichever of hand-over and end comes second.
 */
#ifndef FINWAIT_MINISOCK_H
#define FINWAIT_MINISOCK_H

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

/* Ticks per second, and the address of tw_timer_handler(). */
const volatile __u32 hz = 250;
const volatile __u64 tw_timer_handler;

/* The hooks in use see each re-arm of a timer, and count it (on_twsk_schedule()). */
const volatile __u8 sees_rearms;

/* When every hook was attached and every older socket had been visited; 0: not yet. */
__u64 attached_ns;

/* A minisock as it is now, read once per hook. */
struct mini {
	struct inet_timewait_sock *tw;
	struct sock_common *skc;	/* where addresses and ports are read */
	__u64 cookie;
	__u64 expires;
	__u64 now;
	__u8 substate;		/* FIN_WAIT_2 or TIME_WAIT */
	__u8 hook;
	bool by_address;	/* its record is */
};

static __always_inline void read_mini(struct mini *m, struct inet_timewait_sock *tw, __u8 hook)
{
	m->tw = tw;
	m->skc = &tw->__tw_common;
	m->cookie = CORE_LOAD(struct inet_timewait_sock, tw, __tw_common.skc_cookie.counter);
	m->by_address = !m->cookie;
	m->expires = CORE_LOAD(struct inet_timewait_sock, tw, tw_timer.expires);
	m->substate = CORE_LOAD(struct inet_timewait_sock, tw, tw_substate);
	m->now = bpf_ktime_get_ns();
	m->hook = hook;
}

/*
 * By cookie; by address where the minisock had none when it was found, or where
 * its socket lives on with its cookie (hand_over_prepare()). What comes back may be
 * the record of a full socket that is yet to become this minisock.
 */
static __always_inline struct mini_info *find_mini(struct mini *m)
{
	struct mini_info *info = m->cookie ? find_record(m->cookie) : NULL;
	__u64 addr = (__u64)m->tw;
	struct mini_info *by_address;

	if (info && info->minisock == addr)
		return info;
	by_address = find_spilled(addr);
	if (by_address) {
		m->by_address = true;
		return by_address;
	}
	return info && !info->minisock ? info : NULL;
}

/* When the timer was last armed for TIME_WAIT, to the jiffy. */
static __always_inline __u64 armed_at(const struct mini *m)
{
	__s64 ago = (__s64)(bpf_jiffies64() - (m->expires - (__u64)TIMEWAIT_LEN * hz));

	return ago > 0 ? m->now - (__u64)ago * (1000000000ull / hz) : m->now;
}

/* By the segment that is being dropped: a FIN arms the timer for TIME_WAIT. */
static __always_inline bool armed_just_now(const struct mini *m)
{
	return m->now - armed_at(m) <= 2 * (1000000000ull / hz);
}

/* What an event says of the minisock, whatever it is that happens to it. */
static __always_inline void describe_mini(struct event *e, const struct mini *m, const struct mini_info *info)
{
	__builtin_memset(e, 0, sizeof(*e));
	if ((!stream && !split_by) || info->verdict != VERDICT_PASS)
		return;
	read_ends(&e->tuple, m->skc);
	e->tuple.netns = info->netns;
	e->cookie = m->cookie;
	if (owners) {
		e->owner = info->owner;
		e->closer = info->closer;
	}
	e->role = info->role;
	e->flags = EVENT_MINISOCK;
	e->hook = m->hook;
}

static __always_inline void emit_mini(struct event *e, __u8 verdict)
{
	if (raw)
		return;
	count(seen);
	if (verdict == VERDICT_PASS && transition_passes(e->from, e->to, e->since_ns, e->time_ns))
		deliver(e);
	else
		count(filtered);
}

/* TIME_WAIT begins. Several CPUs may see it; one claims it. */
static __own_frame int enter_time_wait(struct mini *m, struct mini_info *info, __u64 at, __u8 precision)
{
	struct event e;

	if (cmpxchg(&info->time_wait_ns, 0, at))
		return 0;
	info->time_wait_precision = precision;
	describe_mini(&e, m, info);
	e.from = info->from;
	e.to = TCP_TIME_WAIT;
	e.time_ns = at;
	e.since_ns = info->since_ns;
	e.precision = !e.since_ns ? PRECISION_UNKNOWN : info->precision == PRECISION_EXACT ? precision : info->precision;
	e.reason = time_wait_reason(e.from);
	if (cmpxchg(&info->counted, info->from, TCP_TIME_WAIT) == info->from)
		tally_move(&e, info->from, TCP_TIME_WAIT);
	emit_mini(&e, info->verdict);
	return 0;
}

/*
 * The FIN came unseen: its time is worked out from the timer that it armed. A
 * jiffy is coarse, and must not lie before the state that it ended.
 */
static __always_inline void enter_time_wait_unseen(struct mini *m, struct mini_info *info)
{
	__u64 at = armed_at(m);

	enter_time_wait(m, info, at > info->since_ns ? at : info->since_ns, PRECISION_JIFFY);
}

static __always_inline void note_rearm(struct mini_info *info)
{
	atomic_add(&info->rearms, 1);
	if (info->verdict == VERDICT_PASS && totals_on)
		tally_rearm();
}

/* The timer expires at another moment than before: in TIME_WAIT, a re-arm. */
static __always_inline void note_timer(const struct mini *m, struct mini_info *info, bool was_time_wait)
{
	__u64 before = info->expires;

	if (sees_rearms || m->expires == before)
		return;
	if (cmpxchg(&info->expires, before, m->expires) == before && was_time_wait)
		note_rearm(info);
}

static __always_inline __u32 mini_netns_slot(const struct mini *m)
{
	struct inet_timewait_sock *tw = m->tw;

	return netns_slot(BPF_CORE_READ(tw, __tw_common.skc_net.net));
}

/*
 * Puts one into the map whose birth was not seen, with what can be known of it:
 * that is not who owns it. since_ns: when it was found, if that is of use. 1 if
 * it passes the filters, 0 if not, or an errno less than 0.
 */
static __own_frame long add_found(struct mini *m, __u64 since_ns)
{
	struct inet_timewait_sock *tw = m->tw;
	__u64 addr = (__u64)tw;
	struct mini_info info = {};
	struct tuple t;
	long err;

	read_tuple(&t, m->skc);
	info.minisock = addr;
	info.expires = m->expires;
	info.netns = t.netns;
	info.flags = MINI_HANDED_OVER;
	info.from = TCP_FIN_WAIT2;
	if (m->substate == TCP_TIME_WAIT) {
		info.time_wait_ns = armed_at(m);
		info.time_wait_precision = PRECISION_AT_LEAST;
	} else if (since_ns) {
		info.since_ns = since_ns;
		info.precision = PRECISION_AT_LEAST;
	}
	info.verdict = judge(&t, &info.owner, NULL, false); /* nobody */
	if (info.verdict == VERDICT_PASS)
		info.counted = m->substate;
	info.netns_slot = mini_netns_slot(m);
	if (m->by_address)
		err = spill(addr, &info);
	else /* another life's may be there */
		err = find_record(m->cookie) ? -EEXIST : add_record(m->cookie, &info, false);
	/* It has been visited meanwhile (existing_mini()), and is known by the cookie that it was given. */
	if (!err && !m->cookie && BPF_CORE_READ(tw, __tw_common.skc_cookie.counter)) {
		drop_spilled(addr);
		return -EEXIST;
	}
	return err ?: info.verdict == VERDICT_PASS;
}

/* One that nothing is known of is counted as live under another state; 0: it came, or went. */
static __own_frame int tally_found(struct mini *m, __u32 from, __u32 to)
{
	struct event e = {};

	if (!totals_on)
		return 0;
	if (split_by)
		read_tuple(&e.tuple, m->skc);
	tally_move(&e, from, to);
	return 0;
}

/* DCCP had minisocks with the same timer until 6.16. */
static __always_inline bool is_tcp_mini(struct inet_timewait_sock *tw)
{
	struct proto *prot = BPF_CORE_READ(tw, __tw_common.skc_prot);
	char name[4] = {};

	bpf_core_read(name, 3, &prot->name);
	return name[0] == 'T' && name[1] == 'C' && name[2] == 'P';
}

/* A timer of one that there is no record of. */
static __always_inline void mini_found(struct mini *m, bool birth)
{
	long found;

	if (!is_tcp_mini(m->tw))
		return;
	found = add_found(m, 0);
	if (found > 0)
		tally_found(m, 0, m->substate);
	/* One with a cookie is of a socket that there was no room for either: hand_over_taken() counts it. */
	if (found < 0 && found != -EEXIST && !m->cookie && !raw) {
		count(seen);
		count(map_full);
		if (audit)
			audit_lost(mini_netns_slot(m));
	}
	if (found >= 0 && audit && birth && attached_ns)
		audit_mini_born(mini_netns_slot(m));
}

/*
 * A timewait timer was started: the minisock's first breath, or a re-arm. birth:
 * without a record of it, it is the former.
 */
static __always_inline void mini_armed(struct mini *m, bool birth)
{
	struct mini_info *info = find_mini(m);

	if (!info) {
		mini_found(m, birth);
		return;
	}
	if (!info->minisock) {
		info->minisock = (__u64)m->tw;
		info->expires = m->expires;
		if (audit)
			audit_mini_born(info->netns_slot);
		if (m->substate == TCP_TIME_WAIT)
			enter_time_wait(m, info, m->now, PRECISION_EXACT);
		return;
	}
	if (m->substate == TCP_TIME_WAIT && !info->time_wait_ns) {
		info->expires = m->expires;
		enter_time_wait(m, info, m->now, PRECISION_EXACT);
		return;
	}
	note_timer(m, info, m->substate == TCP_TIME_WAIT);
}

/* A segment met the minisock and was dropped after it was dealt with. */
static __always_inline void mini_segment(struct mini *m)
{
	struct mini_info *info = find_mini(m);

	/* The address of a freed minisock may have been given to another. */
	if (!info || info->minisock != (__u64)m->tw || info->flags & MINI_ENDED)
		return;
	if (m->substate == TCP_TIME_WAIT && !info->time_wait_ns) {
		info->expires = m->expires;
		if (armed_just_now(m))
			enter_time_wait(m, info, m->now, PRECISION_EXACT);
		else
			enter_time_wait_unseen(m, info);
		return;
	}
	note_timer(m, info, info->time_wait_ns != 0);
}

/*
 * The timer is moved to another slot of the wheel. It may have been moved within
 * its slot before, which no hook tells: then the FIN came before this segment.
 */
static __own_frame int mini_moves(struct mini *m)
{
	struct mini_info *info = find_mini(m);

	if (!info || !info->minisock || m->expires == info->expires)
		return 0;
	if (m->substate == TCP_TIME_WAIT && !info->time_wait_ns) {
		enter_time_wait_unseen(m, info);
		info->expires = m->expires;
		return 0;
	}
	note_timer(m, info, info->time_wait_ns != 0);
	return 0;
}

/* The minisock is gone: from now on it is not live. */
static __own_frame int tell_end(struct mini *m, struct mini_info *info, __u8 reason)
{
	bool waited = info->time_wait_ns != 0;
	__u32 counted;
	struct event e;

	describe_mini(&e, m, info);
	e.from = waited ? TCP_TIME_WAIT : info->from;
	e.to = TCP_CLOSE;
	e.time_ns = m->now;
	e.since_ns = waited ? info->time_wait_ns : info->since_ns;
	if (e.since_ns)
		e.precision = waited ? info->time_wait_precision : info->precision;
	e.reason = reason;
	if (waited)
		e.rearms = info->rearms;
	emit_mini(&e, info->verdict);
	counted = xchg(&info->counted, 0);
	if (counted)
		tally_move(&e, counted, 0);
	return 0;
}

/*
 * The end of one that there is no record of. It came to be unseen; where there
 * was no room for it, that has been counted.
 */
static __own_frame int found_ended(struct mini *m, __u8 reason)
{
	bool waited = m->substate == TCP_TIME_WAIT;
	struct event e = {};
	__u8 verdict;

	if (raw)
		return 0;
	read_tuple(&e.tuple, m->skc);
	verdict = judge(&e.tuple, &e.owner, NULL, false);
	e.cookie = m->cookie;
	e.from = waited ? TCP_TIME_WAIT : TCP_FIN_WAIT2;
	e.to = TCP_CLOSE;
	e.time_ns = m->now;
	if (waited) {
		e.since_ns = armed_at(m);
		e.precision = PRECISION_AT_LEAST;
	}
	e.reason = reason;
	e.flags = EVENT_MINISOCK;
	e.hook = m->hook;
	if (waited && attached_ns && e.since_ns > attached_ns && !minisocks_full) {
		count(seen);
		count(missed);
		if (audit)
			audit_lost(mini_netns_slot(m));
	}
	emit_mini(&e, verdict);
	return 0;
}

/* Under its cookie there may be the record of its socket's new life by now. */
static __always_inline void forget_mini(const struct mini *m, __u32 flags)
{
	__u64 addr = (__u64)m->tw;
	struct mini_info *kept = m->by_address ? NULL : find_record(m->cookie);

	if (kept && kept->minisock == addr)
		drop_record(kept, m->cookie);
	if (m->by_address || flags & MINI_ASIDE)
		drop_spilled(addr);
}

static __own_frame int mini_ended(struct mini *m, __u8 reason)
{
	struct mini_info *info = find_mini(m);
	__u32 flags;

	if (!info || info->minisock != (__u64)m->tw) {
		if (!is_tcp_mini(m->tw))
			return 0;
		found_ended(m, reason);
		if (audit)
			audit_mini_gone(mini_netns_slot(m), reason, false);
		return 0;
	}
	flags = atomic_or(&info->flags, MINI_ENDED);
	if (flags & MINI_ENDED)
		return 0;
	if (m->substate == TCP_TIME_WAIT && !info->time_wait_ns)
		enter_time_wait_unseen(m, info);
	else
		note_timer(m, info, info->time_wait_ns != 0);
	tell_end(m, info, reason);
	if (audit)
		audit_mini_gone(info->netns_slot, reason, true);
	/* Until here the record is in use: a hand-over that comes now deletes it, and its memory is another's. */
	flags = atomic_or(&info->flags, MINI_TOLD);
	if (flags & MINI_HANDED_OVER)
		forget_mini(m, flags);
	return 0;
}

static __own_frame int emit_raw_mini(struct mini *m)
{
	struct mini_info *info = find_mini(m);
	struct owner nobody = {};
	struct event e = {};

	count(seen);
	read_tuple(&e.tuple, m->skc);
	if ((info ? info->verdict : judge(&e.tuple, &nobody, NULL, false)) != VERDICT_PASS) {
		count(filtered);
		return 0;
	}
	e.time_ns = m->now;
	e.cookie = m->cookie;
	e.minisock = (__u64)m->tw;
	e.owner.pid = current_process(e.owner.comm);
	e.from = m->substate;
	e.flags = EVENT_MINISOCK;
	e.hook = m->hook;
	e.cpu = bpf_get_smp_processor_id();
	e.timer_left = (__s32)(m->expires - bpf_jiffies64());
	deliver(&e);
	return 0;
}

#endif
