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
#include "records.h"

/* The socket may become a minisock with its next step: write the record of that now. */
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
		.counted   = sock->counted,
		.netns_slot = sock->netns_slot,
	};

	struct mini_info *living = sock->lived_before ? find_record(cookie) : NULL;
	long err = 0;

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
 * The full socket goes from FIN_WAIT_2 or CLOSING to CLOSE. True if a minisock has
 * taken over: then it is the hand-over, and no close.
 */
static __always_inline bool hand_over_finish(__u64 cookie)
{
	struct mini_info *info = find_record(cookie);

	if (!info)
		return false;
	if (!info->minisock) {
		drop_record(info, cookie);
		return false;
	}
	if (atomic_or(&info->flags, MINI_HANDED_OVER) & MINI_TOLD)
		drop_record(info, cookie);
	return true;
}

#endif
