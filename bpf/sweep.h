/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What no hook fires for. User space runs these programs every few seconds, or every
 * second: they go over the records. A socket or a minisock may be gone, although no
 * program was run for its end. Or it has got its port since its first transition.
 *
 * They read the socket at the address in the record. Its memory may have been freed or
 * given to another socket: then the cookie differs. Hooks run meanwhile on other CPUs.
 * Whoever sets MINI_ENDED, or takes the cookie out of a full socket's record, owns the
 * end.
 */
#ifndef FINWAIT_SWEEP_H
#define FINWAIT_SWEEP_H

#include "kernel.h"
#include "event.h"
#include "maps.h"
#include "tally.h"
#include "audit.h"
#include "output.h"
#include "records.h"
#include "queue.h"
#include "minisock.h"
#include "socket.h"

/* So many jiffies after its timer was due a minisock is looked at. The timer wheel may be one slot late. */
const volatile __u32 overdue_after;

struct bpf_map;

struct sweep {
	__u64 due;		/* a timer that expires before this is overdue; in jiffies */
	__u64 origin;		/* what socket_key() takes from an address */
	__u64 now;		/* ns */
	int suspects;		/* minisocks that seem to be gone */
	bool found;		/* a record of a minisock, or a socket that waits for its port */
};

#define SECOND	1000000000ull

/*
 * The timer of this minisock is overdue, or was re-armed unseen. key: of its record.
 * True if it is pending; then its expiry is noted.
 */
static __always_inline bool still_pending(struct mini_info *info, __u64 key, __u64 expires)
{
	struct inet_timewait_sock *tw = (struct inet_timewait_sock *)info->minisock;
	__u64 now;

	if (BPF_CORE_READ(tw, __tw_common.skc_state) != TCP_TIME_WAIT || !BPF_CORE_READ(tw, tw_timer.entry.pprev))
		return false;
	if (key != (__u64)tw && (__u64)BPF_CORE_READ(tw, __tw_common.skc_cookie.counter) != key)
		return false;
	now = BPF_CORE_READ(tw, tw_timer.expires);
	/* If no hook has seen the FIN, only the old expiry shows that it came: enter_time_wait_unseen(). */
	if (now == expires || (!info->time_wait_ns && BPF_CORE_READ(tw, tw_substate) == TCP_TIME_WAIT))
		return true;
	if (cmpxchg(&info->expires, expires, now) == expires && info->time_wait_ns && !sees_rearms)
		note_rearm(info);
	return true;
}

/*
 * Returns 1 if it seems to be gone. The program for its end may just be running: the
 * kernel takes the timer off before it fires it. So only the next sweep is sure.
 */
static __own_frame int mini_overdue(struct mini_info *info, __u64 key, bool spilled)
{
	__u64 expires = info->expires;
	__u32 counted, flags;
	bool lost;

	if (info->flags & (MINI_ENDED | MINI_ASIDE) || still_pending(info, key, expires) || info->expires != expires)
		return 0;
	if (!(atomic_or(&info->flags, MINI_SUSPECT) & MINI_SUSPECT))
		return 1;
	if (atomic_or(&info->flags, MINI_ENDED) & MINI_ENDED)
		return 0;
	lost = !(info->flags & MINI_NO_STACK);
	if (lost) {
		count(seen);
		count(missed);
	}
	counted = xchg(&info->counted, 0);
	if (counted)
		tally_gone(group_of(info), counted);
	if (audit) {
		if (lost)
			audit_lost(info->netns_slot);
		audit_mini_gone(info->netns_slot, REASON_NONE, true);
	}
	/* Without the hand-over the record of the full socket has stayed too: sweep_socket() needs both. */
	flags = atomic_or(&info->flags, MINI_TOLD);
	if (!(flags & MINI_HANDED_OVER))
		return 0;
	if (spilled)
		drop_spilled(key);
	else
		cmpxchg(&info->cookie, key, 0);
	return 0;
}

/* While `minisock` is 0, `expires` says nothing. */
static __always_inline bool is_overdue(const struct mini_info *info, const struct sweep *s)
{
	return info->minisock && (__s64)(s->due - info->expires) > 0;
}

/*
 * The full socket is gone, and no hook has come to a minisock of it (lost_socket(),
 * hand_over_unseen()). After the longest FIN_WAIT_2 and a TIME_WAIT none will.
 */
static __own_frame int sweep_unborn(struct mini_info *info, __u64 key, bool spilled)
{
	__u32 counted;

	if (info->minisock || !(info->flags & MINI_HANDED_OVER) || bpf_ktime_get_ns() - info->since_ns < 180 * SECOND)
		return 0;
	counted = xchg(&info->counted, 0);
	if (counted)
		tally_gone(group_of(info), counted);
	if (spilled)
		drop_spilled(key);
	else
		cmpxchg(&info->cookie, key, 0);
	return 0;
}

