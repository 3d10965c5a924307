/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Where the records of sockets and minisocks are found. To add to a hash map of
 * the kernel's, and to take from it, costs more than all else that is done for a
 * transition; socket storage costs as much. So a record is in an array, at the
 * place that its key says; only what finds its place taken goes into a hash.
 */
#ifndef FINWAIT_RECORDS_H
#define FINWAIT_RECORDS_H

#include "kernel.h"
#include "maps.h"
#include "filter.h"

/* How many are in each hash: while none is, it is not asked. */
__u32 sockets_spilled;
__u32 minisocks_spilled;

/* A socket has found no room since the start. */
__u32 sockets_full;

/* Too large for the stack. */
static const struct sock_info no_socket;

/* A number for an address: of a pointer the verifier allows no other arithmetic than its distance to another. */
static __always_inline __u64 socket_key(struct sock *sk)
{
	return (__u64)sk - (__u64)&sockets_spilled;
}

/* Multiplicative hashing (Knuth, TAOCP 6.4) of what differs between the addresses of sockets. */
static __always_inline __u32 socket_slot(__u64 key)
{
	return (key >> 6) * 0x9e3779b97f4a7c15 >> 32 & (SOCKET_SLOTS - 1);
}

static __always_inline struct sock_info *socket_in(__u32 slot)
{
	return bpf_map_lookup_elem(&socket_slots, &slot);
}

/* The record of a full socket, or of an earlier one at its address (same_socket()). */
static __always_inline struct sock_info *find_socket(struct sock *sk)
{
	__u64 key = socket_key(sk);
	__u32 slot = socket_slot(key);
	struct sock_info *info;

	info = socket_in(slot);
	if (info && info->key == key)
		return info;
	info = socket_in(slot ^ 1);
	if (info && info->key == key)
		return info;
	return sockets_spilled ? bpf_map_lookup_elem(&sockets, &key) : NULL;
}

/*
 * False if it is of an earlier one at this address, whose end was missed. No two have one
 * cookie; but a child has none at first (half_made()).
 */
static __always_inline bool same_socket(const struct sock_info *info, __u64 cookie)
{
	return !info->cookie || info->cookie == cookie;
}

/*
 * Nothing is known but that something was; that is still counted as live. The key
 * is not touched: while it is 0 another CPU can take the place.
 */
static __always_inline void clear_socket(struct sock_info *info)
{
	__u32 counted = info->counted;
	bool spilled = info->spilled;

	__builtin_memset(&info->since_ns, 0, sizeof(*info) - __builtin_offsetof(struct sock_info, since_ns));
	info->counted = counted;
	info->spilled = spilled;
}

static __always_inline bool take_socket_slot(struct sock_info *slot, __u64 key)
{
	__u64 taken;

	if (!slot)
		return false;
	taken = cmpxchg(&slot->key, 0, key);
	if (!taken)
		clear_socket(slot);
	return !taken || taken == key;
}

/* Before 6.7 an update can also fail because the bucket is busy, on the same CPU. */
static __always_inline bool is_full(long err)
{
	return err == -E2BIG || err == -ENOMEM;
}

/*
 * A record for a socket that has none. NULL if there is no room. No other CPU does
 * the same: hooks and the iterator find the socket locked.
 */
static __always_inline struct sock_info *add_socket(struct sock *sk)
{
	__u64 key = socket_key(sk);
	__u32 slot = socket_slot(key);
	struct sock_info *info;
	long err;

	info = socket_in(slot);
	if (take_socket_slot(info, key))
		return info;
	info = socket_in(slot ^ 1);
	if (take_socket_slot(info, key))
		return info;
	atomic_add(&sockets_spilled, 1);
	err = bpf_map_update_elem(&sockets, &key, &no_socket, BPF_NOEXIST);
	if (err)
		atomic_add(&sockets_spilled, -1);
	if (is_full(err))
		sockets_full = 1;
	info = bpf_map_lookup_elem(&sockets, &key);
	if (info) {
		info->key = key;
		info->spilled = 1;
	}
	return info;
}

static __always_inline void drop_socket(struct sock_info *info)
{
	__u64 key = info->key;

	if (!info->spilled)
		xchg(&info->key, 0);
	else if (!bpf_map_delete_elem(&sockets, &key))
		atomic_add(&sockets_spilled, -1);
}

/*
 * Cookies are given one after the other, to each CPU from a batch of its own
 * (gen_cookie_next()): the lowest bits spread them better than a hash could.
 */
static __always_inline __u32 mini_slot(__u64 cookie)
{
	return cookie & (n_minisock_slots - 1);
}

static __always_inline struct mini_info *mini_in(__u32 slot)
{
	return bpf_map_lookup_elem(&minisock_slots, &slot);
}

/* By cookie, or by address where there is no cookie. Either is a key of the hash. */
static __always_inline struct mini_info *find_spilled(__u64 key)
{
	return minisocks_spilled ? bpf_map_lookup_elem(&minisocks, &key) : NULL;
}

static __always_inline void drop_spilled(__u64 key)
{
	if (minisocks_spilled && !bpf_map_delete_elem(&minisocks, &key))
		atomic_add(&minisocks_spilled, -1);
}

/* 0, or an errno less than 0; what is there already stays (EEXIST). */
static __always_inline long spill(__u64 key, const struct mini_info *info)
{
	long err;

	atomic_add(&minisocks_spilled, 1); /* first: another CPU may look for it at once */
	err = bpf_map_update_elem(&minisocks, &key, info, BPF_NOEXIST);
	if (err)
		atomic_add(&minisocks_spilled, -1);
	if (is_full(err))
		minisocks_full = 1;
	return err;
}

/* The cookie is not 0: that is what a free place has. */
static __always_inline struct mini_info *find_record(__u64 cookie)
{
	struct mini_info *slot = mini_in(mini_slot(cookie));

	return slot && slot->cookie == cookie ? slot : find_spilled(cookie);
}

/* What find_record() has found, unless it has been dropped since. */
static __always_inline void drop_record(struct mini_info *info, __u64 cookie)
{
	if (info->spilled)
		drop_spilled(cookie);
	else
		cmpxchg(&info->cookie, cookie, 0);
}

/* As spill(). Not into the place of one that another CPU may be looking at, if elsewhere. */
static __always_inline long add_record(__u64 cookie, struct mini_info *info, bool elsewhere)
{
	struct mini_info *slot = mini_in(mini_slot(cookie));
	__u64 holds;

	info->spilled = 1;
	if (!slot || elsewhere)
		return spill(cookie, info);
	holds = cmpxchg(&slot->cookie, 0, cookie);
	if (holds)
		return holds == cookie ? -EEXIST : spill(cookie, info);
	info->spilled = 0;
	__builtin_memcpy(&slot->since_ns, &info->since_ns, __builtin_offsetof(struct mini_info, owner) - __builtin_offsetof(struct mini_info, since_ns));
	if (owners) {
		slot->owner = info->owner;
		slot->closer = info->closer;
	}
	return 0;
}

#endif
