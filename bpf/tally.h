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
#include "handler.h"

/* Powers of two above the last state, reason, detail and role: a mask keeps an index in range. */
#define STATES	16
#define REASONS	32
#define DETAILS	32
#define ROLES	4

_Static_assert(REASON_COUNT <= REASONS, "a reason has no place in the totals");
_Static_assert(DETAIL_COUNT <= DETAILS, "a detail has no place in the totals");
_Static_assert(ROLE_COUNT <= ROLES, "a role has no place in the totals");

struct totals {
	__u64 edges[ROLES][STATES][STATES];	/* [role][from][to] */
	__u64 ends[ROLES][STATES][REASONS];	/* edges to CLOSED, by reason */
	__u64 details[STATES][DETAILS];	/* those of them that have a detail */
	__s64 live[STATES];		/* entered less left; only the sum over all CPUs has a meaning */
	__u64 rearms;			/* of timewait timers, in TIME_WAIT */
	__u64 ungrouped;		/* transitions for whose group there was no room */
	__u64 gone[STATES];		/* live sockets whose end no program was run for */
};

/*
 * Durations that are counted apart from the others of their state, so that they cost no
 * second count. User space adds them up.
 */
enum durations_apart {
	HANDSHAKES = STATES,		/* SYN_SENT that became ESTABLISHED */
	SESSIONS,			/* ESTABLISHED, by role */
	ALL_DURATIONS = SESSIONS + ROLES,
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
	__uint(max_entries, ALL_DURATIONS);
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
	SPLIT_HANDLER,		/* comm */
	SPLIT_DESTINATION,	/* of a client: the remote address and port */
	SPLIT_COUNT,
};

/* A name, and one of the states. */
struct group_key {
	__u8 bytes[16];
	__u64 id;
	__u32 state;
	__u32 pad;
};

struct group_sums {
	__s64 live;
	__u64 entered;
	__u64 left;
	__u64 timed;		/* only without group_buckets: the counts add up to it */
	__u64 total_ns;
};

/* One state of one group. Without group_buckets, user space makes the values end after sums. */
struct group {
	struct group_sums sums;
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

/* Why sockets of a group have ended. */
struct group_end_key {
	__u8 bytes[16];
	__u64 id;
	__u32 reason;		/* enum reason */
	__u32 pad;
};

/* User space sizes it if split_by is set. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct group_end_key);
	__type(value, __u64);
} group_ends SEC(".maps");

/* Totals are kept. User space turns them off if nobody asks for them, and in raw mode. */
const volatile __u8 totals_on = 1;

/* Of the durations of a group, each is kept in a bucket, and not their sum alone. */
const volatile __u8 group_buckets = 1;

/* The group in a record, which has it only if the totals are split. */
#define group_of(info) (split_by ? &(info)->group : NULL)

/* An empty group; too large for the stack. */
static const struct group no_group;

static __always_inline struct totals *get_totals(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&totals, &zero);
}

static __always_inline void tally_edge(const struct event *e)
{
	struct totals *tot = get_totals();
	__u32 from = e->from & (STATES - 1), role = e->role & (ROLES - 1);

	if (!tot)
		return;
	atomic_add(&tot->edges[role][from][e->to & (STATES - 1)], 1);
	if (e->to != TCP_CLOSE)
		return;
	atomic_add(&tot->ends[role][from][e->reason & (REASONS - 1)], 1);
	if (e->detail)
		atomic_add(&tot->details[from][e->detail & (DETAILS - 1)], 1);
}

