/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The kernel skips a tp_btf program that a softirq would run again on a CPU
 * where it is in the middle of a run (05b24ff9b2cf, 6.1). A second program on
 * the same tracepoint, called after the first, takes the transition over then.
 */
#ifndef FINWAIT_NESTED_H
#define FINWAIT_NESTED_H

#include "kernel.h"

/* Per CPU: is set_state in the middle of a run? */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} running SEC(".maps");

/* A kernel before 6.1 runs set_state inside of itself; then there is nothing to take over. */
__u32 kernel_nests;

static __always_inline void enter_set_state(void)
{
	__u32 zero = 0, *in = bpf_map_lookup_elem(&running, &zero);

	if (!in)
		return;
	if (*in)
		kernel_nests = 1;
	*in = 1;
}

static __always_inline void leave_set_state(void)
{
	__u32 zero = 0, *in = bpf_map_lookup_elem(&running, &zero);

	if (in)
		*in = 0;
}

static __always_inline bool set_state_was_skipped(void)
{
	__u32 zero = 0, *in = bpf_map_lookup_elem(&running, &zero);

	return in && *in && !kernel_nests;
}

#endif
