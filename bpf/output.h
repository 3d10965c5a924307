/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The way out: where a transition is counted, whether or not it is shown, and how an event leaves. */
#ifndef FINWAIT_OUTPUT_H
#define FINWAIT_OUTPUT_H

#include "kernel.h"
#include "event.h"
#include "tally.h"

/* Without a stream there are only totals. */
const volatile __u8 stream = 1;

/* Show what the hooks see instead of what it means. */
const volatile __u8 raw;

/*
 * Where every transition went. Only ever added to, atomically: a handler can
 * be interrupted by one for another socket on the same CPU.
 */
struct account {
	__u64 seen;
	__u64 filtered;
	__u64 delivered;	/* to the ring buffer; without a stream, to the totals */
	__u64 ring_full;
	__u64 map_full;
	__u64 rescued;		/* handed to set_state by a program that takes over */
	__u64 births_rescued;	/* told by twsk_schedule in place of twsk_alloc */
	__u64 missed;		/* no program was run; the next transition of the socket tells */
	__u64 unwind_failed;	/* timer cancelled, but the kernel gave no stack to tell why */
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

/* User space sets the size before loading. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} events SEC(".maps");

/* User space sleeps without a timer and wants to be woken by the next event. */
__u32 reader_sleeps;

/* Half of the ring: past this the reader is woken at once, and once. */
const volatile __u64 wake_bytes = 2048;

/* The ring was fuller than that when it was last looked at. */
__u8 half_full;

static __always_inline void output(struct event *e)
{
	bool fuller = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) >= wake_bytes;
	bool sleeps = reader_sleeps, wake = sleeps || (fuller && !half_full);

	if (fuller != half_full)
		half_full = fuller;
	if (sleeps)
		reader_sleeps = 0;
	if (!bpf_ringbuf_output(&events, e, sizeof(*e), wake ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP)) {
		count(delivered);
		return;
	}
	count(ring_full);
	/* The wake-up went with the event. */
	if (wake)
		half_full = 0;
	if (sleeps)
		reader_sleeps = 1;
}

/*
 * Where every transition that passes the filters ends: in the totals and in the
 * stream, as far as there are any.
 */
__verified_once int deliver(struct event *e)
{
	if (!e)
		return 0;
	if (totals_on)
		tally(e);
	if (stream)
		output(e);
	else
		count(delivered);
	return 0;
}

#endif