static long sweep_mini_slot(struct bpf_map *map, __u32 *slot, struct mini_info *info, struct sweep *s)
{
	__u64 key = info->cookie;

	if (!key)
		return 0;
	s->found = true;
	sweep_unborn(info, key, false);
	if (is_overdue(info, s))
		s->suspects += mini_overdue(info, key, false);
	return 0;
}

static long sweep_spilled_mini(struct bpf_map *map, __u64 *key, struct mini_info *info, struct sweep *s)
{
	s->found = true;
	sweep_unborn(info, *key, true);
	if (is_overdue(info, s))
		s->suspects += mini_overdue(info, *key, true);
	return 0;
}

/* Returns how many minisocks the next sweep may find to be gone. */
static __always_inline int on_sweep_minisocks(void)
{
	struct sweep s = { .due = bpf_jiffies64() - overdue_after };

	minisocks_recorded = 0;
	bpf_for_each_map_elem(&minisock_slots, sweep_mini_slot, &s, 0);
	if (minisocks_spilled)
		bpf_for_each_map_elem(&minisocks, sweep_spilled_mini, &s, 0);
	if (s.found)
		minisocks_recorded = 1;
	return s.suspects;
}

static __own_frame int socket_gone(struct sock_info *info, __u64 key, __u64 cookie)
{
	struct sock_info gone = *info;

	/* A program that runs for its close drops the record first, and then the kernel sets the state. */
	if (cmpxchg(&info->cookie, cookie, 0) != cookie || info->key != key)
		return 0;
	gone.counted = xchg(&info->counted, 0);
	drop_socket(info);
	lost_socket(&gone, cookie);
	return 0;
}

static long sweep_socket(struct bpf_map *map, void *key_or_slot, struct sock_info *info, struct sweep *s)
{
	__u64 key = info->key, cookie = info->cookie;
	struct sock_common *skc = (struct sock_common *)(key + s->origin);

	if (!key)
		return 0;
	/* set_state runs for connect() and listen() before the kernel sets the state. */
	if ((cookie && (__u64)BPF_CORE_READ(skc, skc_cookie.counter) != cookie) ||
	    (BPF_CORE_READ(skc, skc_state) == TCP_CLOSE && info->since_ns && info->since_ns + SECOND < s->now))
		socket_gone(info, key, cookie);
	return 0;
}

/* connect() or listen() has chosen the port: now the filters and the groups know what to do. */
static __own_frame int settle_port(struct sock_info *info, struct sock *sk, __u64 at)
{
	struct sock_common *skc = &sk->__sk_common;
	__u8 state = info->role == ROLE_LISTENER ? TCP_LISTEN : TCP_SYN_SENT;
	__u64 key = info->key;
	struct event e = {};

	read_tuple(&e.tuple, skc);
	if (!e.tuple.sport || cmpxchg(&info->deferred_ns, at, SETTLING) != at)
		return 0;
	/* From here on a program for the next transition waits. It may have come first. */
	if (BPF_CORE_READ(skc, skc_state) == state && info->state == state && info->key == key &&
	    (__u64)BPF_CORE_READ(skc, skc_cookie.counter) == info->cookie) {
		info->verdict = judge(&e.tuple, &info->owner, n_cgroups ? BPF_CORE_READ(sk, sk_cgrp_data.cgroup) : NULL,
				      info->cookie, info->role, false);
		e.hook = HOOK_SET_STATE;
		emit_deferred(info, &e, at);
		at = 0;
	}
	cmpxchg(&info->deferred_ns, SETTLING, at);
	return 0;
}

static long settle_socket(struct bpf_map *map, void *key_or_slot, struct sock_info *info, struct sweep *s)
{
	__u64 at = info->deferred_ns;

	/* A child waits for its next transition only. */
	if (!info->key || at <= SETTLING || info->role == ROLE_SERVER)
		return 0;
	s->found = true;
	settle_port(info, (struct sock *)(info->key + s->origin), at);
	return 0;
}

static __always_inline void begin_sweep(struct sweep *s)
{
	origin = (__u64)&sockets_spilled;
	s->origin = origin;
	s->now = bpf_ktime_get_ns();
}

static __always_inline void on_sweep_sockets(void)
{
	struct sweep s = {};

	begin_sweep(&s);
	bpf_for_each_map_elem(&socket_slots, sweep_socket, &s, 0);
	if (sockets_spilled)
		bpf_for_each_map_elem(&sockets, sweep_socket, &s, 0);
}

static __always_inline void on_settle_ports(void)
{
	struct sweep s = {};

	begin_sweep(&s);
	ports_pending = 0;
	bpf_for_each_map_elem(&socket_slots, settle_socket, &s, 0);
	if (sockets_spilled)
		bpf_for_each_map_elem(&sockets, settle_socket, &s, 0);
	if (s.found)
		ports_pending = 1;
}

#endif
