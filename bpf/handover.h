/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The hand-over from a full socket to its minisock, on the side of the full socket.
 * What is known of the socket goes into the minisock's record. minisock.h says why
 * that comes first, and who deletes the record.
 */
#ifndef FINWAIT_HANDOVER_H
#define FINWAIT_HANDOVER_H

#include "kernel.h"
#include "maps.h"
#include "tally.h"
#include "records.h"

/* The socket has gone on from FIN_WAIT_1: bring its minisock's record up to date. */
static __always_inline void hand_over_update(const struct sock_info *sock, struct mini_info *info, __u8 state)
{
	info->since_ns = sock->since_ns;
	info->precision = sock->precision;
	info->from = state;
	info->verdict = sock->verdict;
	if (owners)
		info->closer = sock->closer;
}

/* The socket may become a minisock: write the record of that now. */
static __own_frame int hand_over_prepare(struct sock_info *sock, __u64 cookie, __u8 state)
{
	struct mini_info info = {
		.since_ns  = sock->since_ns,
		.precision = sock->precision,
		.owner	   = sock->owner,
		.closer	   = sock->closer,
		.from	   = state,
		.role	   = sock->role,
		.verdict   = sock->verdict,
		.netns_slot = sock->netns_slot,
		.expires   = sock->key,
		.flags	   = sock->lived_before ? MINI_LATER_LIFE : 0,
		.group	   = sock->group,
	};
	struct mini_info *living = NULL;
	long err = 0;

	if (sock->lived_before || state != TCP_FIN_WAIT1)
		living = find_record(cookie);
	if (living && !living->minisock && living->expires == sock->key) {
		hand_over_update(sock, living, state);
		return 0;
	}

	/*
	 * connect(AF_UNSPEC) and then connect() give a socket a new life with the same
	 * cookie, while the minisock of its earlier life may still exist. Then the record
	 * of that minisock moves: its key is the address from now on. If the minisock
	 * ends meanwhile, its end has not seen the copy, which is deleted here.
	 */
	if (living && living->minisock && !(living->flags & MINI_ENDED)) {
		__u64 addr = living->minisock;

		drop_spilled(addr); /* the record of another minisock, whose end was missed */
		err = spill(addr, living);
		if (!err && atomic_or(&living->flags, MINI_ASIDE) & MINI_ENDED)
			drop_spilled(addr);
	}
	if (living && !err)
		drop_record(living, cookie);
	if (!err)
		err = add_record(cookie, &info, living != NULL);
	if (err == -EEXIST) { /* the end of its earlier life was missed */
		living = find_record(cookie);
		if (living)
			drop_record(living, cookie);
		err = add_record(cookie, &info, true);
	}
	sock->untracked = err != 0;
	return 0;
}

/*
 * Like hand_over_finish(), if no program was run for the birth of the minisock: a later
 * hook finds it.
 */
static __own_frame int hand_over_unseen(struct sock_info *sock)
{
	struct mini_info *info = find_record(sock->cookie);

	if (!info || info->minisock)
		return 0;
	if (info->flags & MINI_LATER_LIFE) { /* find_mini() would not give it to a later hook */
		drop_record(info, sock->cookie);
		return 0;
	}
	info->counted = xchg(&sock->counted, 0);
	atomic_or(&info->flags, MINI_HANDED_OVER);
	return 0;
}

/*
 * A new life of a socket begins. If an earlier one has handed over, and no hook has seen
 * its minisock, then that is given up: the cookie is this life's now.
 */
static __own_frame int hand_over_give_up(__u64 cookie)
{
	struct mini_info *info = find_record(cookie);
	__u32 counted;

	if (!info || info->minisock)
		return 0;
	counted = xchg(&info->counted, 0);
	if (counted)
		tally_gone(group_of(info), counted);
	drop_record(info, cookie);
	return 0;
}

/* The full socket closes, or is gone: there will be no minisock. */
static __always_inline void hand_over_forget(__u64 cookie)
{
	struct mini_info *info = find_record(cookie);

	if (info && !info->minisock)
		drop_record(info, cookie);
}

/*
 * The full socket goes from FIN_WAIT_2 or CLOSING to CLOSE. True if a minisock has
 * taken over: then it is the hand-over, and no close.
 */
static __always_inline bool hand_over_finish(struct mini_info *info, __u64 cookie)
{
	if (!info->minisock)
		return false;
	if (atomic_or(&info->flags, MINI_HANDED_OVER) & MINI_TOLD)
		drop_record(info, cookie);
	return true;
}

#endif
