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

struct rst_note {
	__u64 time_ns;		/* 0: it is being written */
	__u32 from[4];		/* address that sent it, IPv4 in the first */
	__u32 to[4];
	__u16 from_port;
	__u16 to_port;
	__u32 family;
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

/* The same for both ends. */
static __always_inline struct rst_note *rst_slot(const struct tuple *t)
{
	const __u32 *a = (const __u32 *)t->saddr, *b = (const __u32 *)t->daddr;
	__u32 sum = a[0] + a[1] + a[2] + a[3] + b[0] + b[1] + b[2] + b[3] + t->sport + t->dport;
	__u32 slot = (sum * 0x9e3779b1) >> 20 & (RST_NOTES - 1);

	return bpf_map_lookup_elem(&rst_notes, &slot);
}

/* t: as its sender has it. */
static __always_inline void note_rst(const struct tuple *t, __u8 end, __u32 pid, const __u8 *comm)
{
	const __u32 *from = (const __u32 *)t->saddr, *to = (const __u32 *)t->daddr;
	struct rst_note *note = rst_slot(t);

	if (!note)
		return;
	xchg(&note->time_ns, 0);
	for (int i = 0; i < 4; i++) {
		note->from[i] = from[i];
		note->to[i] = to[i];
	}
	note->from_port = t->sport;
	note->to_port = t->dport;
	note->family = t->family;
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

static __always_inline bool has_received_rst(const struct event *e)
{
	return e->reason == REASON_RESET || e->reason == REASON_REFUSED || e->reason == REASON_RST_RECEIVED;
}

/* Who has sent the RST that this event tells of. */
static __always_inline void find_rst_sender(struct rst_sender *sender, const struct event *e)
{
	const __u32 *local = (const __u32 *)e->tuple.saddr, *remote = (const __u32 *)e->tuple.daddr;
	struct rst_note *note;
	__u64 at, differ = 0;

	sender->end = RST_END_UNKNOWN;
	sender->pid = 0;
	if (!rst_senders_on || !has_received_rst(e))
		return;
	note = rst_slot(&e->tuple);
	if (!note)
		return;
	at = *(volatile __u64 *)&note->time_ns;
	for (int i = 0; i < 4; i++)
		differ |= (note->from[i] ^ remote[i]) | (note->to[i] ^ local[i]);
	differ |= (note->from_port ^ e->tuple.dport) | (note->to_port ^ e->tuple.sport) | (note->family ^ e->tuple.family);
	if (!at || differ || bpf_ktime_get_ns() - at > RST_AGE)
		return;
	*sender = note->sender;
	/* Another CPU may have written another one meanwhile. */
	if (*(volatile __u64 *)&note->time_ns != at)
		sender->end = RST_END_UNKNOWN;
}

#endif
