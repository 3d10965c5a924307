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
#include "event.h"
#include "maps.h"

#define FILTER_MAX 16

struct cidr {
	__u32 addr[4];		/* network order; IPv4 in the first word */
	__u32 mask[4];
	__u16 family;
	__u16 port;		/* of the same end; 0: any */
	__u32 scope_id;		/* of a link-local address; 0: any */
	__u64 netns_cookie;	/* in which scope_id counts; 0: any */
};

struct cgroup_filter {
	__u64 id;
	__u32 level;
	__u32 pad;
};

struct port_range {
	__u16 first;
	__u16 last;		/* included */
};

/* How many entries of each list are in use; 0: the filter is off. */
const volatile __u32 n_ports, n_local_ports, n_remote_ports, n_cidrs, n_pids, n_comms, n_netns, n_cgroups, n_cookies;
const volatile __u32 n_not_ports, n_not_cidrs, n_not_pids, n_not_comms;

const volatile struct port_range ports[FILTER_MAX];
const volatile struct port_range local_ports[FILTER_MAX];
const volatile struct port_range remote_ports[FILTER_MAX];
const volatile struct cidr cidrs[FILTER_MAX];
const volatile __u32 pids[FILTER_MAX];
const volatile __u8 comms[FILTER_MAX][COMM_LEN] __attribute__((aligned(8)));
const volatile __u64 netns[FILTER_MAX];	/* cookies */
const volatile struct cgroup_filter cgroups[FILTER_MAX];
const volatile __u64 cookies[FILTER_MAX];	/* of sockets */
const volatile __u16 only_family;
const volatile __u8 only_role;		/* enum role; 0: any */
const volatile __u8 cidrs_with_port;	/* some of cidrs or not_cidrs ask for a port */

/* What matches one of these does not pass. What is not known matches none. */
const volatile struct port_range not_ports[FILTER_MAX];
const volatile struct cidr not_cidrs[FILTER_MAX];
const volatile __u32 not_pids[FILTER_MAX];
const volatile __u8 not_comms[FILTER_MAX][COMM_LEN] __attribute__((aligned(8)));

/* At least one of the filters above is on. */
const volatile __u8 filters_connections;

/* Bit `to` of edges[from] lets the transition from -> to pass. */
const volatile __u16 edges[16];
const volatile __u8 filter_edges;
const volatile __u64 min_duration_ns;

/* Bit `reason` lets a transition with this reason pass; 0: the filter is off. */
const volatile __u32 only_reasons;

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

