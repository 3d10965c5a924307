/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
#ifndef FINWAIT_MAPS_H
#define FINWAIT_MAPS_H

#include "kernel.h"
#include "event.h"

enum verdict {
	VERDICT_NONE,		/* the filters have not been asked yet */
	VERDICT_PASS,
	VERDICT_REJECT,
	VERDICT_UNDECIDED,	/* a port is not known yet */
};

/* The record of a full socket, from its first transition until it is closed. */
struct sock_info {
	__u64 key;		/* socket_key() of its address; 0: the slot is free */
	__u64 since_ns;		/* when `state` was entered; 0: unknown */
	__u64 cookie;		/* 0: not read yet, or the kernel will still change it */
	__u64 deferred_ns;	/* time of a first transition that waits until a port is known; 0: none waits */
	struct owner owner;
	struct closer closer;
	__u8 state;		/* the last state that a hook saw it enter */
	__u8 precision;		/* enum precision, of since_ns */
	__u8 role;
	__u8 verdict;
	__u8 untracked;		/* there was no room for a record of its minisock */
	__u8 deferred_fin;	/* shutdown() came before the end of the handshake: a softirq will send the FIN */
	__u16 old_port;		/* port of an earlier life, which is still in inet_sport */
	__u16 err;		/* sk_err at the last transition */
	__u8 lived_before;	/* an earlier life of this socket may have a minisock that still exists */
	__u8 spilled;		/* the record is in the hash */
	__u32 counted;		/* the state that it is counted under as live; 0: it is not counted */
	__u32 netns_slot;	/* index of its namespace's totals */
};

#ifndef SOCKET_SLOTS
#define SOCKET_SLOTS	(1 << 14)	/* a power of two */
#endif

/*
 * Records of full sockets (records.h). Written by set_state; for sockets that
 * existed before, once by the iterator. User space sizes the hash before loading.
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

/* The owner of a listener. The kernel copies it to each accepted socket. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE);
	__type(key, int);
	__type(value, struct owner);
} listeners SEC(".maps");

enum mini_flags {
	MINI_ASIDE	 = 1 << 0,	/* a copy of the record is in the hash, by address (hand_over_prepare()) */
	MINI_HANDED_OVER = 1 << 1,	/* the full socket has handed over, or there was no full socket */
	MINI_ENDED	 = 1 << 2,	/* the minisock is gone; the program that set this tells its end */
	MINI_TOLD	 = 1 << 3,	/* its end has been told, and no program uses the record any more */
};

/* The record of a minisock. It is made when its socket may become one with the next step. */
struct mini_info {
	__u64 cookie;		/* key in the array; 0: the slot is free */
	__u64 since_ns;		/* when `from` was entered; 0: unknown */
	__u64 time_wait_ns;	/* when TIME_WAIT began; 0: it has not begun */
	__u64 minisock;		/* address of the minisock; 0: it is still a full socket */
	__u64 expires;		/* expiry of its timer in jiffies, as last seen */
	__u32 rearms;
	__u32 flags;		/* enum mini_flags */
	__u32 counted;		/* the state that it is counted under as live; 0: it is not counted */
	__u32 netns_slot;
	__u8 from;		/* the state before TIME_WAIT, FIN_WAIT_2 or CLOSING; not read once TIME_WAIT has begun */
	__u8 precision;		/* enum precision, of since_ns */
	__u8 time_wait_precision;	/* of time_wait_ns */
	__u8 role;
	__u8 verdict;
	__u8 spilled;		/* the record is in the hash, by cookie */
	__u8 pad[2];
	/* Present only if `owners` is set; otherwise user space shortens the map's value to end here. */
	struct owner owner;
	struct closer closer;
	__u32 pad2;
};

/*
 * Records of minisocks (records.h). Written when a socket enters FIN_WAIT_2 or
 * CLOSING; dropped when the socket or its minisock is gone. User space sizes both
 * maps from tcp_max_tw_buckets before loading.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct mini_info);
} minisock_slots SEC(".maps");

/* How many slots the array has: a power of two. */
const volatile __u32 n_minisock_slots = 1;

/* The key is the cookie, or the address of a minisock that has no cookie. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, struct mini_info);
} minisocks SEC(".maps");

/*
 * Inode of a socket -> the process that holds it. For sockets that existed before;
 * user space fills it once, from /proc.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, struct owner);
} holders SEC(".maps");

/* Since the start, the hash had no room for some minisock. */
__u32 minisocks_full;

#endif
