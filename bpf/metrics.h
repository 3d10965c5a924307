/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What a connection has carried, and how well: its bytes, round-trip time, retransmissions,
 * window and queues, as its full socket has them at a transition. A minisock has none of
 * that. So what the full socket had when it handed over is kept until the minisock ends.
 */
#ifndef FINWAIT_METRICS_H
#define FINWAIT_METRICS_H

#include "kernel.h"
#include "event.h"
#include "compat.h"

/* Something asks for metrics. */
const volatile __u8 metrics_on;

/* By cookie, of full sockets that have handed over. User space sizes it if metrics_on is set. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, struct metrics);
} last_metrics SEC(".maps");

/*
 * bytes_received and rcv_nxt count the peer's FIN as a byte. tcp_fin() sets SOCK_DONE.
 * bytes_sent counts what was sent again each time. tcp_reset() comes before tcp_ack(): an RST
 * does not move rcv_tstamp.
 */
static __always_inline void read_metrics(struct metrics *m, struct tcp_sock *tp)
{
	struct sock *sk = (struct sock *)tp;
	__u32 fin = BPF_CORE_READ(sk, __sk_common.skc_flags) >> SOCK_DONE & 1;
	__u32 unread = BPF_CORE_READ(tp, rcv_nxt) - BPF_CORE_READ(tp, copied_seq);

	m->known = 1;
	m->bytes_sent = BPF_CORE_READ(tp, bytes_sent) - BPF_CORE_READ(tp, bytes_retrans);
	m->bytes_received = BPF_CORE_READ(tp, bytes_received) - fin;
	m->rtt_us = BPF_CORE_READ(tp, srtt_us);
	m->retransmitted = BPF_CORE_READ(tp, total_retrans);
	m->cwnd = BPF_CORE_READ(tp, snd_cwnd);
	m->mss = BPF_CORE_READ(tp, mss_cache);
	m->recv_queue = unread ? unread - fin : 0; /* the program may have read the FIN (tcp_inq()) */
	/* Read in place: before 6.10 there is no room for one more variable. */
	bpf_core_read(&m->silent_ms, sizeof(m->silent_ms), &tp->rcv_tstamp);
	m->silent_ms = m->silent_ms ? (__u64)((__u32)bpf_jiffies64() - m->silent_ms) * 1000 / hz : NEVER_HEARD;
	m->send_queue = BPF_CORE_READ(tp, write_seq) - BPF_CORE_READ(tp, snd_una);
}

/* The full socket is about to be gone, and its minisock goes on. */
static __own_frame int keep_metrics(struct sock *sk, __u64 cookie)
{
	struct metrics m = {};

	read_metrics(&m, (struct tcp_sock *)sk);
	bpf_map_update_elem(&last_metrics, &cookie, &m, 0);
	return 0;
}

/*
 * The metrics of an event. e->minisock has the address of a full socket, if metrics_on is
 * set. cookie: by value, as in find_handler(). It has a frame of its own: those above it have
 * no room left (before 6.10 all have 512 bytes together).
 */
static __own_frame int find_metrics(struct metrics *out, const struct event *e, __u64 cookie)
{
	struct metrics *last;

	out->known = 0;
	if (!metrics_on || e->flags & (EVENT_LATE | EVENT_SEGMENT))
		return 0;
	if (!(e->flags & EVENT_MINISOCK)) {
		if (e->minisock)
			read_metrics(out, (struct tcp_sock *)e->minisock);
		return 0;
	}
	if (e->to != TCP_CLOSE)
		return 0;
	last = bpf_map_lookup_elem(&last_metrics, &cookie);
	if (!last)
		return 0;
	*out = *last;
	bpf_map_delete_elem(&last_metrics, &cookie);
	return 0;
}

#endif
