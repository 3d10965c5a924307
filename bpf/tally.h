/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Totals of the transitions that pass the filters, whether or not anybody reads the
 * stream. Changed atomically: on the same CPU a handler can be interrupted by a
 * handler for another socket.
 */
#ifndef FINWAIT_TALLY_H
#define FINWAIT_TALLY_H

#include "kernel.h"
#include "event.h"
#include "filter.h"
#include "histogram.h"

/* Powers of two above the last state and the last reason: a mask keeps an index in range. */
#define STATES	16
#define REASONS	32

_Static_assert(REASON_COUNT <= REASONS, "a reason has no place in the totals");

struct totals {
	__u64 edges[STATES][STATES];	/* [from][to] */
	__u64 ends[STATES][REASONS];	/* edges to CLOSED, by reason */
	__s64 live[STATES];		/* entered less left; only the sum over all CPUs has a meaning */
	__u64 rearms;			/* of timewait timers, in TIME_WAIT */
	__u64 ungrouped;		/* transitions for whose group there was no room */
};

/* How long sockets stayed in one state, if a hook saw it begin. */
struct durations {
	__u64 total_ns;
	__u64 max_ns;
	__u64 counts[HISTOGRAM_BUCKETS];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct totals);
} totals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, STATES);
	__type(key, __u32);
	__type(value, struct durations);
} durations SEC(".maps");

/* By what the totals are split. */
enum split {
	SPLIT_NONE,
	SPLIT_PORT,		/* the server's */
	SPLIT_REMOTE,		/* address */
	SPLIT_PID,		/* of the owner */
	SPLIT_COMM,
	SPLIT_NETNS,
	SPLIT_CGROUP,
	SPLIT_COUNT,
};

/* All zero except state: the group's value is unknown. */
struct group_key {
	__u8 bytes[16];		/* address, comm; cookie of a network namespace */
	__u64 id;		/* port, pid, inode number; for an address its family */
	__u32 state;
	__u32 pad;
};

/* One state of one group. */
struct group {
	__s64 live;
	__u64 entered;
	__u64 left;
	__u64 total_ns;
	__u64 max_ns;
	__u64 counts[HISTOGRAM_BUCKETS];
};

/* User space sizes it if split_by is set. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct group_key);
	__type(value, struct group);
} groups SEC(".maps");

const volatile __u32 split_by;

/* Totals are kept. User space turns them off if nobody asks for them, and in raw mode. */
const volatile __u8 totals_on = 1;

/* An empty group; too large for the stack. */
static const struct group no_group;

static __always_inline struct totals *get_totals(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&totals, &zero);
}

static __always_inline void tally_edge(__u32 from, __u32 to, __u32 reason)
{
	struct totals *tot = get_totals();

	if (!tot)
		return;
	atomic_add(&tot->edges[from & (STATES - 1)][to & (STATES - 1)], 1);
	if (to == TCP_CLOSE)
		atomic_add(&tot->ends[from & (STATES - 1)][reason & (REASONS - 1)], 1);
}

static __always_inline void tally_duration(__u32 state, __u64 ns)
{
	struct durations *d = bpf_map_lookup_elem(&durations, &state);
	__u32 i = histogram_bucket(ns);

	if (!d || i >= HISTOGRAM_BUCKETS)
		return;
	keep_max(&d->max_ns, ns);
	atomic_add(&d->total_ns, ns);
	atomic_add(&d->counts[i], 1);
}

__verified_once int tally_rearm(void)
{
	struct totals *tot = get_totals();

	if (tot)
		atomic_add(&tot->rearms, 1);
	return 0;
}

__verified_once int tally_ungrouped(void)
{
	struct totals *tot = get_totals();

	if (tot)
		atomic_add(&tot->ungrouped, 1);
	return 0;
}

