/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * All differences between kernels. A struct flavour (name___kernel) describes how
 * an older or newer kernel spells the same thing. The presence of a field decides,
 * never the kernel's version.
 */
#ifndef FINWAIT_COMPAT_H
#define FINWAIT_COMPAT_H

#include "kernel.h"

/* CONFIG_HZ */
const volatile __u32 hz = 250;

/* Since 6.2. */
extern void *bpf_rdonly_cast(const void *obj, __u32 type) __weak __ksym;

/*
 * Reads a scalar at an address whose type the verifier does not know. From 6.2 on
 * the verifier can be told the type, and this is a load. Before, it is a call of a
 * helper, which takes 10 ns.
 */
#define CORE_LOAD(type, addr, field) ({								\
	__typeof_unqual__(((type *)0)->field) val_;						\
												\
	if (bpf_rdonly_cast)									\
		val_ = ((type *)bpf_rdonly_cast(addr, bpf_core_type_id_kernel(type)))->field;	\
	else											\
		bpf_core_read(&val_, sizeof(val_), &((type *)(addr))->field);			\
	val_;											\
})

/* Since 5.17. */
enum bpf_func_id___5_17 {
	BPF_FUNC_loop___5_17 = 181,
};

/* Calls step with 0 to n - 1, until it returns other than 0. step can be a loop to the verifier before 5.17. */
#define loop_until(n, step, ctx)								\
	do {											\
		if (bpf_core_enum_value_exists(enum bpf_func_id___5_17, BPF_FUNC_loop___5_17))	\
			bpf_loop(n, step, ctx, 0);						\
		else										\
			for (__u32 turn_ = 0; turn_ < (n) && !step(turn_, ctx); turn_++)	\
				;								\
	} while (0)

/*
 * Before 6.1 cgroup->ancestor_ids held the ids themselves; 7f203bc89eb6
 * ("cgroup: Replace cgroup->ancestor_ids[] with ->ancestors[]") keeps pointers.
 */
struct cgroup___5_15 {
	__u64 ancestor_ids[16];
} __core;

struct cgroup___6_1 {
	struct cgroup *ancestors[16];
} __core;

static __always_inline __u64 cgroup_id(struct cgroup *cgrp)
{
	return BPF_CORE_READ(cgrp, kn, id);
}

/* The id of the ancestor of cgrp at this level. cgrp is its own last ancestor. 0: there is none. */
static __always_inline __u64 cgroup_ancestor_id(struct cgroup *cgrp, __u32 level)
{
	__u64 entry = 0;
	__u32 at;

	if (BPF_CORE_READ(cgrp, level) < (int)level)
		return 0;

	/* CO-RE relocates the start of the array, but no index that is a variable. */
	if (bpf_core_field_exists(((struct cgroup___6_1 *)0)->ancestors))
		at = bpf_core_field_offset(struct cgroup___6_1, ancestors);
	else if (bpf_core_field_exists(((struct cgroup___5_15 *)0)->ancestor_ids))
		at = bpf_core_field_offset(struct cgroup___5_15, ancestor_ids);
	else
		return 0;

	bpf_probe_read_kernel(&entry, sizeof(entry), (void *)cgrp + at + level * sizeof(entry));
	if (bpf_core_field_exists(((struct cgroup___6_1 *)0)->ancestors))
		return entry ? cgroup_id((struct cgroup *)entry) : 0;
	return entry;
}

/*
 * When the timer of retransmissions and probes fires, in jiffies: icsk_timeout, until
 * a7c428ee8f59 ("tcp/dccp: remove icsk->icsk_timeout", 6.15) left that to the timer. Since
 * 9a5e5334adc0 ("tcp: remove icsk->icsk_retransmit_timer", 7.0) the timer is one of the sock.
 */
struct inet_connection_sock___6_12 {
	unsigned long icsk_timeout;
} __core;

struct inet_connection_sock___6_15 {
	struct timer_list icsk_retransmit_timer;
} __core;

