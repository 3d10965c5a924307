/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What the kernel gives BPF programs, for programs that are compiled for the
 * host: helpers, maps, storage, a clock, a task, a stack. The structs of
 * bpf/kernel.h are the kernel's objects. Every helper and every atomic operation
 * is a point at which another CPU may run a whole program (preempt()).
 */
#ifndef SHIM_H
#define SHIM_H

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* CO-RE finds a socket's later fields; here they come after those of struct sock. A death row is larger than a pointer. */
#define inet_sport	before_sport_[130], inet_sport
#define icsk_ulp_ops	before_ulp_[33], *icsk_ulp_ops
#define packets_out	before_out_[76], packets_out
#define sysctl_max_tw_buckets	pad_[2], sysctl_max_tw_buckets
#undef NULL
#include "kernel.h"
#undef inet_sport
#undef packets_out
#undef icsk_ulp_ops
#undef bpf_core_type_size
#define bpf_core_type_size(type)		sizeof(type)
#undef BPF_CORE_READ_BITFIELD
#define BPF_CORE_READ_BITFIELD(s, field)	((s)->field)
#undef BPF_CORE_READ_BITFIELD_PROBED
#define BPF_CORE_READ_BITFIELD_PROBED(s, field)	((s)->field)
#undef sysctl_max_tw_buckets

#define CPUS		2
#define MAX_SOCKS	8
#define MAX_MINIS	8
#define MAX_MAPS	32

/* A kernel object at an address that is given again. */
union sock_memory {
	struct sock sk;
	struct inet_sock inet;
	struct inet_connection_sock icsk;
	struct tcp_sock tp;
};
_Static_assert(sizeof(struct sock) <= 256 && sizeof(struct inet_sock) <= 264 && sizeof(struct inet_connection_sock) <= 304 &&
	       offsetof(struct inet_sock, inet_sport) >= 256 && offsetof(struct inet_connection_sock, icsk_ulp_ops) >= 264 &&
	       offsetof(struct tcp_sock, packets_out) >= 304, "fields of a socket overlap");

static union sock_memory socks[MAX_SOCKS];
static struct inet_timewait_sock minis[MAX_MINIS];

/* What a program that runs now finds around it. */
struct surroundings {
	__u64 now, jiffies, cpu, fresh_cookie;
	__u64 stack[4];
	__s64 frames;		/* less than 0: the kernel cannot unwind */
	__u64 fail_updates;	/* bit n: the n-th update of that map fails */
	__u64 fail_storage;
	__u64 ring_room;	/* events */
	__u64 updates, failed_updates, failed_storage; /* what came of it */
};
static struct surroundings here;
static struct task_struct current_task, current_leader;

static void preempt(void);
static void submitted(const void *event);

/* Memory that is not to be used any more goes when no program runs, as with RCU. */
static struct { void *all[512]; size_t n; } limbo;

static void free_later(void *p)
{
	if (limbo.n == sizeof(limbo.all) / sizeof(limbo.all[0]))
		abort();
	limbo.all[limbo.n++] = p;
}

static void grace_period(void)
{
	while (limbo.n)
		free(limbo.all[--limbo.n]);
}

struct entry {
	struct entry *next;
	void *value;
	unsigned char key[];
};

struct map {
	const void *id;		/* the address of its definition */
	size_t type, key_size, value_size, max;
	void *array;		/* [cpu][key] */
	struct entry *entries;
	size_t n;
};
static struct map maps[MAX_MAPS];
static struct map *fails;	/* the one that can be made to */
static struct map *storage_fails;	/* the hash of full sockets: so can this, when fail_storage is set */

static struct map *find_map(const void *id, size_t type, size_t key_size, size_t value_size, size_t max)
{
	for (struct map *m = maps; m < maps + MAX_MAPS; m++) {
		if (m->id == id)
			return m;
		if (m->id)
			continue;
		*m = (struct map){ .id = id, .type = type, .key_size = key_size, .value_size = value_size, .max = max };
		if (type == BPF_MAP_TYPE_PERCPU_ARRAY || type == BPF_MAP_TYPE_ARRAY || type == BPF_MAP_TYPE_ARRAY_OF_MAPS)
			m->array = calloc(CPUS * max, value_size);
		else if (type != BPF_MAP_TYPE_HASH && type != BPF_MAP_TYPE_LRU_HASH)
			abort();
		return m;
	}
	abort();
}