static __always_inline void name_group(struct group_key *key, const struct event *e)
{
	__builtin_memset(key, 0, sizeof(*key));
	switch (split_by) {
	case SPLIT_PORT:
		if (e->role != ROLE_UNKNOWN)
			key->id = e->role == ROLE_CLIENT ? e->tuple.dport : e->tuple.sport;
		break;
	case SPLIT_REMOTE:
		__builtin_memcpy(key->bytes, e->tuple.daddr, 16);
		key->id = e->tuple.family;
		break;
	case SPLIT_PID:
		key->id = e->owner.pid;
		break;
	case SPLIT_COMM:
		if (e->owner.pid)
			__builtin_memcpy(key->bytes, e->owner.comm, COMM_LEN);
		break;
	case SPLIT_NETNS:
		key->id = e->tuple.netns;
		*(__u64 *)key->bytes = e->tuple.netns_cookie;
		break;
	case SPLIT_CGROUP:
		key->id = e->owner.cgroup_id;
		break;
	}
}

/*
 * Finds or adds one state of a group. NULL if there is no room. Until 6.2 the key of
 * a map had to lie in the function's own frame, so it is copied.
 */
static __always_inline struct group *find_group(const struct group_key *of, __u32 state)
{
	struct group_key key = *of;
	struct group *g;

	key.state = state;
	g = bpf_map_lookup_elem(&groups, &key);
	if (g)
		return g;
	bpf_map_update_elem(&groups, &key, &no_group, BPF_NOEXIST);
	return bpf_map_lookup_elem(&groups, &key);
}

/* Returns 1 if there was no room. */
__verified_once int tally_group_entered(struct group_key *key, __u32 state)
{
	struct group *g = key ? find_group(key, state) : NULL;

	if (!g)
		return 1;
	atomic_add(&g->entered, 1);
	return 0;
}

/* Returns 1 if there was no room. */
__verified_once int tally_group_left(struct group_key *key, __u32 state, __u64 ns, bool timed)
{
	struct group *g = key ? find_group(key, state) : NULL;
	__u32 i;

	if (!g)
		return 1;
	atomic_add(&g->left, 1);
	if (!timed)
		return 0;
	i = histogram_index(ns);
	if (i >= HISTOGRAM_BUCKETS)
		return 0;
	keep_max(&g->max_ns, ns);
	atomic_add(&g->total_ns, ns);
	atomic_add(&g->counts[i], 1);
	return 0;
}

__verified_once int tally_group_live(struct group_key *key, __u32 from, __u32 to)
{
	struct group *g;

	if (key && from) {
		g = find_group(key, from);
		if (g)
			atomic_add(&g->live, -1);
	}
	if (key && to) {
		g = find_group(key, to);
		if (g)
			atomic_add(&g->live, 1);
	}
	return 0;
}

/* Moves a socket between live counts. State 0: it is not counted. */
static __always_inline int __tally_move(struct event *whose, __u32 from, __u32 to)
{
	struct group_key key;
	struct totals *tot;

	if (!totals_on || !whose)
		return 0;
	tot = get_totals();
	if (!tot)
		return 0;
	if (from)
		atomic_add(&tot->live[from & (STATES - 1)], -1);
	if (to)
		atomic_add(&tot->live[to & (STATES - 1)], 1);
	if (split_by) {
		name_group(&key, whose);
		tally_group_live(&key, from, to);
	}
	return 0;
}

__verified_once int tally_move(struct event *whose, __u32 from, __u32 to)
{
	return __tally_move(whose, from, to);
}

static __always_inline void tally(const struct event *e)
{
	/* PRECISION_AT_LEAST gives no duration. */
	bool timed = e->since_ns && e->since_ns <= e->time_ns &&
		     (e->precision == PRECISION_EXACT || e->precision == PRECISION_JIFFY);
	struct group_key key;
	int full = 0;

	tally_edge(e->from, e->to, e->reason);
	if (timed)
		tally_duration(e->from, e->time_ns - e->since_ns);
	if (!split_by)
		return;
	name_group(&key, e);
	if (e->to != TCP_CLOSE)
		full = tally_group_entered(&key, e->to);
	/* LISTEN -> SYN_RECV is the birth of a child: the listener leaves no state. */
	if (e->from != TCP_CLOSE && (e->from != TCP_LISTEN || e->to == TCP_CLOSE))
		full |= tally_group_left(&key, e->from, e->time_ns - e->since_ns, timed);
	if (full)
		tally_ungrouped();
}

#endif
