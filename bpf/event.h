/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What goes through the ring buffer. bpf2go makes Go types of these, so a
 * field is described here and nowhere else.
 */
#ifndef FINWAIT_EVENT_H
#define FINWAIT_EVENT_H

#include "kernel.h"

#define COMM_LEN 16

/*
 * Each list that user space has words for ends in its number of values: there a
 * test asks for every word.
 */

/* The hook that saw it. */
enum hook {
	HOOK_SET_STATE,
	HOOK_TIMER_START,
	HOOK_TIMER_CANCEL,
	HOOK_TIMER_EXPIRE,
	HOOK_KFREE_SKB,
	HOOK_TWSK_ALLOC,
	HOOK_TWSK_SCHEDULE,
	HOOK_TWSK_KILL,
	HOOK_COUNT,
};

/* How well the start of the state that was left is known. */
enum precision {
	PRECISION_UNKNOWN,	/* not seen: since is 0 */
	PRECISION_EXACT,	/* a hook saw it */
	PRECISION_JIFFY,	/* worked out from the timewait timer */
	PRECISION_AT_LEAST,	/* it was in that state already when first looked at */
	PRECISION_COUNT,
};

enum role {
	ROLE_UNKNOWN,
	ROLE_CLIENT,		/* connect() */
	ROLE_SERVER,		/* came out of a listener */
	ROLE_LISTENER,
	ROLE_COUNT,
};

/* Why a state ended. */
enum reason {
	REASON_NONE,
	REASON_FIN_RECEIVED,
	/* ends of a minisock */
	REASON_EXPIRED,		/* its timer fired */
	REASON_REUSED,		/* connect() took the port pair over */
	REASON_RECYCLED,	/* a SYN from the peer took it over */
	REASON_RST_RECEIVED,
	REASON_RST_SENT,	/* data or a SYN met FIN_WAIT_2 */
	REASON_DESTROYED,	/* SOCK_DESTROY, which is what ss -K sends */
	REASON_NETNS_REMOVED,
	REASON_KILLED,		/* by something that finwait does not know */
	REASON_TIMEWAIT_OVERFLOW,	/* tcp_max_tw_buckets reached: no TIME_WAIT was held */
	/* ends of a full socket */
	REASON_REFUSED,
	REASON_TIMED_OUT,
	REASON_UNREACHABLE,
	REASON_NO_PORT,		/* connect() found no free local port */
	REASON_RESET,
	REASON_ABORTED,		/* given up by our own side, without an orderly close */
	REASON_CLOSED,
	REASON_COUNT,
};

enum event_flags {
	EVENT_MINISOCK = 1 << 0,	/* the state left, or entered, was held by a minisock */
};

/* Who created a socket. pid 0: not known. */
struct owner {
	__u64 cgroup_id;
	__u32 pid;
	__u32 uid;
	__u8 comm[COMM_LEN];
};

/* Who closed it. pid 0: not known, or not closed by a process here. */
struct closer {
	__u32 pid;
	__u8 comm[COMM_LEN];
};

/* Which connection. */
struct tuple {
	__u8 saddr[16];		/* IPv4 in the first 4 bytes */
	__u8 daddr[16];
	__u32 netns;		/* inode number */
	__u16 sport;		/* host order; 0: not chosen yet */
	__u16 dport;
	__u16 family;		/* AF_INET or AF_INET6; a v4-mapped address is AF_INET */
	__u16 pad;
};

struct event {
	__u64 time_ns;		/* CLOCK_MONOTONIC, when the transition happened */
	__u64 since_ns;		/* CLOCK_MONOTONIC, when from was entered; 0: unknown */
	__u64 cookie;
	__u64 minisock;		/* its address, raw events only */
	struct owner owner;	/* raw events: the task on the CPU */
	struct closer closer;
	struct tuple tuple;
	__u32 rearms;		/* of the timewait timer, during from */
	__u8 from;
	__u8 to;
	__u8 precision;		/* enum precision, of since_ns */
	__u8 role;		/* enum role */
	__u8 reason;		/* enum reason */
	__u8 flags;		/* enum event_flags */
	__u8 hook;		/* enum hook */
	__u8 cpu;		/* modulo 256, raw events only */
	__u16 err;		/* sk_err, a positive errno */
	__u16 pad;		/* 0; room for a detail of the reason */
	__s32 timer_left;	/* jiffies to the timer's expiry, raw events only */
};

#endif
