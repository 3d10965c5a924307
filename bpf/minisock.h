/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The life of a minisock: the small timewait socket that takes over from a full
 * socket in FIN_WAIT_2 or TIME_WAIT. inet_sock_set_state does not report it.
 * mini_armed(), mini_segment() and mini_ended() handle what happens to it, for
 * any set of hooks.
 *
 * Other CPUs can reach a minisock before its full socket has finished the hand-over.
 * So the record is written before the hand-over (hand_over_prepare()), the start of
 * TIME_WAIT is claimed with a cmpxchg, and whichever of hand-over and end comes
 * second deletes the record.
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

/* The address of tw_timer_handler(). */
const volatile __u64 tw_timer_handler;

/* The hooks see every re-arm, and count it there (on_twsk_schedule()). */
const volatile __u8 sees_rearms;

/* A program runs when a minisock answers with an RST (on_send_reset()). */
const volatile __u8 sees_resets;

/* When every hook was attached and every existing socket had been visited; 0: not yet. */
__u64 attached_ns;

/* The minisock that a hook fires for, as it is now. Read once per run of a program. */
struct mini {
	struct inet_timewait_sock *tw;
	struct sock_common *skc;	/* where its addresses and ports are read */
	__u64 cookie;
	__u64 expires;
	__u64 now;
	__u8 substate;		/* FIN_WAIT_2 or TIME_WAIT */
	__u8 hook;
	bool by_address;	/* the key of its record is its address */
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
 * The key is the cookie. It is the address if the minisock had no cookie when it was
 * found, or if its full socket lives on with the same cookie (hand_over_prepare()).
 * The result may be a record that no hook has seen the minisock of yet: then its
 * minisock is 0, and mini_begins() must follow. born: this is the birth. Otherwise the
 * record of a later life is not this minisock's.
 */
static __always_inline struct mini_info *find_mini(struct mini *m, bool born)
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
	return info && !info->minisock && (born || !(info->flags & MINI_LATER_LIFE)) ? info : NULL;
}

/* When the timer was last armed for TIME_WAIT, to the jiffy: computed from its expiry. */
static __always_inline __u64 armed_at(const struct mini *m)
{
	__s64 ago = (__s64)(bpf_jiffies64() - (m->expires - (__u64)TIMEWAIT_LEN * hz));

	return ago > 0 ? m->now - (__u64)ago * (1000000000ull / hz) : m->now;
}

/* True if the segment that is being dropped armed the timer, as a FIN does for TIME_WAIT. */
static __always_inline bool armed_just_now(const struct mini *m)
{
	return m->now - armed_at(m) <= 2 * (1000000000ull / hz);
}

/* Fills in what every event of this minisock has. */
static __always_inline void describe_mini(struct event *e, const struct mini *m, const struct mini_info *info)
{
	__builtin_memset(e, 0, sizeof(*e));
	if ((!stream && !split_by) || info->verdict != VERDICT_PASS)
		return;
	read_tuple(&e->tuple, m->skc);
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
	if (verdict == VERDICT_PASS && transition_passes(e) && handler_passes(e->cookie))
		deliver(e);
	else
		count(filtered);
}

/* TIME_WAIT begins. Several CPUs may see it: the cmpxchg lets one of them tell it. */
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
	if (at != m->now)
		e.flags |= EVENT_LATE;
	if (cmpxchg(&info->counted, info->from, TCP_TIME_WAIT) == info->from)
		tally_move(group_of(info), info->from, TCP_TIME_WAIT);
	emit_mini(&e, info->verdict);
	return 0;
}

/*
 * No hook saw the FIN. Its time is computed from the timer that it armed. That is
 * exact to the jiffy only, so a time before the start of the state becomes that start.
 */
static __always_inline void enter_time_wait_unseen(struct mini *m, struct mini_info *info)
{
	__u64 at = armed_at(m);

	enter_time_wait(m, info, at > info->since_ns ? at : info->since_ns, PRECISION_JIFFY);
}

/*
 * The first hook that sees the minisock of a full socket. born: at its birth. If it is
 * not, then no program was run for its birth.
 *
 * The live count goes from the one record to the other. If the record has only seen
 * FIN_WAIT_1, then no program was run for the next step, and what preceded TIME_WAIT is
 * not known: that transition is lost, too.
 *
 * moves: the timer is about to be armed again, so that its expiry is of before.
 */
