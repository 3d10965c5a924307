/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Where the records of sockets and minisocks are kept. To add to a hash map of the
 * kernel and to delete from it costs more than all the rest of a transition; socket
 * storage costs as much. So a record is in an array, in the slot that its key gives.
 * Only a record whose slot is taken is spilled into a hash.
 */
#ifndef FINWAIT_RECORDS_H
#define FINWAIT_RECORDS_H

#include "kernel.h"
#include "maps.h"
#include "filter.h"

/* How many records are in each hash: an empty hash is not searched. */
__u32 sockets_spilled;
__u32 minisocks_spilled;

/* 0: there has been no record of a minisock since a sweep began that found none (sweep.h). */
__u32 minisocks_recorded;

/* 0: no socket has waited for a port since a run of settle_ports began that found none waiting. */
__u32 ports_pending;

/* Since the start, the hash had no room for some socket. */
__u32 sockets_full;

/* An empty record; too large for the stack. */
static const struct sock_info no_socket;

/* The verifier forbids arithmetic on pointers except differences: the distance to a global stands for the address. */
static __always_inline __u64 socket_key(struct sock *sk)
{
	return (__u64)sk - (__u64)&sockets_spilled;
}

/* Multiplicative hashing (Knuth, TAOCP 6.4) of the bits in which the addresses of sockets differ. */
static __always_inline __u32 socket_slot(__u64 key)
{
	return (key >> 6) * 0x9e3779b97f4a7c15 >> 32 & (SOCKET_SLOTS - 1);
}

static __always_inline struct sock_info *socket_in(__u32 slot)
{
	return bpf_map_lookup_elem(&socket_slots, &slot);
}

static __always_inline struct sock_info *find_socket_by(__u64 key)
{
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

/* The record of a full socket, or of an earlier socket at the same address (same_socket()). */
static __always_inline struct sock_info *find_socket(struct sock *sk)
{
	return find_socket_by(socket_key(sk));
}

/*
 * False if the record is of an earlier socket at this address, whose end was missed. No
 * two sockets have the same cookie, but a child has none at first (half_made()).
 */
static __always_inline bool same_socket(const struct sock_info *info, __u64 cookie)
{
	return !info->cookie || info->cookie == cookie;
}

/*
 * Clears everything but the live count and its group. The key stays: a key of 0 would let another
 * CPU take the slot.
 */
static __always_inline void clear_socket(struct sock_info *info)
{
	__u32 counted = info->counted;
	bool spilled = info->spilled;

	__builtin_memset(&info->since_ns, 0, __builtin_offsetof(struct sock_info, group) - __builtin_offsetof(struct sock_info, since_ns));
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

/* Before 6.7 an update can also fail because this CPU is already using the bucket (EBUSY). */
static __always_inline bool is_full(long err)
{
	return err == -E2BIG || err == -ENOMEM;
}

/*
 * Adds a record for a socket that has none. NULL if there is no room. No other CPU
 * does the same at the same time: the socket is locked, for hooks and for the iterator.
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
	bool spilled = info->spilled;

	/* First: sweep_socket() recognises a dropped record by this. */
	xchg(&info->key, 0);
	if (spilled && !bpf_map_delete_elem(&sockets, &key))
		atomic_add(&sockets_spilled, -1);
}

/*
 * The kernel numbers cookies in order, in one batch per CPU (gen_cookie_next()): their
 * lowest bits spread better than a hash.
 */
static __always_inline __u32 mini_slot(__u64 cookie)
{
	return cookie & (n_minisock_slots - 1);
}

static __always_inline struct mini_info *mini_in(__u32 slot)
{
	return bpf_map_lookup_elem(&minisock_slots, &slot);
}

/* key: the cookie, or the address of a minisock that has no cookie. */
static __always_inline struct mini_info *find_spilled(__u64 key)
{
	return minisocks_spilled ? bpf_map_lookup_elem(&minisocks, &key) : NULL;
}

static __always_inline void drop_spilled(__u64 key)
{
	if (minisocks_spilled && !bpf_map_delete_elem(&minisocks, &key))
		atomic_add(&minisocks_spilled, -1);
}

/* Adds a record to the hash. Returns 0 or -errno; an existing record stays (-EEXIST). */
static __always_inline long spill(__u64 key, const struct mini_info *info)
{
	long err;

	atomic_add(&minisocks_spilled, 1); /* first: another CPU may search for the record at once */
	err = bpf_map_update_elem(&minisocks, &key, info, BPF_NOEXIST);
	if (err)
		atomic_add(&minisocks_spilled, -1);
	if (is_full(err))
		minisocks_full = 1;
	return err;
}

/* cookie: not 0, which marks a free slot. */
static __always_inline struct mini_info *find_record(__u64 cookie)
{
	struct mini_info *slot = mini_in(mini_slot(cookie));

	return slot && slot->cookie == cookie ? slot : find_spilled(cookie);
}

/* Deletes what find_record() has found, unless another CPU has deleted it since. */
static __always_inline void drop_record(struct mini_info *info, __u64 cookie)
{
	if (info->spilled)
		drop_spilled(cookie);
	else
		cmpxchg(&info->cookie, cookie, 0);
}

/* Like spill(). elsewhere: do not reuse the slot, another CPU may still be reading it. */
static __always_inline long add_record(__u64 cookie, struct mini_info *info, bool elsewhere)
{
	struct mini_info *slot = mini_in(mini_slot(cookie));
	__u64 holds;

	if (!minisocks_recorded)
		minisocks_recorded = 1;
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
	if (split_by)
		slot->group = info->group;
	return 0;
}

#endif
