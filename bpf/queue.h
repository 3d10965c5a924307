/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * A listener has closed. The kernel resets the connections that wait in its queue, or
 * hands them to another listener of the same port (tcp_migrate_req, or a program that
 * asks for it). No hook shows which: so the records are marked, and what comes next says.
 */
#ifndef FINWAIT_QUEUE_H
#define FINWAIT_QUEUE_H

#include "kernel.h"
#include "maps.h"
#include "filter.h"
#include "records.h"

struct queue {
	struct request_sock *next;
	__u64 origin;		/* what socket_key() takes from an address */
};

/* socket_key() takes the address of a global away. Written and read again, it is a number. */
static volatile __u64 origin;

static long mark_waiting(__u32 turn, struct queue *q)
{
	struct request_sock *req = q->next;
	struct sock_info *info;

	if (!req)
		return 1;
	info = find_socket_by((__u64)BPF_CORE_READ(req, sk) - q->origin);
	if (info)
		info->listener_gone = 1;
	q->next = BPF_CORE_READ(req, dl_next);
	return 0;
}

/* Only the listeners of a group (SO_REUSEPORT) hand connections over (reuseport_migrate_sock()). */
static __always_inline bool leaves_queue(struct sock *sk, int from, int to)
{
	return owners && from == TCP_LISTEN && to == TCP_CLOSE && sk->sk_ack_backlog && sk->sk_reuseport_cb;
}

static __always_inline void on_queue_left(struct sock *sk)
{
	struct inet_connection_sock *icsk = (struct inet_connection_sock *)sk;
	struct queue q = {};

	origin = (__u64)&sockets_spilled;
	q.origin = origin;
	q.next = BPF_CORE_READ(icsk, icsk_accept_queue.rskq_accept_head);
	bpf_loop(sk->sk_ack_backlog, mark_waiting, &q, 0);
}

#endif