struct sock___7_0 {
	struct timer_list tcp_retransmit_timer;
} __core;

static __always_inline __u64 retransmit_at(void *sk)
{
	if (bpf_core_field_exists(((struct sock___7_0 *)0)->tcp_retransmit_timer))
		return CORE_LOAD(struct sock___7_0, sk, tcp_retransmit_timer.expires);
	if (bpf_core_field_exists(((struct inet_connection_sock___6_12 *)0)->icsk_timeout))
		return CORE_LOAD(struct inet_connection_sock___6_12, sk, icsk_timeout);
	return CORE_LOAD(struct inet_connection_sock___6_15, sk, icsk_retransmit_timer.expires);
}

/* The keepalive timer is sk_timer before 08dfe370239e ("tcp: introduce icsk->icsk_keepalive_timer", 7.0). */
struct inet_connection_sock___7_0 {
	struct timer_list icsk_keepalive_timer;
} __core;

struct sock___6_18 {
	struct timer_list sk_timer;
} __core;

/* When it fires, in jiffies; false: it is not pending. */
static __always_inline bool keepalive_at(void *sk, __u64 *at)
{
	if (bpf_core_field_exists(((struct inet_connection_sock___7_0 *)0)->icsk_keepalive_timer)) {
		*at = CORE_LOAD(struct inet_connection_sock___7_0, sk, icsk_keepalive_timer.expires);
		return CORE_LOAD(struct inet_connection_sock___7_0, sk, icsk_keepalive_timer.entry.pprev);
	}
	*at = CORE_LOAD(struct sock___6_18, sk, sk_timer.expires);
	return CORE_LOAD(struct sock___6_18, sk, sk_timer.entry.pprev);
}

/*
 * Before 6.1 the death row counted its minisocks in tw_count; e9bd0cca09d1
 * ("tcp: Don't allocate tcp_death_row outside of struct netns_ipv4.") and its
 * neighbour fbb8295248e1 made it tw_refcount, which starts at one.
 */
struct inet_timewait_death_row___5_15 {
	atomic_t tw_count;
	int sysctl_max_tw_buckets;
} __core;

/*
 * inet_twsk_alloc() fails if the namespace holds tcp_max_tw_buckets minisocks. Can
 * that have happened a moment ago? A few minisocks may have ended since, so an
 * eighth of the limit is allowed for. net: of a socket whose type the verifier knows.
 */
static __always_inline bool timewait_full(struct net *net)
{
	struct inet_timewait_death_row *row = &net->ipv4.tcp_death_row;
	int alive = 0, max;

	/* 6.0 had a pointer here, for one release: say no there. */
	if (bpf_core_field_size(net->ipv4.tcp_death_row) <= sizeof(void *))
		return false;

	if (bpf_core_field_exists(row->tw_refcount))
		alive = row->tw_refcount.refs.counter - 1;
	else
		alive = ((struct inet_timewait_death_row___5_15 *)row)->tw_count.counter;
	max = row->sysctl_max_tw_buckets;
	return alive + (max >> 3) + 1 >= max;
}

/* The count of references became __ns_ref in 6.18 ("ns: rename to __ns_ref"). */
struct ns_common___6_18 {
	refcount_t __ns_ref;
} __core;

/* Has the last reference to the namespace gone? Then its sockets send nothing any more (check_net()). */
static __always_inline bool netns_gone(struct net *net)
{
	struct ns_common *ns = &net->ns;
	int refs = 1;

	if (bpf_core_field_exists(((struct ns_common___6_18 *)ns)->__ns_ref))
		bpf_core_read(&refs, sizeof(refs), &((struct ns_common___6_18 *)ns)->__ns_ref.refs.counter);
	else if (bpf_core_field_exists(ns->count))
		bpf_core_read(&refs, sizeof(refs), &ns->count.refs.counter);
	return !refs;
}

#endif