static __own_frame int mini_begins(struct mini *m, struct mini_info *info, bool born, bool moves)
{
	struct sock_info *sock = find_socket_by(info->expires);
	bool waits = m->substate == TCP_TIME_WAIT;
	__u32 counted = 0;

	info->expires = moves ? 0 : m->expires; /* before minisock, for sweep_mini_slot() */
	if (cmpxchg(&info->minisock, 0, (__u64)m->tw))
		return 0;
	if (audit)
		audit_mini_born(info->netns_slot);
	/* After the hand-over a socket with this cookie is in a later life. */
	if (sock && (sock->cookie != m->cookie || info->flags & MINI_HANDED_OVER))
		sock = NULL;
	if (sock) {
		counted = xchg(&sock->counted, 0);
		info->counted = counted;
	}
	if (!born) {
		if (sock)
			drop_socket(sock);
		atomic_or(&info->flags, MINI_HANDED_OVER);
	}
	if (info->from != TCP_FIN_WAIT1)
		return 0;
	if (sock || born) { /* otherwise the next socket at that address has told it (start_life()) */
		note_missed(info->netns_slot, TCP_FIN_WAIT1, TCP_FIN_WAIT2);
		if (sock)
			sock->state = waits ? ANY_STATE : TCP_FIN_WAIT2;
	}
	info->from = TCP_FIN_WAIT2;
	info->since_ns = 0;
	info->precision = PRECISION_UNKNOWN;
	if (waits) {
		note_missed(info->netns_slot, TCP_FIN_WAIT2, TCP_TIME_WAIT);
		info->time_wait_precision = born ? PRECISION_EXACT : PRECISION_AT_LEAST;
		info->time_wait_ns = born || moves ? m->now : armed_at(m);
	}
	if (!counted)
		return 0;
	info->counted = m->substate;
	tally_move(group_of(info), counted, m->substate);
	return 0;
}

/*
 * A hook that is not the birth's has come to a minisock. Called before all else, and
 * with a copy: the verifier explores what follows once for each thing that it has
 * learnt of the fields here.
 */
static __own_frame int mini_seen(const struct mini *m, bool moves)
{
	struct mini copy = *m;
	struct mini_info *info = find_mini(&copy, false);

	if (info && !info->minisock)
		mini_begins(&copy, info, false, moves);
	return 0;
}

static __always_inline void note_rearm(struct mini_info *info)
{
	atomic_add(&info->rearms, 1);
	if (info->verdict == VERDICT_PASS && totals_on)
		tally_rearm();
}

/* Has the expiry of the timer changed? In TIME_WAIT that is a re-arm. */
static __always_inline void note_timer(const struct mini *m, struct mini_info *info, bool was_time_wait)
{
	__u64 before = info->expires;

	if (m->expires == before)
		return;
	if (sees_rearms) {
		info->expires = m->expires;
		return;
	}
	if (cmpxchg(&info->expires, before, m->expires) == before && before && was_time_wait)
		note_rearm(info);
}

static __always_inline __u32 mini_netns_slot(const struct mini *m)
{
	struct inet_timewait_sock *tw = m->tw;

	return netns_slot(BPF_CORE_READ(tw, __tw_common.skc_net.net));
}

/*
 * Adds a record for a minisock whose birth was not seen. Its owner is unknown.
 * since_ns: time found, or 0. Returns 0 or -errno.
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
	info.flags = MINI_HANDED_OVER;
	info.from = m->substate; /* not read once TIME_WAIT has begun */
	if (m->substate == TCP_TIME_WAIT) {
		info.time_wait_ns = armed_at(m);
		info.time_wait_precision = PRECISION_AT_LEAST;
	} else if (since_ns) {
		info.since_ns = since_ns;
		info.precision = PRECISION_AT_LEAST;
	}
	info.verdict = judge(&t, &info.owner, NULL, m->cookie, ROLE_UNKNOWN, false); /* the owner is empty */
	if (info.verdict == VERDICT_PASS)
		info.counted = m->substate;
	if (split_by)
		name_group(&info.group, &t, &info.owner, ROLE_UNKNOWN, m->cookie);
	info.netns_slot = mini_netns_slot(m);
	if (m->by_address)
		err = spill(addr, &info);
	else /* the record of another life may have this cookie */
		err = find_record(m->cookie) ? -EEXIST : add_record(m->cookie, &info, false);
	/* Meanwhile existing_mini() may have given it a cookie, and added a record under that. */
	if (!err && !m->cookie && BPF_CORE_READ(tw, __tw_common.skc_cookie.counter)) {
		drop_spilled(addr);
		return -EEXIST;
	}
	if (!err && info.counted)
		tally_move(&info.group, 0, info.counted);
	return err;
}

