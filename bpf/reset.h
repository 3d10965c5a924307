/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Who has sent an RST? Its sender is known where it is sent, and told where it arrives, if
 * both ends are on this host and no address is translated between them.
 */
#ifndef FINWAIT_RESET_H
#define FINWAIT_RESET_H

#include "kernel.h"
#include "event.h"

/* Something asks for RSTs. */
const volatile __u8 rst_senders_on;

/* How long an RST is looked for. It takes microseconds from one end to the other. */
#define RST_AGE	5000000000ull

#define RST_BUSY	1	/* as a time: somebody writes the note */

struct rst_note {
	__u64 time_ns;		/* 0: there is none */
	__u32 from[4];		/* address that sent it, IPv4 in the first */
	__u32 to[4];
	__u16 from_port;
	__u16 to_port;
	__u32 family;
	__u32 seq;		/* of the RST */
	__u32 ack;		/* what it acknowledges, if it answers a SYN; otherwise 0 */
	struct rst_sender sender;
};

#define RST_NOTES	4096	/* a power of two */

/* By both ends. The last RST of those that share a slot stays. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rst_note);
} rst_notes SEC(".maps");

/* The RST that a full socket has received. */
struct rst_received {
	__u64 time_ns;
	struct rst_sender sender;
};

/* The kernel ends the socket at once (tcp_reset()). A later end of the same socket is another life's. */
#define RST_ENDS_WITHIN	100000000ull

/* By cookie. User space sizes it. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, __u64);
	__type(value, struct rst_received);
} rst_senders SEC(".maps");

/* The same for both ends. */
static __always_inline struct rst_note *rst_slot(const struct tuple *t)
{
	const __u32 *a = (const __u32 *)t->saddr, *b = (const __u32 *)t->daddr;
	__u32 sum = a[0] + a[1] + a[2] + a[3] + b[0] + b[1] + b[2] + b[3] + t->sport + t->dport;
	__u32 slot = (sum * 0x9e3779b1) >> 20 & (RST_NOTES - 1);

	return bpf_map_lookup_elem(&rst_notes, &slot);
}

/* Is the note of an RST that this end, with its addresses the other way round, may have received? */
static __always_inline bool note_is_for(const struct rst_note *note, const struct tuple *t)
{
	const __u32 *local = (const __u32 *)t->saddr, *remote = (const __u32 *)t->daddr;
	__u32 differ = (note->from_port ^ t->dport) | (note->to_port ^ t->sport) | (note->family ^ t->family);

	for (int i = 0; i < 4; i++)
		differ |= (note->from[i] ^ remote[i]) | (note->to[i] ^ local[i]);
	return !differ;
}

/* t: as its sender has it. If two CPUs write one note at a time, one of them gives way. */
static __always_inline void note_rst(const struct tuple *t, __u32 seq, __u32 ack, __u8 end, __u32 pid, const __u8 *comm)
{
	const __u32 *from = (const __u32 *)t->saddr, *to = (const __u32 *)t->daddr;
	struct rst_note *note = rst_slot(t);

	if (!note || xchg(&note->time_ns, RST_BUSY) == RST_BUSY)
		return;
	for (int i = 0; i < 4; i++) {
		note->from[i] = from[i];
		note->to[i] = to[i];
	}
	note->from_port = t->sport;
	note->to_port = t->dport;
	note->family = t->family;
	note->seq = seq;
	note->ack = ack;
	note->sender.end = end;
	note->sender.pid = pid;
	if (pid)
		__builtin_memcpy(note->sender.comm, comm, COMM_LEN);
	xchg(&note->time_ns, bpf_ktime_get_ns());
}

/* A connection has ended, and its own end has sent an RST (tcp_send_active_reset(), tcp_v4_send_reset()). */
static __always_inline bool has_sent_rst(const struct event *e)
{
	switch (e->reason) {
	case REASON_ABORTED:
		return e->detail != DETAIL_CHECKPOINT && e->detail != DETAIL_LISTEN_FAILED;
	case REASON_RST_SENT:
	case REASON_DESTROYED:
		return true;
	case REASON_TIMED_OUT:
		return e->detail == DETAIL_KEEPALIVE;
	}
	return false;
}

/*
 * A full socket has received an RST. t: its addresses; their sum leads to the note. The
 * kernel takes an RST only if its number is the next one that it expects
 * (tcp_validate_incoming()), or, in SYN_SENT, if it acknowledges the SYN: so the note of
 * another connection with the same addresses, in another network namespace, is not taken.
 */
static __own_frame int receive_rst(const struct tuple *t, struct sock *sk, __u64 cookie)
{
	struct tcp_sock *tp = (struct tcp_sock *)sk;
	struct rst_note *note = rst_slot(t);
	struct rst_received received;
	__u64 at;

	if (!note)
		return 0;
	at = *(volatile __u64 *)&note->time_ns;
	if (at <= RST_BUSY || bpf_ktime_get_ns() - at > RST_AGE || !note_is_for(note, t))
		return 0;
	if (BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_SYN_SENT) {
		if (!note->ack || note->ack != BPF_CORE_READ(tp, snd_nxt))
			return 0;
	} else if (note->seq != BPF_CORE_READ(tp, rcv_nxt)) {
		return 0;
	}
	received.time_ns = bpf_ktime_get_ns();
	received.sender = note->sender;
	/* Another CPU may have written another one meanwhile. Each is used once. */
	if (cmpxchg(&note->time_ns, at, 0) == at)
		bpf_map_update_elem(&rst_senders, &cookie, &received, 0);
	return 0;
}

/* Who has sent the RST that this event tells of. cookie: by value, as in find_handler(). */
static __always_inline void find_rst_sender(struct rst_sender *to, const struct event *e, __u64 cookie)
{
	struct rst_received *received;

	to->end = RST_END_UNKNOWN;
	to->pid = 0;
	if (!rst_senders_on || (e->reason != REASON_RESET && e->reason != REASON_REFUSED))
		return;
	received = bpf_map_lookup_elem(&rst_senders, &cookie);
	if (!received)
		return;
	if (e->time_ns - received->time_ns < RST_ENDS_WITHIN) /* wraps if the event is older */
		*to = received->sender;
	bpf_map_delete_elem(&rst_senders, &cookie);
}

#endif