static __always_inline void tally_duration(const struct event *e, __u64 ns)
{
	__u32 i = histogram_bucket(ns), of = e->from;
	struct durations *d;

	if (of == TCP_ESTABLISHED)
		of = SESSIONS + (e->role & (ROLES - 1));
	else if (of == TCP_SYN_SENT && e->to == TCP_ESTABLISHED)
		of = HANDSHAKES;
	d = bpf_map_lookup_elem(&durations, &of);
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

static __always_inline void name_group(struct group_name *name, const struct tuple *t, const struct owner *owner, __u8 role,
				       __u64 cookie)
{
	struct handler *handler;

	__builtin_memset(name, 0, sizeof(*name));
	switch (split_by) {
	case SPLIT_PORT:
		if (role != ROLE_UNKNOWN)
			name->id = role == ROLE_CLIENT ? t->dport : t->sport;
		break;
	case SPLIT_REMOTE:
		__builtin_memcpy(name->bytes, t->daddr, 16);
		name->id = t->family;
		break;
	case SPLIT_PID:
		name->id = owner->pid;
		break;
	case SPLIT_COMM:
		if (owner->pid)
			__builtin_memcpy(name->bytes, owner->comm, COMM_LEN);
		break;
	case SPLIT_NETNS:
		name->id = t->netns;
		*(__u64 *)name->bytes = t->netns_cookie;
		break;
	case SPLIT_CGROUP:
		name->id = owner->cgroup_id;
		break;
	case SPLIT_HANDLER:
		handler = find_handler(cookie);
		if (handler)
			__builtin_memcpy(name->bytes, handler->comm, COMM_LEN);
		break;
	case SPLIT_DESTINATION:
		if (role != ROLE_CLIENT)
			break;
		__builtin_memcpy(name->bytes, t->daddr, 16);
		name->id = (__u32)t->dport << 16 | t->family;
		break;
	}
}

/*
 * Finds or adds one state of a group. NULL if there is no room. Until 6.2 the key of
 * a map had to lie in the function's own frame, so it is copied.
 */
static __always_inline struct group *find_group(const struct group_name *of, __u32 state)
{
	struct group_key key = { .id = of->id, .state = state };
	struct group *g;

	__builtin_memcpy(key.bytes, of->bytes, sizeof(key.bytes));
	g = bpf_map_lookup_elem(&groups, &key);
	if (g)
		return g;
	bpf_map_update_elem(&groups, &key, &no_group, BPF_NOEXIST);
	return bpf_map_lookup_elem(&groups, &key);
}

/* Returns 1 if there was no room. */
__verified_once int tally_group_entered(struct group_name *name, __u32 state)
{
	struct group *g = name ? find_group(name, state) : NULL;

	if (!g)
		return 1;
	atomic_add(&g->sums.entered, 1);
	return 0;
}

/* Returns 1 if there was no room. */
__verified_once int tally_group_left(struct group_name *name, __u32 state, __u64 ns, bool timed)
{
	struct group *g = name ? find_group(name, state) : NULL;
	__u32 i;

	if (!g)
		return 1;
	atomic_add(&g->sums.left, 1);
	if (!timed)
		return 0;
	atomic_add(&g->sums.total_ns, ns);
	if (!group_buckets) {
		atomic_add(&g->sums.timed, 1);
		return 0;
	}
	i = histogram_index(ns);
	if (i >= HISTOGRAM_BUCKETS)
		return 0;
	keep_max(&g->max_ns, ns);
	atomic_add(&g->counts[i], 1);
	return 0;
}

/* Returns 1 if there was no room. */
__verified_once int tally_group_end(struct group_name *name, __u32 reason)
{
	struct group_end_key key = { .reason = reason };
	__u64 zero = 0, *n;

	if (!name)
		return 1;
	key.id = name->id;
	__builtin_memcpy(key.bytes, name->bytes, sizeof(key.bytes));
	n = bpf_map_lookup_elem(&group_ends, &key);
	if (!n) {
		bpf_map_update_elem(&group_ends, &key, &zero, BPF_NOEXIST);
		n = bpf_map_lookup_elem(&group_ends, &key);
	}
	if (!n)
		return 1;
	atomic_add(n, 1);
	return 0;
}

__verified_once int tally_group_live(struct group_name *name, __u32 from, __u32 to)
{
	struct group *g;

	if (name && from) {
		g = find_group(name, from);
		if (g)
			atomic_add(&g->sums.live, -1);
	}
	if (name && to) {
		g = find_group(name, to);
		if (g)
			atomic_add(&g->sums.live, 1);
	}
	return 0;
}

/*
 * Moves a socket between live counts. State 0: it is not counted. group: NULL if
 * the totals are not split.
 */
static __always_inline int tally_move_inlined(struct group_name *group, __u32 from, __u32 to)
{
	struct totals *tot;

	if (!totals_on)
		return 0;
	tot = get_totals();
	if (!tot)
		return 0;
	if (from)
		atomic_add(&tot->live[from & (STATES - 1)], -1);
	if (to)
		atomic_add(&tot->live[to & (STATES - 1)], 1);
	if (split_by)
		tally_group_live(group, from, to);
	return 0;
}

__verified_once int tally_move(struct group_name *group, __u32 from, __u32 to)
{
	return tally_move_inlined(group, from, to);
}

/* A socket that was counted as live in this state is gone, and no program was run for that. */
__verified_once int tally_gone(struct group_name *group, __u32 state)
{
	struct totals *tot = totals_on ? get_totals() : NULL;

	if (tot)
		atomic_add(&tot->gone[state & (STATES - 1)], 1);
	return tally_move(group, state, 0);
}

static __always_inline void tally(const struct event *e)
{
	/* PRECISION_AT_LEAST gives no duration. */
	bool timed = e->since_ns && e->since_ns <= e->time_ns &&
		     (e->precision == PRECISION_EXACT || e->precision == PRECISION_JIFFY);
	struct group_name name;
	int full = 0;

	tally_edge(e);
	if (timed)
		tally_duration(e, e->time_ns - e->since_ns);
	if (!split_by)
		return;
	name_group(&name, &e->tuple, &e->owner, e->role, e->cookie);
	if (e->to != TCP_CLOSE)
		full = tally_group_entered(&name, e->to);
	else
		full = tally_group_end(&name, e->reason);
	/* LISTEN -> SYN_RECV is the birth of a child: the listener leaves no state. */
	if (e->from != TCP_CLOSE && (e->from != TCP_LISTEN || e->to == TCP_CLOSE))
		full |= tally_group_left(&name, e->from, e->time_ns - e->since_ns, timed);
	if (full)
		tally_ungrouped();
}

#endif
