/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* One transition of a full socket: what sock:inet_sock_set_state and the socket tell of it. */
#ifndef FINWAIT_STEP_H
#define FINWAIT_STEP_H

#include "kernel.h"
#include "event.h"
#include "compat.h"
#include "filter.h"
#include "identity.h"
#include "unwind.h"
#include "reason.h"
#include "overflow.h"
#include "metrics.h"
#include "reset.h"
#include "maps.h"
#include "output.h"

/* One transition of one socket, and its event. */
struct step {
	struct sock *sk;
	struct sock_info *info;
	__u32 kind;		/* enum kind */
	bool sent_syn;		/* of a failed connect(); otherwise true */
	struct event e;
	struct facts f;
};

/*
 * What kind of transition it is, by its two states. The verifier explores both sides of
 * every branch; a table lookup adds no branch.
 */
enum kind {
	BEGINS		= 1 << 0,	/* connect(), listen() */
	ESTABLISHES	= 1 << 1,	/* the passive end */
	GIVES_UP	= 1 << 2,	/* connect() failed */
	MAY_HAND_OVER	= 1 << 3,
	NO_HAND_OVER	= 1 << 4,	/* it had a minisock's record already, and will have no minisock */
	CLOSES		= 1 << 5,
	ASKS_CALLER	= 1 << 6,	/* its reason needs the kernel stack, which costs microseconds; asked for rare closes only */
};

static const volatile __u8 kinds[STATES][STATES] = {
	[TCP_CLOSE]	  = { [TCP_SYN_SENT] = BEGINS, [TCP_LISTEN] = BEGINS, [TCP_CLOSE] = CLOSES },
	[TCP_SYN_SENT]	  = { [TCP_CLOSE] = CLOSES | GIVES_UP },
	[TCP_SYN_RECV]	  = { [TCP_ESTABLISHED] = ESTABLISHES, [TCP_CLOSE] = CLOSES | ASKS_CALLER },
	[TCP_ESTABLISHED] = { [TCP_CLOSE] = CLOSES },
	[TCP_FIN_WAIT1]	  = { [TCP_CLOSE] = CLOSES | ASKS_CALLER | NO_HAND_OVER },
	[TCP_FIN_WAIT2]	  = { [TCP_CLOSE] = CLOSES | ASKS_CALLER | MAY_HAND_OVER },
	[TCP_CLOSING]	  = { [TCP_CLOSE] = CLOSES | ASKS_CALLER | MAY_HAND_OVER },
	[TCP_CLOSE_WAIT]  = { [TCP_CLOSE] = CLOSES },
	[TCP_LAST_ACK]	  = { [TCP_CLOSE] = CLOSES },
	[TCP_LISTEN]	  = { [TCP_CLOSE] = CLOSES | ASKS_CALLER },
};

static __always_inline bool is_a(const struct step *s, enum kind kind)
{
	return s->kind & kind;
}

/* tcp_set_state() gives the port back, but inet_sport keeps it. */
static __always_inline __u16 kept_port(struct sock *sk)
{
	struct inet_sock *inet = (struct inet_sock *)bpf_skc_to_tcp_sock(sk);

	return inet ? bpf_ntohs(inet->inet_sport) : 0;
}

/*
 * Before a3a128f611a9 ("inet: consolidate inet_csk_clone_lock()", 6.15) the kernel
 * reports a child before it has its peer and its cookie. A cookie that it is given
 * now would be overwritten.
 */
static __always_inline bool half_made(const struct step *s)
{
	return s->e.from == TCP_LISTEN && s->e.to == TCP_SYN_RECV && !s->e.tuple.dport;
}

static __always_inline void read_step(struct step *s, struct sock *sk, int from, int to)
{
	struct event *e = &s->e;

	__builtin_memset(e, 0, sizeof(*e));
	s->sk = sk;
	s->sent_syn = true;
	s->kind = kinds[from & (STATES - 1)][to & (STATES - 1)];
	e->time_ns = bpf_ktime_get_ns();
	e->from = from;
	e->to = to;
	e->err = sk->sk_err;
	e->hook = HOOK_SET_STATE;
	if (metrics_on || rst_senders_on)
		e->minisock = (__u64)sk;
	if (stream || split_by || filters_connections)
		read_sock_tuple(&e->tuple, sk);
	else
		read_ports(&e->tuple, sk);
	if (is_a(s, CLOSES) && !e->tuple.sport)
		e->tuple.sport = kept_port(sk);
}

