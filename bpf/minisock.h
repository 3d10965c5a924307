/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The life of a minisock: the small timewait socket that takes over from a
 * full one in FIN_WAIT_2 or TIME_WAIT, and that inet_sock_set_state never
 * speaks of. mini_armed(), mini_segment() and mini_ended() are what happens to
 * it; they do not care which hook saw it.
 *
 * A minisock is reachable from other CPUs before its full socket is done with
 * the hand-over. So everything about the socket is put into the map before
 * (expect_minisock), the start of TIME_WAIT is claimed with a compare-and-swap,
 * and the entry is deleted by whichever of hand-over and end comes second.
 */
#ifndef FINWAIT_MINISOCK_H
#define FINWAIT_MINISOCK_H

#include "kernel.h"
#include "compat.h"
#include "maps.h"
#include "filter.h"
#include "identity.h"
#include "netns.h"
#include "tally.h"
#include "unwind.h"

/* Ticks per second, and the address of tw_timer_handler(). */
const volatile __u32 hz = 250;
const volatile __u64 tw_timer_handler;

/* The fentry hooks are in use (minisock_fentry.h), not the tracepoints. */
const volatile __u8 fentry;

/* When every hook was attached and every older socket had been visited; 0: not yet. */
__u64 attached_ns;

/* A minisock as it is now, read once per hook. */
struct mini {
	struct inet_timewait_sock *tw;
	struct sock_common *skc;	/* where addresses and ports are read */
	__u64 key;		/* into minisocks */
	__u64 cookie;
	__u64 expires;
	__u64 now;
	__u8 substate;		/* FIN_WAIT_2 or TIME_WAIT */
	__u8 hook;
};

static __always_inline void read_mini(struct mini *m, struct inet_timewait_sock *tw, __u8 hook)
{
	m->tw = tw;
	m->skc = &tw->__tw_common;
	m->cookie = BPF_CORE_READ(tw, __tw_common.skc_cookie.counter);
	m->key = m->cookie ?: (__u64)tw;
	m->expires = BPF_CORE_READ(tw, tw_timer.expires);
	m->substate = BPF_CORE_READ(tw, tw_substate);
	m->now = bpf_ktime_get_ns();
	m->hook = hook;
}

/*
 * By cookie; by address where the minisock had none when it was found, or where
 * its socket lives on with its cookie (expect_minisock()). What comes back may be
 * the record of a full socket that is yet to become this minisock.
 */
static __always_inline struct mini_info *find_mini(struct mini *m)
{
	struct mini_info *info = bpf_map_lookup_elem(&minisocks, &m->key);
	__u64 addr = (__u64)m->tw;
	struct mini_info *by_addr;

	if (info && info->minisock == addr)
		return info;
	by_addr = bpf_map_lookup_elem(&minisocks, &addr);
	if (by_addr) {
		m->key = addr;
		return by_addr;
	}
	return info && !info->minisock ? info : NULL;
}

/* When the timer was last armed for TIME_WAIT, to the jiffy. */
static __always_inline __u64 armed_at(const struct mini *m)
{
	__s64 ago = (__s64)(bpf_jiffies64() - (m->expires - (__u64)TIMEWAIT_LEN * hz));

	return ago > 0 ? m->now - (__u64)ago * (1000000000ull / hz) : m->now;
}

