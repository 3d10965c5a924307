/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Reading who and where out of kernel structs. */
#ifndef FINWAIT_IDENTITY_H
#define FINWAIT_IDENTITY_H

#include "kernel.h"
#include "event.h"
#include "filter.h"

/*
 * The process on the CPU, not the thread: pid and comm are what /proc/PID/comm
 * says. The leader is read and not loaded: for each load of a pointer from one that
 * is trusted the verifier searches all types (from 6.3 until they are sorted), 1 ms.
 */
static __always_inline __u32 current_process(__u8 *comm)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task_btf();
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);

	/* Before 5.17 the bytes after the terminator could be those of an older name. */
	__builtin_memset(comm, 0, COMM_LEN);
	bpf_core_read_str(comm, COMM_LEN, &leader->comm);
	return bpf_get_current_pid_tgid() >> 32;
}

/*
 * The process that called connect(), listen(), shutdown() or close(). Only to be
 * called where the kernel runs in the caller's context. A kernel thread is
 * nobody: a worker that opens an MPTCP subflow does so for somebody else.
 */
static __always_inline __u32 calling_process(__u8 *comm)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task_btf();

	return task->flags & PF_KTHREAD ? 0 : current_process(comm);
}

static __always_inline bool v4_mapped(const __u8 *addr)
{
	const __u32 *a = (const __u32 *)addr;

	return a[0] == 0 && a[1] == 0 && a[2] == bpf_htonl(0xffff);
}

/*
 * Addresses and ports of a socket or minisock, which both begin with a
 * sock_common. An IPv6 socket that speaks IPv4 is shown as IPv4. A port of 0
 * is one that the kernel has not chosen, or has given back already.
 */
static __always_inline void read_tuple(struct tuple *t, struct sock_common *skc)
{
	struct net *net;

	__builtin_memset(t, 0, sizeof(*t));
	t->family = BPF_CORE_READ(skc, skc_family);
	t->dport = bpf_ntohs(BPF_CORE_READ(skc, skc_dport));
	t->sport = BPF_CORE_READ(skc, skc_num);
	net = BPF_CORE_READ(skc, skc_net.net);
	t->netns = BPF_CORE_READ(net, ns.inum);

	if (t->family == AF_INET6) {
		bpf_core_read(t->saddr, 16, &skc->skc_v6_rcv_saddr);
		bpf_core_read(t->daddr, 16, &skc->skc_v6_daddr);
		/* A listener has no remote address, a socket bound to :: no local one. */
		if (!v4_mapped(t->daddr) && !v4_mapped(t->saddr))
			return;
		t->family = AF_INET;
		__builtin_memset(t->saddr, 0, 16);
		__builtin_memset(t->daddr, 0, 16);
	}
	bpf_core_read(t->saddr, 4, &skc->skc_rcv_saddr);
	bpf_core_read(t->daddr, 4, &skc->skc_daddr);
}

static __always_inline void read_ports(struct tuple *t, struct sock *sk)
{
	t->dport = bpf_ntohs(sk->__sk_common.skc_dport);
	t->sport = sk->__sk_common.skc_num;
}

/* The same of a socket that the verifier knows to be one: loads, in place of calls. */
static __always_inline void read_sock_tuple(struct tuple *t, struct sock *sk)
{
	struct sock_common *skc = &sk->__sk_common;

	if (skc->skc_family != AF_INET) {
		read_tuple(t, skc);
		return;
	}
	__builtin_memset(t, 0, sizeof(*t));
	read_ports(t, sk);
	t->family = AF_INET;
	t->netns = skc->skc_net.net->ns.inum;
	*(__u32 *)t->saddr = skc->skc_rcv_saddr;
	*(__u32 *)t->daddr = skc->skc_daddr;
}

#endif