/* A definition's fields are pointers, the types that they point to say what it is. */
#define MAP(map)								\
	find_map((map), sizeof(*(map)->type) / sizeof(int), sizeof(*(map)->key),	\
		 sizeof(*(map)->value), sizeof(*(map)->max_entries) / sizeof(int))

static void resize(struct map *m, size_t max)
{
	if (m->array || m->n)
		abort();
	m->max = max;
}

static struct entry **find_entry(struct map *m, const void *key)
{
	struct entry **at = &m->entries;

	while (*at && memcmp((*at)->key, key, m->key_size))
		at = &(*at)->next;
	return at;
}

static void *array_slot(struct map *m, __u64 cpu, __u32 key)
{
	return key < m->max ? (char *)m->array + (cpu * m->max + key) * m->value_size : NULL;
}

static void *lookup(struct map *m, const void *key)
{
	struct entry *e;

	preempt();
	if (m->array)
		return array_slot(m, m->type == BPF_MAP_TYPE_PERCPU_ARRAY ? here.cpu : 0, *(const __u32 *)key);
	e = *find_entry(m, key);
	return e ? e->value : NULL;
}

/* An entry that is there is replaced, as in a hash that is not preallocated. */
static long update(struct map *m, const void *key, const void *value, __u64 flags)
{
	struct entry **at, *e;
	long err = 0;

	preempt();
	at = find_entry(m, key);
	if ((m == fails && here.fail_updates >> here.updates++ & 1) || (m == storage_fails && here.fail_storage))
		err = -12; /* ENOMEM */
	else if (*at && flags == BPF_NOEXIST)
		return -EEXIST;
	else if (!*at && m->n >= m->max)
		err = -7; /* E2BIG */
	if (err) {
		here.failed_updates += m == fails;
		here.failed_storage += m == storage_fails;
		return err;
	}
	e = *at;
	if (e) {
		free_later(e->value);
	} else {
		e = calloc(1, sizeof(*e) + m->key_size);
		memcpy(e->key, key, m->key_size);
		*at = e;
		m->n++;
	}
	e->value = malloc(m->value_size);
	memcpy(e->value, value, m->value_size);
	return 0;
}

static long delete(struct map *m, const void *key)
{
	struct entry **at, *e;

	preempt();
	at = find_entry(m, key);
	e = *at;
	if (!e)
		return -2; /* ENOENT */
	*at = e->next;
	m->n--;
	free_later(e->value);
	free_later(e);
	return 0;
}

/* Socket storage, of the one map that there is. */
static void *storage[MAX_SOCKS];

static void *sk_storage(size_t size, struct sock *sk, const void *value, __u64 flags)
{
	size_t slot = (union sock_memory *)sk - socks;

	preempt();
	if (slot >= MAX_SOCKS)
		abort();
	if (!storage[slot] && flags & BPF_SK_STORAGE_GET_F_CREATE) {
		storage[slot] = calloc(1, size);
		if (value)
			memcpy(storage[slot], value, size);
	}
	return storage[slot];
}

static void drop_storage(struct sock *sk)
{
	size_t slot = (union sock_memory *)sk - socks;

	preempt();
	if (storage[slot])
		free_later(storage[slot]);
	storage[slot] = NULL;
}

/* NULL for what is no full socket. */
static struct tcp_sock *full_sock(struct sock_common *skc)
{
	return (void *)skc >= (void *)socks && (void *)skc < (void *)(socks + MAX_SOCKS) ? (struct tcp_sock *)skc : NULL;
}

static __u64 socket_cookie(struct sock_common *skc)
{
	preempt();
	if (!skc->skc_cookie.counter)
		skc->skc_cookie.counter = here.fresh_cookie;
	return skc->skc_cookie.counter;
}

