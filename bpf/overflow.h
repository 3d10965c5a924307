/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Has the kernel refused a socket its minisock, for tcp_max_tw_buckets? Nothing in the
 * socket says so. But tcp_time_wait() counts a TCPTimeWaitOverflow just before it closes
 * the socket, on the same CPU, in the counters of the namespace for that CPU. A count
 * that has moved since this CPU last looked is the answer.
 */
#ifndef FINWAIT_OVERFLOW_H
#define FINWAIT_OVERFLOW_H

#include "kernel.h"
#include "compat.h"

/* The number of TCPTimeWaitOverflow (LINUX_MIB_*, include/uapi/linux/snmp.h), which moves between kernels. */
const volatile __u32 overflow_mib;

struct cpu_slot {
	__u64 address;		/* of this slot */
	__u64 map;		/* of the kernel's struct bpf_array */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct cpu_slot);
} cpu_slots SEC(".maps");

struct overflow_key {
	__u64 netns_cookie;
	__u64 cpu;
};

/* The count as last read. Only namespaces near their limit are here. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct overflow_key);
	__type(value, __u64);
} overflows SEC(".maps");

/*
 * What is to be added to a per-CPU address to get this CPU's: the difference between
 * where this CPU's slot of an array of our own is and where the kernel says that the
 * array is. The verifier permits no arithmetic on these two pointers, so they are
 * written to memory and read back as numbers. 0: not known.
 */
static __always_inline __u64 cpu_offset(void)
{
	volatile struct cpu_slot *slot;
	__u64 base = 0;
	__u32 zero = 0;

	slot = bpf_map_lookup_elem(&cpu_slots, &zero);
	if (!slot)
		return 0;
	slot->address = (__u64)slot;
	slot->map = (__u64)&cpu_slots;
	if (bpf_probe_read_kernel(&base, sizeof(base), (void *)(slot->map + bpf_core_field_offset(struct bpf_array, pptrs))))
		return 0;
	return slot->address - base;
}

/*
 * Reads this CPU's count. True if it has moved since the last time. Without a last time
 * only a count of 0 is known not to have moved: otherwise `unknown` is returned.
 */
static __own_frame int overflow_moved(struct sock *sk, bool unknown)
{
	struct net *net = BPF_CORE_READ(sk, __sk_common.skc_net.net);
	struct overflow_key key = {
		.netns_cookie = BPF_CORE_READ(net, net_cookie),
		.cpu = bpf_get_smp_processor_id(),
	};
	__u64 offset = cpu_offset(), counters = (__u64)BPF_CORE_READ(net, mib.net_statistics);
	__u64 count = 0, *last;
	bool moved;

	if (!offset || bpf_probe_read_kernel(&count, sizeof(long), (void *)(counters + offset + overflow_mib * sizeof(long))))
		return unknown;
	last = bpf_map_lookup_elem(&overflows, &key);
	if (!last) {
		bpf_map_update_elem(&overflows, &key, &count, 0);
		return count && unknown;
	}
	moved = *last != count;
	*last = count;
	return moved;
}

#endif
