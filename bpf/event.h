/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The event, which goes through the ring buffer. bpf2go makes Go types of these
 * structs: a field is described here, and nowhere else.
 */
#ifndef FINWAIT_EVENT_H
#define FINWAIT_EVENT_H

#include "kernel.h"

#define COMM_LEN 16

/*
 * An enum that user space has words for ends in its number of values. A test in
 * tracer/ checks that each value has a word.
 */

/* The hook that saw the transition. */
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

/* How well the start of the state `from` is known. */
enum precision {
	PRECISION_UNKNOWN,	/* no hook saw it: since_ns is 0 */
	PRECISION_EXACT,	/* a hook saw it */
	PRECISION_JIFFY,	/* computed from the timewait timer */
	PRECISION_AT_LEAST,	/* the socket was in that state already when it was first seen */
	PRECISION_COUNT,
};

enum role {
	ROLE_UNKNOWN,
	ROLE_CLIENT,		/* connect() */
	ROLE_SERVER,		/* a listener's child */
	ROLE_LISTENER,
	ROLE_COUNT,
};

/* Why a state ended. */
enum reason {
	REASON_NONE,
	REASON_FIN_RECEIVED,
	/* a minisock ended */
	REASON_EXPIRED,		/* its timer fired */
	REASON_REUSED,		/* connect() took the port pair over */
	REASON_RECYCLED,	/* a SYN from the peer took it over */
	REASON_RST_RECEIVED,
	REASON_RST_SENT,	/* data or a SYN met FIN_WAIT_2 */
	REASON_DESTROYED,	/* by SOCK_DESTROY, as ss -K sends it */
	REASON_NETNS_REMOVED,
	REASON_KILLED,		/* the cause is unknown */
	REASON_TIMEWAIT_OVERFLOW,	/* tcp_max_tw_buckets reached: no TIME_WAIT was held */
	/* a full socket ended */
	REASON_REFUSED,
	REASON_TIMED_OUT,
	REASON_UNREACHABLE,
	REASON_NO_PORT,		/* connect() found no free local port */
	REASON_RESET,
	REASON_ABORTED,		/* our own side gave up, without an orderly close */
	REASON_CLOSED,
	REASON_COUNT,
};

enum event_flags {
	EVENT_MINISOCK = 1 << 1,	/* a minisock held `from`, or holds `to` */
};

/* The process that created the socket. pid 0: unknown. */
struct owner {
	__u64 cgroup_id;
	__u32 pid;
	__u32 uid;		/* of the socket */
	__u8 comm[COMM_LEN];
	__u8 holder;		/* it held the socket when that was found; who created it was not seen */
	__u8 pad[7];
};

/* The process that closed the socket. pid 0: unknown, or no process of this host closed it. */
struct closer {
	__u32 pid;
	__u8 comm[COMM_LEN];
};

/* The connection. */
struct tuple {
	__u8 saddr[16];		/* IPv4 in the first 4 bytes */
	__u8 daddr[16];
	__u64 netns_cookie;	/* of the network namespace; no other is ever given it */
	__u32 netns;		/* its inode number, which another is given after it */
	__u16 sport;		/* host order; 0: the kernel has not chosen it yet */
	__u16 dport;
	__u16 family;		/* AF_INET or AF_INET6; a v4-mapped address is AF_INET */
	__u16 pad[3];
};

struct event {
	__u64 time_ns;		/* CLOCK_MONOTONIC, when the transition happened */
	__u64 since_ns;		/* CLOCK_MONOTONIC, when `from` was entered; 0: unknown */
	__u64 cookie;
	__u64 minisock;		/* address of the minisock, raw events only */
	struct owner owner;	/* raw events: the task on the CPU */
	struct closer closer;
	__u32 rearms;		/* re-arms of the timewait timer, during `from` */
	struct tuple tuple;
	__u8 from;
	__u8 to;
	__u8 precision;		/* enum precision, of since_ns */
	__u8 role;		/* enum role */
	__u8 reason;		/* enum reason */
	__u8 flags;		/* enum event_flags */
	__u8 hook;		/* enum hook */
	__u8 cpu;		/* modulo 256, raw events only */
	__u16 err;		/* sk_err, a positive errno */
	__u16 pad;		/* always 0: reserved for a detail of the reason */
	__s32 timer_left;	/* jiffies to the timer's expiry, raw events only */
};

#endif