static __always_inline void emit_mini(const struct mini *m, const struct mini_info *info,
				      __u8 from, __u8 to, __u64 time_ns, __u64 since_ns,
				      __u8 precision, __u8 reason)
{
	struct event *e;
	struct tuple t;
	struct subject who = { &t, &info->owner, info->netns, info->role };

	if (raw)
		return;
	count(seen);
	if (info->verdict != VERDICT_PASS || !transition_passes(from, to, since_ns, time_ns)) {
		count(filtered);
		return;
	}
	if (stream || split_by)
		read_tuple(&t, m->skc);
	tally(&who, from, to, time_ns, since_ns, precision, reason);
	if (!stream) {
		count(delivered);
		return;
	}
	e = reserve();
	if (!e)
		return;
	fill_tuple(e, &t);
	e->netns = info->netns;
	e->time_ns = time_ns;
	e->since_ns = since_ns;
	e->cookie = m->cookie;
	e->minisock = 0;
	e->owner = info->owner;
	e->closer = info->closer;
	e->rearms = from == TCP_TIME_WAIT ? info->rearms : 0;
	e->from = from;
	e->to = to;
	e->precision = since_ns ? precision : PRECISION_UNKNOWN;
	e->role = info->role;
	e->reason = reason;
	e->flags = EVENT_MINISOCK;
	e->hook = m->hook;
	e->cpu = 0;
	e->err = 0;
	e->timer_left = 0;
	submit(e);
}

/* The minisock lives under another state from now on; 0: it came, or went. */
static __always_inline void move_mini(const struct mini *m, const struct mini_info *info, __u8 from, __u8 to)
{
	struct tuple t;
	struct subject who = { &t, &info->owner, info->netns, info->role };

	if (raw)
		return;
	if (split_by)
		read_tuple(&t, m->skc);
	move_live(&who, from, to);
}

/* TIME_WAIT begins. Several CPUs may see it; one claims it. */
static __always_inline void enter_time_wait(const struct mini *m, struct mini_info *info,
					    __u64 at, __u8 precision)
{
	if (__sync_val_compare_and_swap(&info->time_wait_ns, 0, at))
		return;
	info->time_wait_precision = precision;
	if (__sync_val_compare_and_swap(&info->counted, info->from, TCP_TIME_WAIT) == info->from)
		move_mini(m, info, info->from, TCP_TIME_WAIT);
	emit_mini(m, info, info->from, TCP_TIME_WAIT, at, info->since_ns,
		  precision == PRECISION_EXACT ? info->precision : precision,
		  info->from == TCP_FIN_WAIT2 ? REASON_FIN_RECEIVED : REASON_NONE);
}

/*
 * The FIN came unseen: its time is worked out from the timer that it armed. A
 * jiffy is coarse, and must not lie before the state that it ended.
 */
static __always_inline void enter_time_wait_unseen(const struct mini *m, struct mini_info *info)
{
	__u64 at = armed_at(m);

	enter_time_wait(m, info, at > info->since_ns ? at : info->since_ns, PRECISION_JIFFY);
}

static __always_inline void count_rearm(struct mini_info *info)
{
	__sync_fetch_and_add(&info->rearms, 1);
	if (info->verdict == VERDICT_PASS && !raw)
		tally_rearm();
}

/*
 * The timer runs to another moment than before: in TIME_WAIT, a re-arm. A hook
 * that sees each re-arm counts them itself (on_twsk_schedule()).
 */
static __always_inline void note_timer(const struct mini *m, struct mini_info *info, bool was_time_wait)
{
	__u64 before = info->expires;

	if (fentry || m->expires == before)
		return;
	if (__sync_val_compare_and_swap(&info->expires, before, m->expires) == before && was_time_wait)
		count_rearm(info);
}

/* What can be known of a minisock whose birth was not seen. */
static __always_inline void found_mini(const struct mini *m, struct mini_info *info)
{
	struct inet_timewait_sock *tw = m->tw;
	struct tuple t;

	__builtin_memset(info, 0, sizeof(*info));
	read_tuple(&t, m->skc);
	info->minisock = (__u64)m->tw;
	info->expires = m->expires;
	info->netns = t.netns;
	info->flags = MINI_JOINED | MINI_FOUND;
	info->from = TCP_FIN_WAIT2;
	if (m->substate == TCP_TIME_WAIT) {
		info->time_wait_ns = armed_at(m);
		info->time_wait_precision = PRECISION_AT_LEAST;
	}
	info->verdict = judge(&t, &info->owner, NULL, false);
	info->netns_slot = netns_slot(BPF_CORE_READ(tw, __tw_common.skc_net.net));
}

