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
	HOOK_SEND_RESET,
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
	REASON_RST_SENT,	/* a segment came after our close */
	REASON_DESTROYED,	/* by SOCK_DESTROY, as ss -K sends it */
	REASON_NETNS_REMOVED,
	REASON_KILLED,		/* the cause is unknown */
	REASON_TIME_WAIT_OVERFLOW,	/* tcp_max_tw_buckets reached: no TIME_WAIT was held */
	/* a full socket ended */
	REASON_REFUSED,
	REASON_TIMED_OUT,
	REASON_UNREACHABLE,
	REASON_NO_PORT,		/* connect() found no free local port */
	REASON_RESET,
	REASON_ABORTED,		/* our own side gave up, without an orderly close */
	REASON_CLOSED,
	REASON_IN_USE,		/* connect(): another socket has these addresses and ports */
	REASON_GIVEN_UP,	/* the program closed the socket before connect() was done */
	REASON_COUNT,
};

/*
 * Which of the causes that share a reason. Each belongs to one reason, so that the
 * totals need not count every pair.
 */
enum detail {
	DETAIL_NONE,		/* the reason says all, or the kernel does not let it be seen */
	/* REASON_ABORTED */
	DETAIL_UNREAD_DATA,	/* close() while data had not been read */
	DETAIL_LINGER_ZERO,	/* close() with SO_LINGER of 0 s */
	DETAIL_DISCONNECTED,	/* connect(AF_UNSPEC) */
	DETAIL_LINGER2,		/* TCP_LINGER2 below 0: no FIN_WAIT_2 is wanted */
	DETAIL_LISTENER_CLOSED,	/* the listener was closed before it was accepted */
	DETAIL_ORPHAN_LIMIT,	/* too many orphans or too little memory (tcp_check_oom()) */
	DETAIL_CHECKPOINT,	/* close() in TCP_REPAIR mode, which sends nothing */
	DETAIL_LISTEN_FAILED,	/* listen() got no port */
	/* REASON_TIMED_OUT */
	DETAIL_KEEPALIVE,
	DETAIL_USER_TIMEOUT,	/* TCP_USER_TIMEOUT */
	DETAIL_RETRANSMISSIONS,
	DETAIL_ZERO_WINDOW,	/* the peer's window stayed closed, and probes were not answered */
	/* REASON_RST_SENT */
	DETAIL_DATA_AFTER_CLOSE,
	DETAIL_OUT_OF_WINDOW,
	DETAIL_SYN,
	/* REASON_RESET */
	DETAIL_DATA_UNACKED,	/* the peer had not acknowledged all our data */
	DETAIL_FIN_UNACKED,	/* the peer had not acknowledged our FIN */
	/* REASON_EXPIRED; user space tells it from the state */
	DETAIL_ORPHAN,		/* in FIN_WAIT_2: the peer's FIN did not come */
	DETAIL_TIME_WAIT,
	/* REASON_GIVEN_UP */
	DETAIL_CLOSE,
	DETAIL_SHUTDOWN,
	DETAIL_DISCONNECT,	/* connect(AF_UNSPEC) */
	DETAIL_EXIT,		/* the process was ending */
	DETAIL_COUNT,
};

enum event_flags {
	EVENT_MINISOCK = 1 << 1,	/* a minisock held `from`, or holds `to` */
	EVENT_SEGMENT  = 1 << 2,	/* no transition, but a segment: `from` is of enum segment */
	EVENT_LATE     = 1 << 3,	/* it happened before the program ran that tells it */
	EVENT_PORT_BY_BIND = 1 << 4,	/* connect(): bind() had chosen the local port, as the program named none */
};

