/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Reading who and where out of kernel structs. */
#ifndef FINWAIT_IDENTITY_H
#define FINWAIT_IDENTITY_H

#include "kernel.h"
#include "compat.h"
#include "event.h"

/* The top bit of the first byte that is 0; 0: no byte is (Warren, Hacker's Delight, 6-1). */
static __always_inline __u64 first_zero(__u64 bytes)
{
	__u64 zeroes = (bytes - 0x0101010101010101) & ~bytes & 0x8080808080808080;

	return zeroes & -zeroes;
}

/*
 * The process of a task, not the thread: pid and comm are as in /proc/PID/comm. The
 * name is loaded as words, since a helper copies it byte by byte, which takes 100 ns.
 * Before 5.17 the rest of an earlier name could follow its end. comm: aligned to 4.
 */
static __always_inline __u32 process_of(struct task_struct *task, __u8 *comm)
{
	const __u64 *name = (const __u64 *)task->group_leader->comm;
	__u64 words[2] = { name[0], name[1] }, end = first_zero(words[0]);
	__u32 *to = (__u32 *)comm;

	words[0] &= end - 1;
	words[1] &= end ? 0 : first_zero(words[1]) - 1;
	to[0] = words[0];
	to[1] = words[0] >> 32;
	to[2] = words[1];
	to[3] = words[1] >> 32;
	return task->tgid;
}

static __always_inline __u32 current_process(__u8 *comm)
{
	return process_of((struct task_struct *)bpf_get_current_task_btf(), comm);
}

/*
 * The process that called connect(), listen(), shutdown() or close(). To be used only
 * where the kernel runs in the context of the caller. A kernel thread is no caller: a
 * worker opens an MPTCP subflow for another process.
 */
static __always_inline __u32 calling_process(__u8 *comm)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task_btf();

	return task->flags & PF_KTHREAD ? 0 : process_of(task, comm);
}

static __always_inline bool v4_mapped(const __u8 *addr)
{
	const __u32 *a = (const __u32 *)addr;

	return a[0] == 0 && a[1] == 0 && a[2] == bpf_htonl(0xffff);
}

/*
 * Is sk a subflow that MPTCP adds to a connection? The kernel opens it, also in the
 * context of another process that changes the endpoints (mptcp_nl_cmd_add_addr()).
 */
static __always_inline bool later_subflow(struct sock *sk)
{
	struct inet_connection_sock *icsk = (struct inet_connection_sock *)bpf_skc_to_tcp_sock(sk);
	struct mptcp_subflow_context *subflow;
	struct mptcp_sock *connection;
	char ulp[5];

	/* A kernel without CONFIG_MPTCP does not know its structs. */
	if (!icsk || !icsk->icsk_ulp_data || !bpf_core_field_exists(((struct mptcp_sock *)0)->first))
		return false;
	bpf_core_read(ulp, sizeof(ulp), &icsk->icsk_ulp_ops->name);
	if (ulp[0] != 'm' || ulp[1] != 'p' || ulp[2] != 't' || ulp[3] != 'c' || ulp[4] != 'p')
		return false;
	subflow = icsk->icsk_ulp_data;
	connection = (struct mptcp_sock *)BPF_CORE_READ(subflow, conn);
	return BPF_CORE_READ(connection, first) != sk;
}

/* Addresses of fe80::/10 are those of an interface. */
static __always_inline bool link_local(const __u8 *addr)
{
	return (*(const __u16 *)addr & bpf_htons(0xffc0)) == bpf_htons(0xfe80);
}

/* An interface of a network namespace, where that has link-local connections. */
struct interface {
	__u64 netns_cookie;
	__u32 index;
	__u32 pad;
};

struct interface_name {
	char name[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct interface);
	__type(value, struct interface_name);
} interfaces SEC(".maps");

#define DEV_INDEX_HASH	256	/* NETDEV_HASHENTRIES */

