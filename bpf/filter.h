/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Filters are constants: the verifier removes a filter that is off. There are two
 * kinds. A connection filter is asked once per socket, and its verdict is kept, so
 * that a connection is shown whole or not at all. A transition filter is asked for
 * every transition.
 */
#ifndef FINWAIT_FILTER_H
#define FINWAIT_FILTER_H

#include "kernel.h"
#include "compat.h"
#include "maps.h"

#define FILTER_MAX 16

struct cidr {
	__u32 addr[4];		/* network order; IPv4 in the first word */
	__u32 mask[4];
	__u32 family;
	__u32 scope_id;		/* of a link-local address; 0: any */
	__u64 netns_cookie;	/* in which scope_id counts; 0: any */
};

struct cgroup_filter {
	__u64 id;
	__u32 level;
	__u32 pad;
};

/* How many entries of each list are in use; 0: the filter is off. */
const volatile __u32 n_ports, n_local_ports, n_remote_ports, n_cidrs, n_pids, n_comms, n_netns, n_cgroups;

const volatile __u16 ports[FILTER_MAX];
const volatile __u16 local_ports[FILTER_MAX];
const volatile __u16 remote_ports[FILTER_MAX];
const volatile struct cidr cidrs[FILTER_MAX];
const volatile __u32 pids[FILTER_MAX];
const volatile __u8 comms[FILTER_MAX][COMM_LEN] __attribute__((aligned(8)));
const volatile __u64 netns[FILTER_MAX];	/* cookies */
const volatile struct cgroup_filter cgroups[FILTER_MAX];
const volatile __u16 only_family;

/* At least one of the filters above is on. */
const volatile __u8 filters_connections;

/* Bit `to` of edges[from] lets the transition from -> to pass. */
const volatile __u16 edges[16];
const volatile __u8 filter_edges;
const volatile __u64 min_duration_ns;

/* Something needs to know who created or closed a socket. */
const volatile __u8 owners = 1;

/* enum split (tally.h) */
const volatile __u32 split_by;

/* Set by tests only: as if the kernel ran no program for this transition in this namespace. */
const volatile __u32 skip_netns;
const volatile __u8 skip_from, skip_to;

static __always_inline bool is_skipped(struct net *net, __u8 from, __u8 to)
{
	return skip_netns && from == skip_from && to == skip_to && BPF_CORE_READ(net, ns.inum) == skip_netns;
}

#define DEFINE_PORT_LIST(list)							\
static __always_inline bool in_##list(__u16 port)				\
{										\
	for (__u32 i = 0; i < FILTER_MAX; i++) {				\
		if (i >= n_##list)						\
			break;							\
		if (list[i] == port)						\
			return true;						\
	}									\
	return false;								\
}

DEFINE_PORT_LIST(ports)
DEFINE_PORT_LIST(local_ports)
DEFINE_PORT_LIST(remote_ports)

static __always_inline bool cidr_holds(__u32 i, const __u8 *addr)
{
	const __u32 *a = (const __u32 *)addr;

	for (__u32 w = 0; w < 4; w++) {
		if ((a[w] & cidrs[i].mask[w]) != cidrs[i].addr[w])
			return false;
	}
	return true;
}

static __always_inline bool in_cidrs(const struct tuple *t)
{
	for (__u32 i = 0; i < FILTER_MAX; i++) {
		if (i >= n_cidrs)
			break;
		if (cidrs[i].family != t->family)
			continue;
		if (cidrs[i].scope_id && cidrs[i].scope_id != t->scope_id)
			continue;
		if (cidrs[i].netns_cookie && cidrs[i].netns_cookie != t->netns_cookie)
			continue;
		if (cidr_holds(i, t->saddr) || cidr_holds(i, t->daddr))
			return true;
	}
	return false;
}

static __always_inline bool in_netns(__u64 cookie)
{
	for (__u32 i = 0; i < FILTER_MAX; i++) {
		if (i >= n_netns)
			break;
		if (netns[i] == cookie)
			return true;
	}
	return false;
}

static __always_inline bool in_pids(__u32 pid)
{
	for (__u32 i = 0; i < FILTER_MAX; i++) {
		if (i >= n_pids)
			break;
		if (pids[i] == pid)
			return true;
	}
	return false;
}

static __always_inline bool in_comms(const __u8 *comm)
{
	for (__u32 i = 0; i < FILTER_MAX; i++) {
		const volatile __u64 *want = (const volatile __u64 *)comms[i];
		const __u64 *have = (const __u64 *)comm;

		if (i >= n_comms)
			break;
		if (want[0] == have[0] && want[1] == have[1])
			return true;
	}
	return false;
}

/* cgrp: NULL for a minisock without a known socket, since a minisock has no cgroup. */
static __always_inline bool in_cgroups(struct cgroup *cgrp)
{
	if (!cgrp)
		return false;

	for (__u32 i = 0; i < FILTER_MAX; i++) {
		if (i >= n_cgroups)
			break;
		if (cgroup_ancestor_id(cgrp, cgroups[i].level) == cgroups[i].id)
			return true;
	}
	return false;
}

/*
 * Does this connection pass? Before connect() has chosen a local port, a filter on
 * that port cannot be decided.
 */
__verified_once int judge_lists(const struct tuple *t, const struct owner *owner, bool port_pending)
{
	int verdict = VERDICT_PASS;

	if (!t || !owner)
		return VERDICT_REJECT;
	if (only_family && t->family != only_family)
		return VERDICT_REJECT;
	if (n_netns && !in_netns(t->netns_cookie))
		return VERDICT_REJECT;
	if (n_pids && !in_pids(owner->pid))
		return VERDICT_REJECT;
	if (n_comms && !(owner->pid && in_comms(owner->comm)))
		return VERDICT_REJECT;
	if (n_remote_ports && !in_remote_ports(t->dport))
		return VERDICT_REJECT;
	if (n_cidrs && !in_cidrs(t))
		return VERDICT_REJECT;
	if (n_local_ports && !in_local_ports(t->sport)) {
		if (!port_pending)
			return VERDICT_REJECT;
		verdict = VERDICT_UNDECIDED;
	}
	if (n_ports && !in_ports(t->sport) && !in_ports(t->dport)) {
		if (!port_pending)
			return VERDICT_REJECT;
		verdict = VERDICT_UNDECIDED;
	}
	return verdict;
}

static __always_inline __u8 judge(const struct tuple *t, const struct owner *owner,
				  struct cgroup *cgrp, bool port_pending)
{
	if (!filters_connections)
		return VERDICT_PASS;
	if (n_cgroups && !in_cgroups(cgrp))
		return VERDICT_REJECT;
	return judge_lists(t, owner, port_pending);
}

/* An unknown duration does not pass a minimum. */
static __always_inline bool transition_passes(__u8 from, __u8 to, __u64 since_ns, __u64 now)
{
	if (filter_edges && !(edges[from & 15] & (1 << (to & 15))))
		return false;
	if (min_duration_ns && (!since_ns || since_ns > now || now - since_ns < min_duration_ns))
		return false;
	return true;
}

#endif