/* What happens to a port without a transition (segment.h). */
enum segment {
	SEGMENT_RST_SENT,
	SEGMENT_RST_RECEIVED,
	SEGMENT_SYNACK_AGAIN,
	SEGMENT_COUNT,
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

/* The process that handles the connection (handler.h). pid 0: it was not seen. */
struct handler {
	__u32 pid;
	__u32 accepted;		/* it has accepted the connection, and was not seen to use it */
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
	__u16 pad;
	__u32 scope_id;		/* of a link-local address: index of the interface, in the namespace; otherwise 0 */
};

struct event {
	__u64 time_ns;		/* CLOCK_MONOTONIC, when the transition happened */
	__u64 since_ns;		/* CLOCK_MONOTONIC, when `from` was entered; 0: unknown */
	__u64 cookie;
	__u64 minisock;		/* address of the minisock, raw events only; within the programs also of the full socket (metrics.h, reset.h) */
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
	__u16 err;		/* the errno that goes with the reason; raw events: sk_err. Positive, 0: none */
	__u8 detail;		/* enum detail */
	__u8 retransmits;	/* segments and probes that were sent again and not answered, at the end of a full socket */
	__s32 timer_left;	/* jiffies to the timer's expiry, raw events only */
};

/* What sent an RST. */
enum rst_end {
	RST_END_UNKNOWN,
	RST_END_SOCKET,		/* the other end, a full socket */
	RST_END_MINISOCK,
	RST_END_LISTENER,
	RST_END_NO_SOCKET,	/* there is no socket for the segment */
	RST_END_COUNT,
};

/* Who sent the RST that has ended a connection (reset.h). */
struct rst_sender {
	__u32 end;		/* enum rst_end */
	__u32 pid;		/* of who closed the other end, or else owned it; 0: nobody, or not known */
	__u8 comm[COMM_LEN];
};

/* What a connection has carried (metrics.h). */
#define NEVER_HEARD	0xffffffff

struct metrics {
	__u64 bytes_sent;	/* payload, each byte once */
	__u64 bytes_received;	/* payload */
	__u32 rtt_us;		/* smoothed, in eighths of a microsecond; 0: not measured */
	__u32 retransmitted;	/* segments */
	__u32 cwnd;		/* segments */
	__u32 mss;		/* bytes */
	__u32 recv_queue;	/* bytes that the program has not read */
	__u32 send_queue;	/* bytes that the peer has not acknowledged, a FIN among them */
	__u32 known;
	__u32 silent_ms;	/* since an acknowledgment arrived last (tcp_info: last_ack_recv), or NEVER_HEARD */
};

/* What goes through the ring buffer if somebody asks for what stands beside the event. */
struct wide_event {
	struct event event;
	struct handler handler;
	struct rst_sender rst_by;
	struct metrics metrics;
};

#define KERNEL_FRAMES	64
#define USER_STACK	8192

/* The registers of amd64 that a function leaves as they were, and where it is (System V ABI). */
struct registers {
	__u64 ip, sp, bp, bx, r12, r13, r14, r15;
};

/* Where in the kernel and in the process the program was run (stack.h). */
struct call {
	__u64 started_ns;	/* CLOCK_BOOTTIME, of the process; 0: it was not in a call of its own */
	__u64 start_stack;	/* address of its stack, which execve() chooses at random */
	__u64 exec_pages;	/* pages of its memory that can be run */
	__u32 pid;
	__u32 user_bytes;	/* of user */
	__s64 kernel_bytes;	/* of kernel; 0 or negative: there is no stack */
	__u64 kernel[KERNEL_FRAMES];	/* addresses, innermost first */
	struct registers registers;
};

/* What goes through the ring buffer if somebody asks for stacks. */
struct called_event {
	struct wide_event wide;
	struct call call;
};

/* What goes through the ring buffer for a call of a process. */
struct user_event {
	struct called_event called;
	__u8 stack[USER_STACK];	/* what lies above the stack pointer */
};

/* A descriptor of a process that is a TCP socket (holding.h). */
struct holding {
	__u64 inode;		/* of the socket */
	__u32 fd;
	__u32 pid;
	__u32 parent;
	__u8 reuse_addr;	/* SO_REUSEADDR */
	__u8 reuse_port;	/* SO_REUSEPORT */
	__u8 listens;
	__u8 pad;
	__u8 comm[COMM_LEN];
};

/* A socket in a table of the kernel, as sock_diag(7) lists it (walk.h). */
struct walked_socket {
	struct tuple tuple;
	__u64 cookie;		/* 0: nobody has asked for it, so it has none */
	__u64 cgroup_id;	/* 0: unknown */
	__u64 inode;		/* 0: it has no file */
	__s64 timer_left;	/* jiffies */
	__u32 interface;	/* index of the one that it is bound to */
	__u32 uid;
	__u32 recv_queue;	/* bytes */
	__u32 send_queue;
	__u32 data_sent;	/* jiffies since; this and the next two: of a full socket */
	__u32 data_received;
	__u32 ack_received;
	__u16 family;		/* of the socket */
	__u8 state;		/* TCP_NEW_SYN_RECV: of a request_sock */
	__u8 minisock;
	__u8 timer;		/* as idiag_timer in include/uapi/linux/inet_diag.h */
	__u8 retries;
	__u8 mptcp;		/* a subflow */
	__u8 pad[5];
};

/* A socket that exists, and since when it is in its state (live.h). */
struct live_socket {
	__u64 cookie;
	__u64 since_ns;		/* CLOCK_MONOTONIC */
	__u8 state;
	__u8 precision;		/* enum precision */
	__u8 role;		/* enum role */
	__u8 pad[5];
};

#endif
