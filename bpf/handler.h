/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The handler of a connection: the process that was first seen to read from it or to
 * write to it. Until then it is the process that accepted it, where functions can be
 * hooked. The owner may be another one: a service manager that listens for a server, a
 * server that hands connections to its workers.
 */
#ifndef FINWAIT_HANDLER_H
#define FINWAIT_HANDLER_H

#include "kernel.h"
#include "event.h"
#include "filter.h"
#include "identity.h"

/* Something asks for handlers. */
const volatile __u8 handlers_on;

/* How many handler_comms are in use; 0: the filter is off. */
const volatile __u32 n_handler_comms;
const volatile __u8 handler_comms[FILTER_MAX][COMM_LEN] __attribute__((aligned(8)));

/*
 * By cookie. A connection that is in use stays: what is dropped, if there are too many,
 * has not been looked up for long. User space sizes it if handlers_on is set.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, struct handler);
} handlers SEC(".maps");

/* cookie: by value. Until 6.2 the key of a map had to lie in the function's own frame. */
static __always_inline struct handler *find_handler(__u64 cookie)
{
	return handlers_on ? bpf_map_lookup_elem(&handlers, &cookie) : NULL;
}

/* A handler that is not known does not pass. */
static __always_inline bool handler_passes(__u64 cookie)
{
	struct handler *handler;

	if (!n_handler_comms)
		return true;
	handler = find_handler(cookie);
	if (!handler)
		return false;
	for (__u32 i = 0; i < FILTER_MAX; i++) {
		const volatile __u64 *want = (const volatile __u64 *)handler_comms[i];
		const __u64 *have = (const __u64 *)handler->comm;

		if (i >= n_handler_comms)
			break;
		if (want[0] == have[0] && want[1] == have[1])
			return true;
	}
	return false;
}

static __always_inline void forget_handler(__u64 cookie)
{
	if (handlers_on)
		bpf_map_delete_elem(&handlers, &cookie);
}

/*
 * The current process reads from a socket, or writes to it. These hooks run for every
 * socket of the machine. A socket without a cookie had no transition yet; one that is
 * closed may be read from still.
 */
static __always_inline void on_used(struct sock *sk)
{
	struct handler handler = {}, *known;
	__u64 cookie;
	__u8 state;

	if (sk->sk_protocol != IPPROTO_TCP)
		return;
	cookie = sk->__sk_common.skc_cookie.counter;
	state = sk->__sk_common.skc_state;
	if (!cookie || state == TCP_CLOSE || state == TCP_LISTEN)
		return;
	known = bpf_map_lookup_elem(&handlers, &cookie);
	if (known && !known->accepted)
		return;
	handler.pid = calling_process(handler.comm);
	if (handler.pid)
		bpf_map_update_elem(&handlers, &cookie, &handler, 0);
}

/* The current process has accepted a connection. NULL: accept() failed. */
static __always_inline void on_accepted(struct sock *sk)
{
	struct handler handler = { .accepted = 1 };
	__u64 cookie;

	if (!sk || BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP)
		return;
	cookie = BPF_CORE_READ(sk, __sk_common.skc_cookie.counter);
	if (!cookie || BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_CLOSE)
		return;
	handler.pid = calling_process(handler.comm);
	if (handler.pid)
		bpf_map_update_elem(&handlers, &cookie, &handler, BPF_NOEXIST);
}

#endif