/* Puts one into the map whose birth was not seen. 0, or an errno less than 0. */
static __always_inline long add_found(const struct mini *m, struct mini_info *info)
{
	long err;

	if (info->verdict == VERDICT_PASS)
		info->counted = m->substate;
	err = bpf_map_update_elem(&minisocks, &m->key, info, BPF_NOEXIST);
	if (err && err != -EEXIST)
		minisocks_full = 1;
	if (!err && info->counted)
		move_mini(m, info, 0, info->counted);
	return err;
}

/* DCCP had minisocks with the same timer until 6.16. */
static __always_inline bool is_tcp_mini(struct inet_timewait_sock *tw)
{
	struct proto *prot = BPF_CORE_READ(tw, __tw_common.skc_prot);
	char name[4] = {};

	bpf_core_read(name, 3, &prot->name);
	return name[0] == 'T' && name[1] == 'C' && name[2] == 'P';
}

/*
 * The socket may become a minisock with its next step; all that is known of it
 * goes into the map now. A function of its own, for the sake of the stack.
 */
static __noinline int expect_minisock(struct sock_info *sock, __u64 cookie, __u32 netns_inum, __u8 state)
{
	struct mini_info info = {
		.since_ns  = sock->since_ns,
		.precision = sock->precision,
		.owner	   = sock->owner,
		.closer	   = sock->closer,
		.netns	   = netns_inum,
		.from	   = state,
		.role	   = sock->role,
		.verdict   = sock->verdict,
		.counted   = sock->counted,
		.netns_slot = sock->netns_slot,
	};

	struct mini_info *living = bpf_map_lookup_elem(&minisocks, &cookie);

	/*
	 * connect(AF_UNSPEC) and connect() give a socket a new life under its old
	 * cookie, while the minisock of the old one is still there.
	 */
	if (living && living->minisock && !(living->flags & MINI_ENDED)) {
		__u64 addr = living->minisock;

		bpf_map_update_elem(&minisocks, &addr, living, 0);
	}
	sock->untracked = bpf_map_update_elem(&minisocks, &cookie, &info, 0) != 0;
	if (sock->untracked)
		minisocks_full = 1;
	return 0;
}

/*
 * The full socket goes from FIN_WAIT_2 or CLOSING to CLOSE. True if that is
 * the hand-over to a minisock, which is no close.
 */
static __always_inline bool hand_over(__u64 cookie)
{
	struct mini_info *info = bpf_map_lookup_elem(&minisocks, &cookie);

	if (!info)
		return false;
	if (!info->minisock) {
		bpf_map_delete_elem(&minisocks, &cookie);
		return false;
	}
	if (__sync_fetch_and_or(&info->flags, MINI_JOINED) & MINI_ENDED)
		bpf_map_delete_elem(&minisocks, &cookie);
	return true;
}

/*
 * A timewait timer was started: the minisock's first breath, or a re-arm. birth:
 * without a record of it, it is the former.
 */
static __always_inline void mini_armed(struct mini *m, bool birth)
{
	struct mini_info *info = find_mini(m);

	if (!info) {
		struct mini_info found;
		long err;

		if (!is_tcp_mini(m->tw))
			return;
		found_mini(m, &found);
		err = add_found(m, &found);
		/* One with a cookie is of a socket that there was no room for either: hands_over() counts it. */
		if (err && err != -EEXIST && !m->cookie && !raw) {
			count(seen);
			count(map_full);
			if (audit)
				audit_lost(found.netns_slot);
		}
		if (err)
			return;
		if (audit && birth && attached_ns)
			audit_mini_born(found.netns_slot);
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
		enter_time_wait(m, info, m->now, PRECISION_EXACT);
		return;
	}
	note_timer(m, info, info->time_wait_ns != 0);
}