static long output_event(const void *e, size_t size)
{
	preempt();
	if (!here.ring_room)
		return -11; /* EAGAIN */
	here.ring_room--;
	submitted(e);
	return 0;
}

/* The first page is where no kernel object is. */
static long probe_read(void *dst, size_t size, const void *src)
{
	preempt();
	if ((unsigned long)src < 4096) {
		memset(dst, 0, size);
		return -14; /* EFAULT */
	}
	memcpy(dst, src, size);
	return 0;
}

static long get_stack(void *buf, size_t size)
{
	preempt();
	if (here.frames < 0)
		return here.frames;
	if ((size_t)here.frames * 8 < size)
		size = here.frames * 8;
	memcpy(buf, here.stack, size);
	return size;
}

#undef SEC
#define SEC(name)
#define __builtin_preserve_access_index(x)	(x)
#define __builtin_preserve_field_info(ref, kind)				\
	((kind) == BPF_FIELD_EXISTS ? 1UL :					\
	 (kind) == BPF_FIELD_BYTE_SIZE ? sizeof(ref) : (unsigned long)&(ref))
#define __builtin_btf_type_id(ref, kind)	0
#define __builtin_preserve_enum_value(value, kind)	1
#define bpf_map_lookup_elem(map, key)		lookup(MAP(map), key)
#define bpf_map_update_elem(map, key, v, f)	update(MAP(map), key, v, f)
#define bpf_map_delete_elem(map, key)		delete(MAP(map), key)
#define bpf_for_each_map_elem(of, each, ctx, flags)				\
	do {									\
		struct map *m_ = MAP(of);					\
										\
		for (__u32 i_ = 0; m_->array && i_ < m_->max; i_++)		\
			each(NULL, (void *)&i_, array_slot(m_, 0, i_), ctx);	\
		for (struct entry *e_ = m_->entries; e_; e_ = e_->next)		\
			each(NULL, (void *)e_->key, e_->value, ctx);		\
	} while (0)
#define bpf_loop(n, each, ctx, flags)						\
	do {									\
		for (__u32 i_ = 0; i_ < (n) && !each(i_, ctx); i_++)		\
			;							\
	} while (0)
#define bpf_sk_storage_get(map, sk, v, flags)	((typeof((map)->value))sk_storage(sizeof(*(map)->value), sk, v, flags))
#define bpf_sk_storage_delete(map, sk)		drop_storage(sk)
#define bpf_get_socket_cookie(sk)		socket_cookie((struct sock_common *)(sk))
#define bpf_skc_to_tcp_sock(skc)		full_sock((struct sock_common *)(skc))
#define bpf_ringbuf_output(map, e, size, flags)	((void)(flags), output_event(e, size))
#define bpf_ringbuf_query(map, what)		0
#define bpf_probe_read_kernel(dst, size, src)	probe_read(dst, size, src)
#define bpf_probe_read_kernel_str(dst, size, src) (memcpy(dst, src, size), (long)(size))
#define bpf_get_stack(ctx, buf, size, flags)	get_stack(buf, size)
/* The third map of programs is empty. */
#define bpf_tail_call(ctx, map, slot)						\
	do {									\
		if ((void *)(map) == (void *)&skipped)				\
			return set_state(ctx);					\
		if ((void *)(map) == (void *)&queue_leavers)			\
			return queue_left(ctx);					\
	} while (0)
#define bpf_ktime_get_ns()			here.now
#define bpf_jiffies64()				here.jiffies
#define bpf_get_smp_processor_id()		here.cpu
#define bpf_get_current_task_btf()		(&current_task)
#define __sync_fetch_and_add(p, v)		(preempt(), __sync_fetch_and_add(p, v))
#define __sync_fetch_and_or(p, v)		(preempt(), __sync_fetch_and_or(p, v))
#define __sync_lock_test_and_set(p, v)		(preempt(), __sync_lock_test_and_set(p, v))
#define __sync_val_compare_and_swap(p, o, n)	(preempt(), __sync_val_compare_and_swap(p, o, n))

#endif