/*
 * Errors that are left over from before say nothing of this end: sk_err from an earlier
 * state, and of a connect() that sent no SYN from an earlier life, as only
 * tcp_connect_init() clears it.
 */
static __always_inline void read_errors(const struct step *s, struct facts *f)
{
	const struct sock_info *info = s->info;

	f->err = s->e.err;
	if (f->err == info->err && !(is_a(s, GIVES_UP) && f->sent_syn))
		f->err = 0;
	f->soft_err = info->soft_err;
}

/* Does the reason need the kernel stack? */
static __always_inline bool asks_caller(const struct step *s, const struct facts *f)
{
	if (is_a(s, ASKS_CALLER))
		return true;
	if (f->err)
		return false;
	if (is_a(s, GIVES_UP))
		return f->sent_syn && f->shutdown != SHUTDOWN_MASK;
	if (s->e.from == TCP_LAST_ACK)
		return f->unacked;
	return !f->socket;
}

static __always_inline void read_facts(void *ctx, struct step *s)
{
	struct sock *sk = s->sk; /* CO-RE would look for struct step in the kernel */
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct inet_connection_sock *icsk = (struct inet_connection_sock *)tp;
	struct facts *f = &s->f;

	__builtin_memset(f, 0, sizeof(*f));
	f->caller = CALLER_UNKNOWN;
	f->shutdown = sk->sk_shutdown;
	f->sent_syn = s->sent_syn;
	if (!tp)
		return;
	f->linger = sk->__sk_common.skc_flags >> SOCK_LINGER & 1;
	f->linger_time = sk->sk_lingertime;
	f->socket = (__u64)BPF_CORE_READ(sk, sk_socket) >> 32; /* of a kernel address it is never 0 */
	f->user_timeout = icsk->icsk_user_timeout;
	f->unacked = tp->write_seq - tp->snd_una;
	f->in_flight = tp->snd_nxt - tp->snd_una;
	f->unread = tp->rcv_nxt - tp->copied_seq;
	f->lingerless = (__u32)tp->linger2 >> 31;
	f->task_flags = ((struct task_struct *)bpf_get_current_task_btf())->flags;
	f->port = sk->__sk_common.skc_num;
	f->retransmits = icsk->icsk_retransmits;
	f->probes = icsk->icsk_probes_out;
	f->repair = BPF_CORE_READ_BITFIELD(tp, repair);
	read_errors(s, f);
	if (!asks_caller(s, f))
		return;
	f->caller = find_caller(ctx).caller;
	if (is_a(s, MAY_HAND_OVER) && timewait_full(sk->__sk_common.skc_net.net))
		f->refused_minisock = overflow_moved(sk, !f->lingerless && (f->caller == CALLER_STATE_PROCESS || !f->socket));
	if (!f->socket && !f->err)
		f->netns_gone = netns_gone(BPF_CORE_READ(sk, __sk_common.skc_net.net));
}

/*
 * Did connect() send a SYN before it failed? The SYN is a packet out until it is
 * acknowledged, or until tcp_write_err() or tcp_reset() purges the queue, which they do
 * first. It is also one number of the sequence, which stays.
 */
static __always_inline bool sent_syn(const struct step *s)
{
	struct sock *sk = s->sk;
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);

	return !tp || tp->packets_out || (s->e.err && tp->write_seq != s->info->write_seq);
}

/* The port of a connect() that failed may be left over from an earlier life. */
static __always_inline void set_aside_old(struct step *s)
{
	struct event *e = &s->e;

	if (!is_a(s, GIVES_UP))
		return;
	s->sent_syn = sent_syn(s);
	if (!s->sent_syn && e->tuple.sport == s->info->old_port)
		e->tuple.sport = 0;
}

#endif