/*
 * The timer is moved to another slot of the wheel. It may have been moved within
 * its slot before, which no hook tells: then the FIN came before this segment. A function of
 * its own, for the sake of the stack.
 */
static __noinline int mini_moves(struct mini *m)
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

/* A function of its own, for the sake of the stack. */
static __noinline int mini_ended(struct mini *m, __u8 reason)
{
	struct mini_info *info = find_mini(m);
	struct mini_info found;
	__u32 flags = 0, counted;
	bool waited;

	if (info && info->minisock == (__u64)m->tw) {
		flags = __sync_fetch_and_or(&info->flags, MINI_ENDED);
		if (flags & MINI_ENDED)
			return 0;
	} else {
		if (!is_tcp_mini(m->tw))
			return 0;
		found_mini(m, &found);
		info = &found;
		/* It came to be unseen. Where there was no room for it, that has been counted. */
		if (attached_ns && armed_at(m) > attached_ns && m->substate == TCP_TIME_WAIT &&
		    !minisocks_full && !raw) {
			count(seen);
			count(missed);
			if (audit)
				audit_lost(found.netns_slot);
		}
	}

	if (m->substate == TCP_TIME_WAIT && !info->time_wait_ns)
		enter_time_wait_unseen(m, info);
	else
		note_timer(m, info, info->time_wait_ns != 0);

	waited = info->time_wait_ns != 0;
	emit_mini(m, info, waited ? TCP_TIME_WAIT : info->from, TCP_CLOSE, m->now,
		  waited ? info->time_wait_ns : info->since_ns,
		  waited ? info->time_wait_precision : info->precision, reason);

	counted = __sync_lock_test_and_set(&info->counted, 0);
	if (counted)
		move_mini(m, info, counted, 0);
	if (audit)
		audit_mini_gone(info->netns_slot, reason, info != &found);
	if (flags & MINI_JOINED)
		bpf_map_delete_elem(&minisocks, &m->key);
	return 0;
}

/* What ended a minisock before its timer fired, by the function that did it. */
static __always_inline __u8 early_reason(const struct mini *m, __u32 caller)
{
	switch (caller) {
	case CALLER_SEGMENT:
		return REASON_RST_RECEIVED;
	case CALLER_RECEIVE:
		/* tcp_v4_rcv() kills FIN_WAIT_2 after TCP_TW_RST, TIME_WAIT after TCP_TW_SYN. */
		return m->substate == TCP_FIN_WAIT2 ? REASON_RST_SENT : REASON_RECYCLED;
	case CALLER_CONNECT:
		return REASON_REUSED;
	case CALLER_ABORT:
		return REASON_DESTROYED;
	case CALLER_PURGE:
		return REASON_NETNS_REMOVED;
	default:
		return REASON_KILLED;
	}
}

/* A function of its own, for the sake of the stack. */
static __noinline int emit_raw_mini(struct mini *m)
{
	struct mini_info *info = find_mini(m);
	struct owner nobody = {};
	struct event *e;
	struct tuple t;

	count(seen);
	read_tuple(&t, m->skc);
	if ((info ? info->verdict : judge(&t, &nobody, NULL, false)) != VERDICT_PASS) {
		count(filtered);
		return 0;
	}
	e = reserve();
	if (!e)
		return 0;
	__builtin_memset(e, 0, sizeof(*e));
	fill_tuple(e, &t);
	e->time_ns = m->now;
	e->cookie = m->cookie;
	e->minisock = (__u64)m->tw;
	e->owner.pid = current_process(e->owner.comm);
	e->from = m->substate;
	e->flags = EVENT_RAW | EVENT_MINISOCK;
	e->hook = m->hook;
	e->cpu = bpf_get_smp_processor_id();
	e->timer_left = (__s32)(m->expires - bpf_jiffies64());
	submit(e);
	return 0;
}

#endif
