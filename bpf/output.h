/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Where an event goes: to the totals and to the ring buffer. Every transition is counted, shown or not. */
#ifndef FINWAIT_OUTPUT_H
#define FINWAIT_OUTPUT_H

#include "kernel.h"
#include "event.h"
#include "handler.h"
#include "metrics.h"
#include "reset.h"
#include "stack.h"
#include "tally.h"
#include "audit.h"

/* Events go to the ring buffer. Without a stream there are only totals. */
const volatile __u8 stream = 1;

/* Show each firing of a hook, instead of what it means. */
const volatile __u8 raw;

/*
 * Where every transition went. Counters only grow, and atomically: on the same CPU
 * a handler can be interrupted by a handler for another socket.
 */
struct account {
	__u64 seen;
	__u64 filtered;
	__u64 delivered;	/* to the ring buffer; without a stream to the totals */
	__u64 ring_full;
	__u64 map_full;
	__u64 rescued;		/* set_state was skipped, and a further program did its work */
	__u64 births_rescued;	/* twsk_alloc was skipped, and twsk_schedule told the birth */
	__u64 missed;		/* no program ran: found at the next transition of the socket */
	__u64 unwind_failed;	/* a timer was cancelled, and the kernel gave no stack that says why */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct account);
} accounts SEC(".maps");

#define count(field)								\
	do {									\
		__u32 zero_ = 0;						\
		struct account *acc_ = bpf_map_lookup_elem(&accounts, &zero_);	\
		if (acc_)							\
			atomic_add(&acc_->field, 1);			\
	} while (0)

/* No program was run for a transition, or several: a later one, or the minisock, shows that. from 0: not known. */
static __always_inline void note_missed(__u32 netns_slot, __u32 from, __u32 to)
{
	if (raw)
		return;
	count(seen);
	count(missed);
	if (audit)
		audit_missed(netns_slot, from, to);
}

struct ring {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
};

/*
 * A ring for each CPU: one ring's lock and position would go from CPU to CPU with the
 * events, which takes longer than all else where the CPUs share no cache. User space
 * puts the events in order, makes the rings, and sets their size before loading.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
	__array(values, struct ring);
} rings SEC(".maps");

/* How many rings there are: a power of two. More CPUs than that share them. */
const volatile __u32 n_rings = 1;

/* User space sleeps without a timer: the next event has to wake it. */
__u32 reader_sleeps;

/* Half of a ring. The event that fills it further wakes the reader, once. */
const volatile __u64 wake_bytes = 2048;

/* The CPU's ring held more than wake_bytes when an event last looked. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} half_full SEC(".maps");

/* What user space is told beside the event. */
static __always_inline void fill_wide(struct wide_event *out, const struct event *e)
{
	struct handler *handler = find_handler(e->cookie);

	out->event = *e;
	if (handler)
		out->handler = *handler;
	else
		__builtin_memset(&out->handler, 0, sizeof(out->handler));
	find_rst_sender(&out->rst_by, e, e->cookie);
	find_metrics(&out->metrics, e, e->cookie);
	if (metrics_on || rst_senders_on)
		out->event.minisock = 0;
}

/*
 * Sends an event with the stacks. What takes little room comes first: it decides whether
 * the event needs the large one. Returns false if the ring has no room.
 */
static __own_frame int write_called(void *ring, const struct event *e, __u64 flags)
{
	struct called_event *small;
	struct user_event *large;

	small = bpf_ringbuf_reserve(ring, sizeof(*small), 0);
	if (!small)
		return false;
	fill_wide(&small->wide, e);
	if (!read_call(&small->call, e->flags & EVENT_LATE)) {
		bpf_ringbuf_submit(small, flags);
		return true;
	}
	large = bpf_ringbuf_reserve(ring, sizeof(*large), 0);
	if (!large) { /* there is a stack, of which nothing could be copied */
		bpf_ringbuf_submit(small, flags);
		return true;
	}
	bpf_probe_read_kernel(&large->called, sizeof(large->called), small);
	bpf_ringbuf_discard(small, BPF_RB_NO_WAKEUP);
	copy_user_stack(large);
	/* The process may end at once, and with it what user space reads of it. */
	bpf_ringbuf_submit(large, BPF_RB_FORCE_WAKEUP);
	return true;
}

/* False if the ring has no room. */
static __always_inline bool write_event(void *ring, struct event *e, __u64 flags)
{
	struct wide_event *out;

	if (!handlers_on && !stacks_on && !rst_senders_on && !metrics_on)
		return !bpf_ringbuf_output(ring, e, sizeof(*e), flags);
	if (stacks_on && !(e->flags & EVENT_SEGMENT))
		return write_called(ring, e, flags);
	out = bpf_ringbuf_reserve(ring, sizeof(*out), 0);
	if (!out)
		return false;
	fill_wide(out, e);
	bpf_ringbuf_submit(out, flags);
	return true;
}

/* False if the ring has no room. */
static __always_inline bool output(struct event *e)
{
	__u32 key = bpf_get_smp_processor_id() & (n_rings - 1);
	void *ring = bpf_map_lookup_elem(&rings, &key);
	bool sleeps = reader_sleeps, fuller, wake;
	__u64 *was_full;

	key = 0;
	was_full = bpf_map_lookup_elem(&half_full, &key);
	if (!ring || !was_full)
		return false; /* never: user space makes all rings */
	fuller = bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) >= wake_bytes;
	wake = sleeps || (fuller && !*was_full);
	if (fuller != *was_full)
		*was_full = fuller;
	if (sleeps)
		reader_sleeps = 0;
	if (write_event(ring, e, wake ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP))
		return true;
	/* The event was lost, and with it the wake-up: the next event tries again. */
	if (wake)
		*was_full = 0;
	if (sleeps)
		reader_sleeps = 1;
	return false;
}

/* Every transition that passes the filters comes here. */
static __always_inline int deliver_inlined(struct event *e)
{
	if (totals_on)
		tally(e);
	if (!stream || output(e))
		count(delivered);
	else
		count(ring_full);
	return 0;
}

__verified_once int deliver(struct event *e)
{
	return e ? deliver_inlined(e) : 0;
}

#endif