/* Until 6.16 DCCP had minisocks with the same timer. */
static __always_inline bool is_tcp_mini(struct inet_timewait_sock *tw)
{
	struct proto *prot = BPF_CORE_READ(tw, __tw_common.skc_prot);
	char name[4] = {};

	bpf_core_read(name, 3, &prot->name);
	return name[0] == 'T' && name[1] == 'C' && name[2] == 'P';
}

/* Deletes its record. The cookie may have the record of the socket's next life by now: that stays. */
static __always_inline void forget_mini(const struct mini *m, __u32 flags)
{
	__u64 addr = (__u64)m->tw;
	struct mini_info *kept = m->by_address ? NULL : find_record(m->cookie);

	if (kept && kept->minisock == addr)
		drop_record(kept, m->cookie);
	if (m->by_address || flags & MINI_ASIDE)
		drop_spilled(addr);
}

/*
 * A record was added for a minisock that may have ended meanwhile, on another CPU. Its
 * timer is not pending then, and its end has been told.
 */
static __own_frame int forget_ended(struct mini *m)
{
	struct inet_timewait_sock *tw = m->tw;
	struct mini_info *info;
	__u32 counted;

	if (BPF_CORE_READ(tw, tw_timer.entry.pprev))
		return 0;
	info = find_mini(m, false);
	if (!info || info->minisock != (__u64)tw || atomic_or(&info->flags, MINI_ENDED) & MINI_ENDED)
		return 0;
	counted = xchg(&info->counted, 0);
	if (counted)
		tally_move(group_of(info), counted, 0);
	forget_mini(m, 0);
	return 0;
}

/* A timer was started for a minisock without a record. */
static __always_inline void mini_found(struct mini *m, bool birth)
{
	long found;

	if (!is_tcp_mini(m->tw))
		return;
	found = add_found(m, 0);
	if (!found && !birth)
		forget_ended(m);
	/* If it has a cookie, there was no room for its full socket either: hand_over_taken() counts that. */
	if (found < 0 && found != -EEXIST && !m->cookie && !raw) {
		count(seen);
		count(map_full);
		if (audit)
			audit_lost(mini_netns_slot(m));
	}
	if (!found && audit && birth && attached_ns)
		audit_mini_born(mini_netns_slot(m));
}

/*
 * A timewait timer was started: at the birth of the minisock, or as a re-arm.
 * birth: without a record, take it for a birth.
 */
