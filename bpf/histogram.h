/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* The buckets of internal/histogram, which explains them. */
#ifndef FINWAIT_HISTOGRAM_H
#define FINWAIT_HISTOGRAM_H

#include "kernel.h"

#define HISTOGRAM_BUCKETS	360

/* The bucket for a duration. */
static __always_inline __u32 histogram_bucket(__u64 ns)
{
	__u64 v = ns >> 9;
	__u32 e = 9, up, index;

	if (ns >> 50)
		return HISTOGRAM_BUCKETS - 1;
	up = (v > 0xffffffff) << 5; v >>= up; e += up;
	up = (v > 0xffff) << 4;     v >>= up; e += up;
	up = (v > 0xff) << 3;       v >>= up; e += up;
	up = (v > 0xf) << 2;        v >>= up; e += up;
	up = (v > 0x3) << 1;        v >>= up; e += up;
	e += v > 0x1;

	index = (e - 9) * 8;
	if (e == 35)
		return index + (ns >> 30) - 24;
	return index + (ns >> (e - 3)) + (e > 35 ? 24 : 0);
}

/* Like histogram_bucket(), for a caller that has many branches itself. */
__verified_once __u32 histogram_index(__u64 ns)
{
	return histogram_bucket(ns);
}

/* max = MAX(max, value), lock-free; gives up after losing four races. */
static __always_inline void keep_max(__u64 *max, __u64 value)
{
	for (int i = 0; i < 4; i++) {
		__u64 old = *(volatile __u64 *)max;

		if (value <= old || cmpxchg(max, old, value) == old)
			return;
	}
}

#endif
