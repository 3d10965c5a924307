/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * RSTs, and handshakes that wait: what happens to a port without a transition. Only if
 * it is asked for, and so many a second: who floods a port must not flood the reader.
 */
#ifndef FINWAIT_SEGMENT_H
#define FINWAIT_SEGMENT_H

#include "kernel.h"
#include "event.h"
#include "filter.h"
#include "identity.h"
#include "output.h"
#include "reset.h"
#include "records.h"

/* How many a second are sent to user space, all together. */
const volatile __u32 segments_per_second = 1000;

/* Where every segment went. */
struct segment_account {
	__u64 seen;
	__u64 filtered;
	__u64 delivered;	/* to the ring buffer; without a stream to segment_counts */
	__u64 limited;		/* there were too many in that second */
	__u64 ring_full;
	__u64 uncounted;	/* there was no room for its port and peer in segment_counts */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct segment_account);
} segment_accounts SEC(".maps");

/* What segments are counted by. */
struct segment_key {
	__u8 remote[16];	/* address */
	__u16 family;
	__u16 port;		/* the server's: a client has another one each time */
	__u8 kind;		/* enum segment */
	__u8 reason;		/* of an RST that was sent: enum sk_rst_reason */
	__u8 client;		/* port is the remote one */
	__u8 pad;
};

/* If totals are kept. User space sizes it then. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct segment_key);
	__type(value, __u64);
} segment_counts SEC(".maps");

/* Returns false if there is no room. */
static __always_inline bool count_segment(const struct event *e)
{
	struct segment_key key = {
		.family = e->tuple.family, .kind = e->from, .reason = e->reason,
		.client = e->role == ROLE_CLIENT,
	};
	__u64 zero = 0, *n;

	key.port = key.client ? e->tuple.dport : e->tuple.sport;
	__builtin_memcpy(key.remote, e->tuple.daddr, sizeof(key.remote));
	n = bpf_map_lookup_elem(&segment_counts, &key);
	if (!n) {
		bpf_map_update_elem(&segment_counts, &key, &zero, BPF_NOEXIST);
		n = bpf_map_lookup_elem(&segment_counts, &key);
	}
	if (n)
		atomic_add(n, 1);
	return n;
}

/* The second that is counted, and how many there were in it. */
__u64 segment_second;
__u32 segments_in_second;

static __always_inline bool too_many(__u64 now)
{
	__u64 second = now / 1000000000, counted = segment_second;

	if (second > counted && cmpxchg(&segment_second, counted, second) == counted)
		segments_in_second = 0;
	return atomic_add(&segments_in_second, 1) >= segments_per_second;
}

/* Sends a segment to user space. Its addresses are filled in. */
static __own_frame int tell_segment(struct event *e, __u8 kind)
{
	struct owner nobody = {};
	struct segment_account *acc;
	__u32 zero = 0;

	acc = bpf_map_lookup_elem(&segment_accounts, &zero);
	if (!acc)
		return 0;
	atomic_add(&acc->seen, 1);
	e->flags = EVENT_SEGMENT;
	e->from = kind;
	/* It has no process, no cgroup, no states and no reason; no cookie and no role pass a filter on them. */
	if (n_cgroups || n_handler_comms || filter_edges || only_reasons || min_duration_ns ||
	    (filters_connections && judge_lists(&e->tuple, &nobody, 0, ROLE_UNKNOWN, false) != VERDICT_PASS)) {
		atomic_add(&acc->filtered, 1);
		return 0;
	}
	if (totals_on && !count_segment(e))
		atomic_add(&acc->uncounted, 1);
	if (!stream) {
		atomic_add(&acc->delivered, 1);
		return 0;
	}
	e->time_ns = bpf_ktime_get_ns();
	if (too_many(e->time_ns))
		atomic_add(&acc->limited, 1);
	else if (output(e))
		atomic_add(&acc->delivered, 1);
	else
		atomic_add(&acc->ring_full, 1);
	return 0;
}

static __always_inline void read_netns(struct tuple *t, struct net *net)
{
	t->netns = CORE_LOAD(struct net, net, ns.inum);
	t->netns_cookie = CORE_LOAD(struct net, net, net_cookie);
	if (t->scope_id)
		name_interface(net, t);
}

/* The ends of a segment that has arrived: the destination is ours. net: of its socket, if it has one. */
static __always_inline bool read_segment(struct tuple *t, struct sk_buff *skb, struct net *net)
{
	unsigned char *head = BPF_CORE_READ(skb, head);
	unsigned char *ip = head + BPF_CORE_READ(skb, network_header);
	unsigned char *tcp = head + BPF_CORE_READ(skb, transport_header);
	__u16 ports[2];
	__u8 version;

	if (!net) /* where a socket was found, tcp_v4_rcv() has cleared skb->dev */
		net = BPF_CORE_READ(skb, dev, nd_net.net);
	if (!net || bpf_probe_read_kernel(ports, sizeof(ports), tcp) || bpf_probe_read_kernel(&version, sizeof(version), ip))
		return false;
	t->dport = bpf_ntohs(ports[0]);
	t->sport = bpf_ntohs(ports[1]);
	if (version >> 4 == 4) { /* RFC 791 */
		t->family = AF_INET;
		bpf_probe_read_kernel(t->daddr, 4, ip + 12);
		bpf_probe_read_kernel(t->saddr, 4, ip + 16);
	} else { /* RFC 8200 */
		t->family = AF_INET6;
		bpf_probe_read_kernel(t->daddr, 16, ip + 8);
		bpf_probe_read_kernel(t->saddr, 16, ip + 24);
		if (link_local(t->saddr) || link_local(t->daddr))
			t->scope_id = BPF_CORE_READ(skb, skb_iif);
	}
	read_netns(t, net);
	return true;
}