static __always_inline void mini_armed(struct mini *m, bool birth)
{
	struct mini_info *info = find_mini(m, birth);

	if (!info) {
		mini_found(m, birth);
		return;
	}
	if (!info->minisock) {
		mini_begins(m, info, birth, false);
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

/*
 * Was the minisock born after the programs were attached? Its timer was armed for 60 s
 * at the most (tcp_time_wait()), so it was not armed before armed_at(), to the jiffy.
 */
static __always_inline bool surely_younger(const struct mini *m)
{
	return attached_ns && armed_at(m) > attached_ns + 1000000000ull / hz;
}

/*
 * Has the end of this minisock just been told, on another CPU? Its timer is still pending
 * then: the program for its end runs before the kernel takes it off. A slot that is given
 * back keeps what was in it.
 */
static __always_inline bool just_ended(const struct mini *m)
{
	struct mini_info *slot = mini_in(mini_slot(m->cookie));

	return slot && !slot->cookie && slot->minisock == (__u64)m->tw && slot->flags & MINI_TOLD;
}

/*
 * A segment has met a minisock without a record: no program was run for its birth, nor
 * for the steps before. The segment may also have ended it, and its memory may be used
 * again already: then its timer is not pending.
 */
static __own_frame int mini_overlooked(struct mini *m)
{
	struct inet_timewait_sock *tw = m->tw;

	if (!attached_ns || minisocks_full || just_ended(m) || !BPF_CORE_READ(tw, tw_timer.entry.pprev))
		return 0;
	if (m->substate != TCP_FIN_WAIT2 && m->substate != TCP_TIME_WAIT)
		return 0;
	if (surely_younger(m) && is_tcp_mini(tw))
		note_missed(mini_netns_slot(m), 0, m->substate);
	mini_found(m, false);
	return 0;
}

/* The minisock has handled a segment, which is dropped now. */
static __always_inline void mini_segment(struct mini *m)
{
	struct mini_info *info;

	mini_seen(m, false);
	info = find_mini(m, false);
	if (!info) {
		mini_overlooked(m);
		return;
	}
	/* The record may be of an earlier minisock at this address. */
	if (info->minisock != (__u64)m->tw || info->flags & MINI_ENDED)
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
 * The timer moves to another slot of the timer wheel. An earlier re-arm within the
 * same wheel slot fires no tracepoint; if there was one, the FIN arrived before
 * this segment.
 */
static __own_frame int mini_moves(struct mini *m)
{
	struct mini_info *info = find_mini(m, false);

	if (!info || !info->minisock || !info->expires || m->expires == info->expires)
		return 0; /* an expiry of 0: mini_begins() has just found it */
	if (m->substate == TCP_TIME_WAIT && !info->time_wait_ns) {
		enter_time_wait_unseen(m, info);
		info->expires = m->expires;
		return 0;
	}
	note_timer(m, info, info->time_wait_ns != 0);
	return 0;
}

/* Tells the end of a minisock, which is not live from now on. */
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
	e.detail = info->answered;
	if (waited)
		e.rearms = info->rearms;
	emit_mini(&e, info->verdict);
	forget_handler(m->cookie);
	counted = xchg(&info->counted, 0);
	if (counted)
		tally_move(group_of(info), counted, 0);
	return 0;
}

/*
 * tcp_v4_rcv() ends a minisock for two reasons, after it has let go of it. If a FIN on
 * another CPU comes between, FIN_WAIT_2 has become TIME_WAIT: the RST tells the two apart.
 * Where no program sees that, or if the RST may be older than the record, the reason is
 * not known if the timer was armed just now. info: NULL without a record.
 */
static __always_inline __u8 settle_reason(const struct mini *m, const struct mini_info *info, __u8 reason)
{
	bool sure = sees_resets && info && info->time_wait_precision != PRECISION_AT_LEAST;

	if (sees_resets && info && info->answered)
		return REASON_RST_SENT;
	return reason == REASON_RECYCLED && !sure && armed_just_now(m) ? REASON_KILLED : reason;
}

/*
 * The end of a minisock without a record: its birth was missed, or the map was full.
 * A full map has been counted already.
 */
static __own_frame int found_ended(struct mini *m, __u8 reason)
{
	bool waited = m->substate == TCP_TIME_WAIT;
	struct event e = {};
	__u8 verdict;

	if (raw)
		return 0;
	read_tuple(&e.tuple, m->skc);
	verdict = judge(&e.tuple, &e.owner, NULL, m->cookie, ROLE_UNKNOWN, false);
	e.cookie = m->cookie;
	e.from = waited ? TCP_TIME_WAIT : TCP_FIN_WAIT2;
	e.to = TCP_CLOSE;
	e.time_ns = m->now;
	if (waited) {
		e.since_ns = armed_at(m);
		e.precision = PRECISION_AT_LEAST;
	}
	e.reason = settle_reason(m, NULL, reason);
	e.flags = EVENT_MINISOCK;
	e.hook = m->hook;
	if (surely_younger(m) && !minisocks_full)
		note_missed(mini_netns_slot(m), 0, m->substate);
	emit_mini(&e, verdict);
	return 0;
}

static __own_frame int mini_ended(struct mini *m, __u8 reason)
{
	struct inet_timewait_sock *tw = m->tw;
	struct mini_info *info;
	__u32 flags;

	if (skip_netns && is_skipped(BPF_CORE_READ(tw, __tw_common.skc_net.net), m->substate, TCP_CLOSE))
		return 0;
	info = find_mini(m, false);
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
	reason = settle_reason(m, info, reason);
	tell_end(m, info, reason);
	if (audit)
		audit_mini_gone(info->netns_slot, reason, true);
	/* The record may be freed from here on: a hand-over on another CPU deletes it once MINI_TOLD is set. */
	flags = atomic_or(&info->flags, MINI_TOLD);
	if (flags & MINI_HANDED_OVER)
		forget_mini(m, flags);
	return 0;
}

static __own_frame int emit_raw_mini(struct mini *m)
{
	struct mini_info *info = find_mini(m, false);
	struct owner nobody = {};
	struct event e = {};

	count(seen);
	read_tuple(&e.tuple, m->skc);
	if ((info ? info->verdict : judge(&e.tuple, &nobody, NULL, m->cookie, ROLE_UNKNOWN, false)) != VERDICT_PASS) {
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
