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

/* A state that a transition was missed on the way to, which has been counted. */
#define ANY_STATE	15

/* What tells one group from another (tally.h). All zero: the group's value is unknown. */
struct group_name {
	__u8 bytes[16];		/* address, comm; cookie of a network namespace */
	__u64 id;		/* port, pid, inode number; for an address its family */
};

/* In deferred_ns: user space has run a program, which is sending the event of that transition. */
#define SETTLING	1

/* The record of a full socket, from its first transition until it is closed. */
struct sock_info {
	__u64 key;		/* socket_key() of its address; 0: the slot is free */
	__u64 since_ns;		/* when `state` was entered; 0: unknown */
	__u64 cookie;		/* 0: not read yet, or the kernel will still change it */
	__u64 deferred_ns;	/* time of a first transition that waits until a port is known; 0: none waits; or SETTLING */
	struct owner owner;
	struct closer closer;
	__u8 state;		/* the last state that a hook saw it enter */
	__u8 precision;		/* enum precision, of since_ns */
	__u8 role;
	__u8 verdict;
	__u8 untracked;		/* there was no room for a record of its minisock */
	__u8 deferred_fin;	/* shutdown() came before the end of the handshake: a softirq will send the FIN */
	__u16 old_port;		/* port of an earlier life, which is still in inet_sport */
	__u8 err;		/* sk_err at the last transition */
	__u8 soft_err;		/* an ICMP error during connect() */
	__u8 lived_before;	/* an earlier life of this socket may have a minisock that still exists */
	__u8 spilled;		/* the record is in the hash */
	__u32 counted;		/* the state that it is counted under as live; 0: it is not counted */
	__u16 netns_slot;	/* index of its namespace's totals */
	__u8 restored;		/* TCP_REPAIR: connect() sent no SYN, and SYN_SENT is not told */
	__u8 listener_gone;		/* its listener closed before it was accepted: it dies, or another listener has it (queue.h) */
	__u32 write_seq;	/* before the SYN */
	__u8 deferred_cpu;	/* on which the transition of deferred_ns happened, modulo 256 */
	__u8 pad[3];
	struct group_name group;	/* whose live count it is in, if the totals are split */
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
	MINI_SUSPECT	 = 1 << 4,	/* a sweep has found it gone: the next one is sure (sweep.h) */
	MINI_NO_STACK	 = 1 << 5,	/* its timer was cancelled, perhaps for its end: that has been counted as lost */
	MINI_LATER_LIFE	 = 1 << 6,	/* an earlier life of the full socket may have a minisock of the same cookie */
};

/*
 * The record of a minisock. It is made when its socket enters FIN_WAIT_1: if no program
 * is run for the steps from there to the minisock, the cookie finds it.
 */
struct mini_info {
	__u64 cookie;		/* key in the array; 0: the slot is free */
	__u64 since_ns;		/* when `from` was entered; 0: unknown */
	__u64 time_wait_ns;	/* when TIME_WAIT began; 0: it has not begun */
	__u64 minisock;		/* address of the minisock; 0: it is still a full socket */
	__u64 expires;		/* expiry of its timer in jiffies, as last seen; key of the full socket's record while minisock is 0 */
	__u32 rearms;
	__u32 flags;		/* enum mini_flags */
	__u32 counted;		/* the state that it is counted under as live; 0: it is not counted */
	__u32 netns_slot;
	__u8 from;		/* the state before TIME_WAIT, as last seen of the full socket; not read once TIME_WAIT has begun */
	__u8 precision;		/* enum precision, of since_ns */
	__u8 time_wait_precision;	/* of time_wait_ns */
	__u8 role;
	__u8 verdict;
	__u8 spilled;		/* the record is in the hash, by cookie */
	__u8 answered;		/* it has answered a segment with an RST, and is about to end: enum detail says which */
	__u8 pad;
	/* User space shortens the map's value to end here if neither `owners` nor `split_by` is set. */
	struct owner owner;
	struct closer closer;
	__u32 pad2;
	/* It ends here if `split_by` is not set. */
	struct group_name group;	/* whose live count it is in */
};

/*
 * Records of minisocks (records.h). Written when a socket enters FIN_WAIT_1, FIN_WAIT_2
 * or CLOSING; dropped when the socket or its minisock is gone. User space sizes both
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