#define DEFINE_LIST(list, param, entry_matches)					\
static __always_inline bool in_##list(param)					\
{										\
	for (__u32 i = 0; i < FILTER_MAX; i++) {				\
		if (i >= n_##list)						\
			break;							\
		if (entry_matches(list[i]))					\
			return true;						\
	}									\
	return false;								\
}

#define HAS_PORT(range) ((range).first <= port && port <= (range).last)
#define IS_VALUE(entry) ((entry) == value)
#define HOLDS_AN_END(cidr) cidr_matches(&(cidr), t)
#define IS_COMM(want) same_comm(want, comm)

static __always_inline bool cidr_holds(const volatile struct cidr *c, const __u8 *addr, __u16 port)
{
	const __u32 *a = (const __u32 *)addr;

	if (c->port && c->port != port)
		return false;
	for (__u32 w = 0; w < 4; w++) {
		if ((a[w] & c->mask[w]) != c->addr[w])
			return false;
	}
	return true;
}

static __always_inline bool cidr_matches(const volatile struct cidr *c, const struct tuple *t)
{
	if (c->family != t->family)
		return false;
	if (c->scope_id && c->scope_id != t->scope_id)
		return false;
	if (c->netns_cookie && c->netns_cookie != t->netns_cookie)
		return false;
	return cidr_holds(c, t->saddr, t->sport) || cidr_holds(c, t->daddr, t->dport);
}

static __always_inline bool same_comm(const volatile __u8 *a, const __u8 *b)
{
	const volatile __u64 *want = (const volatile __u64 *)a;
	const __u64 *have = (const __u64 *)b;

	return want[0] == have[0] && want[1] == have[1];
}

DEFINE_LIST(ports, __u16 port, HAS_PORT)
DEFINE_LIST(local_ports, __u16 port, HAS_PORT)
DEFINE_LIST(remote_ports, __u16 port, HAS_PORT)
DEFINE_LIST(not_ports, __u16 port, HAS_PORT)
DEFINE_LIST(cidrs, const struct tuple *t, HOLDS_AN_END)
DEFINE_LIST(not_cidrs, const struct tuple *t, HOLDS_AN_END)
DEFINE_LIST(netns, __u64 value, IS_VALUE)
DEFINE_LIST(cookies, __u64 value, IS_VALUE)
DEFINE_LIST(pids, __u32 value, IS_VALUE)
DEFINE_LIST(not_pids, __u32 value, IS_VALUE)
DEFINE_LIST(comms, const __u8 *comm, IS_COMM)
DEFINE_LIST(not_comms, const __u8 *comm, IS_COMM)

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

/* Is there a port that connect() or listen() may still choose, and that decides? */
static __always_inline bool pending_port_decides(const struct tuple *t)
{
	if (n_local_ports || n_not_ports || cidrs_with_port)
		return true;
	return n_ports && !in_ports(t->dport);
}

/*
 * Does this connection pass? Before connect() or listen() has chosen a local port, a filter
 * on that port cannot be decided.
 */
__verified_once int judge_lists(const struct tuple *t, const struct owner *owner, __u64 cookie, __u32 role, bool port_pending)
{
	if (!t || !owner)
		return VERDICT_REJECT;
	if (only_family && t->family != only_family)
		return VERDICT_REJECT;
	if (only_role && role != only_role)
		return VERDICT_REJECT;
	if (n_cookies && !in_cookies(cookie))
		return VERDICT_REJECT;
	if (n_netns && !in_netns(t->netns_cookie))
		return VERDICT_REJECT;
	if (n_pids && !in_pids(owner->pid))
		return VERDICT_REJECT;
	if (n_not_pids && in_not_pids(owner->pid))
		return VERDICT_REJECT;
	if (n_comms && !(owner->pid && in_comms(owner->comm)))
		return VERDICT_REJECT;
	if (n_not_comms && owner->pid && in_not_comms(owner->comm))
		return VERDICT_REJECT;
	if (n_remote_ports && !in_remote_ports(t->dport))
		return VERDICT_REJECT;
	if (n_not_ports && in_not_ports(t->dport))
		return VERDICT_REJECT;
	if (port_pending && pending_port_decides(t))
		return VERDICT_UNDECIDED;
	if (n_local_ports && !in_local_ports(t->sport))
		return VERDICT_REJECT;
	if (n_ports && !in_ports(t->sport) && !in_ports(t->dport))
		return VERDICT_REJECT;
	if (n_not_ports && in_not_ports(t->sport))
		return VERDICT_REJECT;
	if (n_cidrs && !in_cidrs(t))
		return VERDICT_REJECT;
	if (n_not_cidrs && in_not_cidrs(t))
		return VERDICT_REJECT;
	return VERDICT_PASS;
}

static __always_inline __u8 judge(const struct tuple *t, const struct owner *owner,
				  struct cgroup *cgrp, __u64 cookie, __u32 role, bool port_pending)
{
	if (!filters_connections)
		return VERDICT_PASS;
	if (n_cgroups && !in_cgroups(cgrp))
		return VERDICT_REJECT;
	return judge_lists(t, owner, cookie, role, port_pending);
}

/* An unknown duration does not pass a minimum. */
static __always_inline bool transition_passes(const struct event *e)
{
	if (filter_edges && !(edges[e->from & 15] & (1 << (e->to & 15))))
		return false;
	if (only_reasons && !(only_reasons & (1u << (e->reason & 31))))
		return false;
	if (min_duration_ns && (!e->since_ns || e->since_ns > e->time_ns || e->time_ns - e->since_ns < min_duration_ns))
		return false;
	return true;
}

#endif
