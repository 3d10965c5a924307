/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The audit: what the kernel's own counters of a network namespace should say (RFC
 * 1213 and TcpExt, include/uapi/linux/snmp.h), computed from the transitions. User
 * space compares the two.
 */
#ifndef FINWAIT_AUDIT_H
#define FINWAIT_AUDIT_H

#include "kernel.h"
#include "event.h"

struct netns_totals {
	__u64 syn_sent;			/* ActiveOpens, less no_syn */
	__u64 no_syn;			/* SYN_SENT, but no SYN was sent */
	__u64 passive_opens;
	__u64 attempt_fails;
	__u64 maybe_fails;		/* AttemptFails, if tcp_done() ended the socket */
	__u64 estab_resets;
	__s64 established;		/* entered less left; with close_wait: CurrEstab */
	__s64 close_wait;
	__u64 minisocks;		/* born: TW and TWKilled */
	__u64 minisocks_gone;		/* minisocks less these: sockstat's tw */
	__u64 reused;			/* TWRecycled */
	__u64 timewait_overflow;	/* TCPTimeWaitOverflow */
	__u64 lost;			/* lost transitions whose namespace is known */
};

struct netns_id {
	__u32 slot;
	__u32 inum;
};

#define NETNS_MAX	1024

/* Keyed by net_cookie: unlike an inode number it is never reused. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, NETNS_MAX);
	__type(key, __u64);
	__type(value, struct netns_id);
} namespaces SEC(".maps");

/* Indexed by slot; slot 0: namespaces beyond NETNS_MAX. User space sizes it if audit is set. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct netns_totals);
} netns_totals SEC(".maps");

const volatile __u8 audit;

__u32 netns_slots;

/* A cache of recent look-ups: cookie and slot, in one word because other CPUs write it too. */
#define RECENT_NETNS	64
static __u64 recent_netns[RECENT_NETNS];

static __own_frame __u32 cookie_slot(__u64 cookie, struct net *net)
{
	struct netns_id *known, id = {};
	volatile __u64 *recent;
	__u64 word;

	recent = &recent_netns[cookie & (RECENT_NETNS - 1)];
	word = *recent;
	if (word >> 16 == cookie)
		return word & 0xffff;
	known = bpf_map_lookup_elem(&namespaces, &cookie);
	if (known) {
		*recent = cookie << 16 | known->slot;
		return known->slot;
	}
	if (netns_slots >= NETNS_MAX - 1)
		return 0;
	id.slot = atomic_add(&netns_slots, 1) + 1;
	id.inum = BPF_CORE_READ(net, ns.inum);
	if (id.slot >= NETNS_MAX)
		return 0;
	if (!bpf_map_update_elem(&namespaces, &cookie, &id, BPF_NOEXIST))
		return id.slot;
	known = bpf_map_lookup_elem(&namespaces, &cookie); /* another CPU was first */
	return known ? known->slot : 0;
}

static __always_inline __u32 netns_slot(struct net *net)
{
	return audit ? cookie_slot(BPF_CORE_READ(net, net_cookie), net) : 0;
}

static __always_inline struct netns_totals *get_netns(__u32 slot)
{
	return bpf_map_lookup_elem(&netns_totals, &slot);
}

static __always_inline void audit_held(struct netns_totals *n, __u32 from, __u32 to)
{
	if (from == TCP_ESTABLISHED)
		atomic_add(&n->established, -1);
	if (to == TCP_ESTABLISHED)
		atomic_add(&n->established, 1);
	if (from == TCP_CLOSE_WAIT)
		atomic_add(&n->close_wait, -1);
	if (to == TCP_CLOSE_WAIT)
		atomic_add(&n->close_wait, 1);
}

/*
 * sent_syn: a failed connect() reached tcp_connect(), which counts ActiveOpens.
 * err: sk_err was set, so tcp_done() ended the socket, which counts AttemptFails;
 * close() and disconnect() do not count it. In SYN_RECV tcp_done() may find no error:
 * of a child that gets no route (tcp_v4_syn_recv_sock()), or that MPTCP rejects
 * (subflow_syn_recv_sock()).
 */
static __always_inline int audit_step(__u32 slot, __u32 from, __u32 to, bool sent_syn, bool err)
{
	struct netns_totals *n = get_netns(slot);

	if (!n)
		return 0;
	if (to == TCP_SYN_SENT)
		atomic_add(&n->syn_sent, 1);
	if (from == TCP_LISTEN && to == TCP_SYN_RECV)
		atomic_add(&n->passive_opens, 1);
	audit_held(n, from, to);
	if (to != TCP_CLOSE)
		return 0;
	if (from == TCP_SYN_SENT && !sent_syn && !err)
		atomic_add(&n->no_syn, 1);
	if ((from == TCP_SYN_SENT || from == TCP_SYN_RECV) && err)
		atomic_add(&n->attempt_fails, 1);
	if (from == TCP_SYN_RECV && !err)
		atomic_add(&n->maybe_fails, 1);
	if (from == TCP_ESTABLISHED || from == TCP_CLOSE_WAIT)
		atomic_add(&n->estab_resets, 1);
	return 0;
}

__verified_once int audit_overflow(__u32 slot)
{
	struct netns_totals *n = get_netns(slot);

	if (n)
		atomic_add(&n->timewait_overflow, 1);
	return 0;
}

__verified_once int audit_lost(__u32 slot)
{
	struct netns_totals *n = get_netns(slot);

	if (n)
		atomic_add(&n->lost, 1);
	return 0;
}

/* No program was run for a transition, or several, from one state to the other. */
__verified_once int audit_missed(__u32 slot, __u32 from, __u32 to)
{
	struct netns_totals *n = get_netns(slot);

	if (!n)
		return 0;
	atomic_add(&n->lost, 1);
	audit_held(n, from, to);
	return 0;
}

__verified_once int audit_mini_born(__u32 slot)
{
	struct netns_totals *n = get_netns(slot);

	if (n)
		atomic_add(&n->minisocks, 1);
	return 0;
}

/* known: its birth has been counted, or it existed before. */
__verified_once int audit_mini_gone(__u32 slot, __u32 reason, bool known)
{
	struct netns_totals *n = get_netns(slot);

	if (!n)
		return 0;
	if (known)
		atomic_add(&n->minisocks_gone, 1);
	if (reason == REASON_REUSED)
		atomic_add(&n->reused, 1);
	return 0;
}

#endif
