/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#ifndef FINWAIT_MAPS_H
#define FINWAIT_MAPS_H

#include "kernel.h"
#include "event.h"

enum verdict {
	VERDICT_NONE,		/* not asked yet */
	VERDICT_PASS,
	VERDICT_REJECT,
	VERDICT_UNDECIDED,	/* a port is not known yet */
};

/* What is kept of a full socket, from its first transition until it is closed. */
struct sock_info {
	__u64 key;		/* of its address (socket_key()); 0: the place is free */
	__u64 since_ns;		/* when its state was entered; 0: not seen */
	__u64 cookie;		/* 0: not asked for yet, or not final */
	__u64 deferred_ns;	/* first transition, which waits for a port to be known; 0: none */
	struct owner owner;
	struct closer closer;
	__u8 state;		/* the last that was entered, as far as seen; since_ns is of it */
	__u8 precision;		/* enum precision, of since_ns */
	__u8 role;
	__u8 verdict;
	__u8 untracked;		/* no room to follow it into a minisock */
	__u8 deferred_fin;	/* shutdown() came before the handshake was over: a softirq will send the FIN */
	__u16 old_port;		/* of an earlier life, still in inet_sport */
	__u16 err;		/* sk_err at the last transition */
	__u8 lived_before;	/* to a minisock in an earlier life, for all that is known; that may be living still */
	__u8 spilled;		/* it is in the hash */
	__u32 counted;		/* the state that it is counted under as live; 0: it is not */
	__u32 netns_slot;	/* of its namespace's totals */
};

#ifndef SOCKET_SLOTS
#define SOCKET_SLOTS	(1 << 14)	/* a power of two */
#endif

/*
 * Written by the set_state handler, once by the iterator for sockets that are
 * older than the programs (records.h). User space gives the hash room.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SOCKET_SLOTS);
	__type(key, __u32);
	__type(value, struct sock_info);
} socket_slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, struct sock_info);
} sockets SEC(".maps");

/* The owner of a listener. The kernel copies it to each socket that is accepted. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct owner);
} listeners SEC(".maps");

enum mini_flags {
	MINI_ASIDE  = 1 << 0,	/* there is a copy of it by address (hand_over_prepare()) */
	MINI_HANDED_OVER = 1 << 1,	/* the full socket has handed over, or there was none */
	MINI_ENDED  = 1 << 2,	/* the minisock is gone; whoever set this tells of it */
	MINI_TOLD   = 1 << 3,	/* that has been done, and nobody looks at the record any more */
};

/* What is kept of a minisock, from the moment that its socket may become one. */
struct mini_info {
	__u64 cookie;		/* under which it is in the array; 0: the place is free */
	__u64 since_ns;		/* when the state before TIME_WAIT was entered; 0: not seen */
	__u64 time_wait_ns;	/* when TIME_WAIT began; 0: it has not */
	__u64 minisock;		/* its address; 0: the full socket is still there */
	__u64 expires;		/* of its timer, in jiffies, as last seen */
	__u32 netns;
	__u32 rearms;
	__u32 flags;		/* enum mini_flags */
	__u32 counted;		/* the state that it is counted under as live; 0: it is not */
	__u32 netns_slot;
	__u8 from;		/* the state before TIME_WAIT: FIN_WAIT_2 or CLOSING */
	__u8 precision;		/* of since_ns */
	__u8 time_wait_precision;
	__u8 role;
	__u8 verdict;
	__u8 spilled;		/* it is in the hash, under its cookie */
	__u8 pad[2];
	/* From here on only if owners is set: user space leaves it out of the map's values else. */
	struct owner owner;
	struct closer closer;
	__u32 pad2;
};

/*
 * Written when a socket enters FIN_WAIT_2 or CLOSING, dropped when it or its
 * minisock is gone (records.h).
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct mini_info);
} minisock_slots SEC(".maps");

/* How many places the array has, a power of two. */
const volatile __u32 n_minisock_slots = 1;

/* Keyed by cookie, or by address where the minisock has none. User space sizes both from tcp_max_tw_buckets before loading. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, struct mini_info);
} minisocks SEC(".maps");

/* Inode of a socket -> the process that holds it. Filled from /proc, once, for sockets older than the programs. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, struct owner);
} holders SEC(".maps");

/* A minisock has found no room in the map since the start. */
__u32 minisocks_full;

#endif