/* Keeps the name of the interface for user space, which may not be able to enter the namespace. */
static __own_frame int name_interface(struct net *net, const struct tuple *t)
{
	struct interface key = { .netns_cookie = t->netns_cookie, .index = t->scope_id };
	struct interface_name name;
	void *buckets = BPF_CORE_READ(net, dev_index_head);
	struct hlist_node *node = NULL;

	bpf_probe_read_kernel(&node, sizeof(node), buckets + (t->scope_id & (DEV_INDEX_HASH - 1)) * sizeof(struct hlist_head));
	for (int i = 0; i < 8 && node; i++) {
		struct net_device *dev = (void *)node - bpf_core_field_offset(struct net_device, index_hlist);

		if (BPF_CORE_READ(dev, ifindex) == (int)t->scope_id) {
			bpf_probe_read_kernel_str(&name, sizeof(name), &dev->name);
			bpf_map_update_elem(&interfaces, &key, &name, 0);
			break;
		}
		node = BPF_CORE_READ(node, next);
	}
	return 0;
}

/*
 * Reads addresses and ports of a socket or a minisock: both begin with a sock_common.
 * An IPv6 socket that speaks IPv4 is shown as IPv4. A port of 0 is not chosen yet, or
 * has been given back.
 */
static __always_inline void read_ends(struct tuple *t, struct sock_common *skc)
{
	__u32 ports = CORE_LOAD(struct sock_common, skc, skc_portpair);
	__u64 addrs;

	__builtin_memset(t, 0, sizeof(*t));
	t->family = CORE_LOAD(struct sock_common, skc, skc_family);
	t->dport = bpf_ntohs((__u16)ports);
	t->sport = ports >> 16;

	if (t->family == AF_INET6) {
		bpf_core_read(t->saddr, 16, &skc->skc_v6_rcv_saddr);
		bpf_core_read(t->daddr, 16, &skc->skc_v6_daddr);
		/* One address may be empty: a listener has no remote one, a socket bound to :: no local one. */
		if (!v4_mapped(t->daddr) && !v4_mapped(t->saddr)) {
			if (link_local(t->saddr) || link_local(t->daddr))
				t->scope_id = BPF_CORE_READ(skc, skc_bound_dev_if);
			return;
		}
		t->family = AF_INET;
		__builtin_memset(t->saddr, 0, 16);
		__builtin_memset(t->daddr, 0, 16);
	}
	addrs = CORE_LOAD(struct sock_common, skc, skc_addrpair);
	*(__u32 *)t->saddr = addrs >> 32;
	*(__u32 *)t->daddr = (__u32)addrs;
}

static __always_inline void read_tuple(struct tuple *t, struct sock_common *skc)
{
	struct net *net = BPF_CORE_READ(skc, skc_net.net);

	read_ends(t, skc);
	t->netns = CORE_LOAD(struct net, net, ns.inum);
	t->netns_cookie = CORE_LOAD(struct net, net, net_cookie);
	if (t->scope_id)
		name_interface(net, t);
}

static __always_inline void read_ports(struct tuple *t, struct sock *sk)
{
	t->dport = bpf_ntohs(sk->__sk_common.skc_dport);
	t->sport = sk->__sk_common.skc_num;
}

/* Like read_tuple(), with loads instead of helpers: the verifier knows the type of sk. */
static __always_inline void read_sock_tuple(struct tuple *t, struct sock *sk)
{
	struct sock_common *skc = &sk->__sk_common;
	struct net *net;

	if (skc->skc_family != AF_INET) {
		read_tuple(t, skc);
		return;
	}
	__builtin_memset(t, 0, sizeof(*t));
	read_ports(t, sk);
	t->family = AF_INET;
	net = skc->skc_net.net;
	t->netns = net->ns.inum;
	t->netns_cookie = net->net_cookie;
	*(__u32 *)t->saddr = skc->skc_rcv_saddr;
	*(__u32 *)t->daddr = skc->skc_daddr;
}

#endif