/*
 * The numbers that an RST has which answers a segment (RFC 9293, 3.10.7.1). skb: the
 * segment.
 */
static __always_inline void read_answer(struct sk_buff *skb, __u32 *seq, __u32 *ack)
{
	unsigned char *th = BPF_CORE_READ(skb, head) + BPF_CORE_READ(skb, transport_header);
	__be32 numbers[2] = {};
	__u8 flags = 0;

	bpf_probe_read_kernel(numbers, sizeof(numbers), th + 4);
	bpf_probe_read_kernel(&flags, sizeof(flags), th + 13);
	*seq = flags & TCPHDR_ACK ? bpf_ntohl(numbers[1]) : 0;
	*ack = !(flags & TCPHDR_ACK) && flags & TCPHDR_SYN ? bpf_ntohl(numbers[0]) + 1 : 0;
}

/*
 * state: of sk, TCP_TIME_WAIT for a minisock; 0: there is no socket. A full socket has been
 * noted as it ended (tell_close()); only the number may be another one.
 */
static __own_frame int note_segment(const struct tuple *t, struct sock *sk, struct sk_buff *skb, __u8 state)
{
	struct mini_info *info = NULL;
	__u64 cookie = 0;
	__u32 seq, ack;

	read_answer(skb, &seq, &ack);
	if (!state) {
		note_rst(t, seq, ack, RST_END_NO_SOCKET, 0, NULL);
		return 0;
	}
	if (state == TCP_LISTEN) {
		note_rst(t, seq, ack, RST_END_LISTENER, 0, NULL);
		return 0;
	}
	if (state != TCP_TIME_WAIT) {
		struct rst_note *note = rst_slot(t);

		if (note && note->time_ns > RST_BUSY && note->from_port == t->sport && note->to_port == t->dport)
			note->seq = seq;
		return 0;
	}
	bpf_core_read(&cookie, sizeof(cookie), &sk->__sk_common.skc_cookie);
	if (cookie)
		info = find_record(cookie);
	if (!info || info->minisock != (__u64)sk)
		note_rst(t, seq, ack, RST_END_MINISOCK, 0, NULL);
	else if (info->closer.pid)
		note_rst(t, seq, ack, RST_END_MINISOCK, info->closer.pid, info->closer.comm);
	else
		note_rst(t, seq, ack, RST_END_MINISOCK, info->owner.pid, info->owner.comm);
	return 0;
}

/*
 * The kernel sends an RST. Those of a full socket and of a minisock end a connection,
 * which says so. The others answer a segment that no socket is for: sk is NULL, or the
 * listener of the port. reason: enum sk_rst_reason; 0 where the kernel passes none.
 */
static __always_inline void on_rst_sent(struct sock *sk, struct sk_buff *skb, __u32 reason)
{
	struct net *net = NULL;
	struct event e = {};
	__u8 state = 0;

	/* Kernels that believe that sk is never NULL remove this test (on_kfree_skb()). Then the probes give 0. */
	if (sk) {
		state = BPF_CORE_READ(sk, __sk_common.skc_state);
		net = BPF_CORE_READ(sk, __sk_common.skc_net.net);
	}
	if (!skb || !read_segment(&e.tuple, skb, net))
		return; /* tcp_send_active_reset() answers nothing */
	if (rst_senders_on)
		note_segment(&e.tuple, sk, skb, state);
	if (state && state != TCP_LISTEN)
		return;
	e.reason = reason;
	tell_segment(&e, SEGMENT_RST_SENT);
}

/* A socket has received an RST, which is about to end it. */
static __always_inline void on_rst_received(struct sock *sk)
{
	struct sock_info *info;
	struct event e = {};

	read_tuple(&e.tuple, &sk->__sk_common);
	e.cookie = sk->__sk_common.skc_cookie.counter;
	info = find_socket(sk);
	if (info && same_socket(info, e.cookie))
		e.role = info->role;
	if (rst_senders_on && e.cookie)
		receive_rst(&e.tuple, sk, e.cookie);
	tell_segment(&e, SEGMENT_RST_RECEIVED);
}

/* A listener sends a SYN-ACK again: the last segment of the handshake has not come. */
static __always_inline void on_synack_again(struct request_sock *req)
{
	struct sock_common *skc = &req->__req_common;
	struct event e = {};

	read_tuple(&e.tuple, skc);
	e.retransmits = BPF_CORE_READ_BITFIELD_PROBED(req, num_timeout) + 1;
	tell_segment(&e, SEGMENT_SYNACK_AGAIN);
}

#endif
