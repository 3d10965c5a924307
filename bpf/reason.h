/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Why a state ended, and whether a process ended it. Every reason is decided here.
 * Nothing here reads the kernel.
 */
#ifndef FINWAIT_REASON_H
#define FINWAIT_REASON_H

#include "kernel.h"
#include "event.h"
#include "unwind.h"

/*
 * What is read of a socket when it closes, to decide why. These are the kernel's values
 * and no answers: the verifier explores both sides of every answer. They are on the stack
 * of set_state, which has little room: until 6.10 each frame below it takes 32 bytes at
 * the least, of 512 in all.
 */
struct facts {
	__u32 linger_time;	/* sk_lingertime, in jiffies */
	__u32 socket;		/* upper half of sk_socket; 0: no process holds it. It is an orphan, or a child that waits to be accepted */
	__u32 user_timeout;	/* TCP_USER_TIMEOUT in ms; 0: not set */
	__u32 unacked;		/* bytes that the peer has not acknowledged, sent or not, the FIN included */
	__u32 in_flight;	/* those of them that were sent */
	__u32 unread;		/* bytes that came in order and have not been read, the peer's FIN included */
	__u16 err;		/* sk_err; 0 if it was left over from before */
	__u16 port;		/* skc_num: set if the program chose it (SOCK_BINDPORT_LOCK) */
	__u8 soft_err;		/* an ICMP error that ended nothing */
	__u8 caller;		/* enum caller; CALLER_UNKNOWN also if the reason does not ask for it */
	__u8 shutdown;
	__u8 linger;		/* SO_LINGER is on */
	__u8 lingerless;	/* TCP_LINGER2 is below 0: no FIN_WAIT_2 is wanted */
	__u8 task_flags;	/* the lowest of the current task's */
	__u8 retransmits;
	__u8 probes;
	__u8 repair;		/* TCP_REPAIR */
	bool sent_syn;
	bool refused_minisock;	/* the kernel has just counted a TCPTimeWaitOverflow */
	bool netns_gone;
};

/* Why a state ended. */
struct why {
	__u8 reason;
	__u8 detail;
	__u16 err;		/* the errno that goes with it */
};

/* Did a process of this host do this, in the context in which the program runs? */
__verified_once int done_by_process(__u32 reason, __u32 detail, __u32 caller)
{
	if (reason == REASON_GIVEN_UP)
		return true;
	if (reason != REASON_ABORTED)
		return false;
	switch (detail) {
	case DETAIL_UNREAD_DATA:
	case DETAIL_LINGER_ZERO:
	case DETAIL_DISCONNECTED:
	case DETAIL_LISTENER_CLOSED:
	case DETAIL_CHECKPOINT:
		return true;
	case DETAIL_LINGER2:
	case DETAIL_ORPHAN_LIMIT: /* in __tcp_close(), or in a softirq */
		return caller == CALLER_NONE;
	}
	return false;
}

/*
 * Does this transition run in the process that called close() or shutdown()? An
 * active close does, unless shutdown() came before the end of the handshake: then
 * tcp_rcv_state_process() sends the FIN. The second half of a passive close does.
 */
static __always_inline int closed_by_process(const struct event *e, __u32 caller, __u32 deferred_fin)
{
	switch (e->to) {
	case TCP_FIN_WAIT1:
		return e->from == TCP_SYN_RECV || (e->from == TCP_ESTABLISHED && !deferred_fin);
	case TCP_LAST_ACK:
		return e->from == TCP_CLOSE_WAIT;
	case TCP_CLOSE:
		if (e->from == TCP_LISTEN)
			return e->reason == REASON_CLOSED;
		return done_by_process(e->reason, e->detail, caller);
	}
	return false;
}

static __always_inline struct why why(__u8 reason, __u8 detail, __u16 err)
{
	return (struct why){ .reason = reason, .detail = detail, .err = err };
}

static __always_inline struct why listener_why(const struct facts *f)
{
	/* close() sets both bits first. An abort and a failed listen() do not. */
	if (f->caller == CALLER_UNKNOWN && f->shutdown != SHUTDOWN_MASK)
		return why(REASON_KILLED, DETAIL_NONE, 0);
	switch (f->caller) {
	case CALLER_ABORT:
		return why(REASON_DESTROYED, DETAIL_NONE, f->err);
	case CALLER_LISTEN:
		return why(REASON_ABORTED, DETAIL_LISTEN_FAILED, 0);
	}
	return why(REASON_CLOSED, DETAIL_NONE, 0);
}

/* What tcp_write_timeout(), tcp_probe_timer() and tcp_keepalive_timer() have waited for. */
static __always_inline __u8 timeout_detail(const struct event *e, const struct facts *f, __u64 lasted_ns)
{
	/* A SYN can also have reached tcp_syn_retries before TCP_USER_TIMEOUT. */
	if (f->user_timeout && (e->from != TCP_SYN_SENT || lasted_ns >= f->user_timeout * 1000000ull))
		return DETAIL_USER_TIMEOUT;
	if (f->probes && !f->retransmits)
		return f->unacked ? DETAIL_ZERO_WINDOW : DETAIL_KEEPALIVE;
	return DETAIL_RETRANSMISSIONS;
}

/* Had the peer acknowledged all that it was sent, as its RST came? If not, the RST may be the answer to that. */
static __always_inline __u8 reset_detail(const struct event *e, const struct facts *f)
{
	if (!f->in_flight)
		return DETAIL_NONE;
	switch (e->from) {
	case TCP_ESTABLISHED:
	case TCP_CLOSE_WAIT:
		return DETAIL_DATA_UNACKED;
	case TCP_FIN_WAIT1:
	case TCP_LAST_ACK:
	case TCP_CLOSING:
		return DETAIL_FIN_UNACKED;
	}
	return DETAIL_NONE;
}

/* What sk_err says, if it was set since the last transition. */
static __always_inline struct why error_why(const struct event *e, const struct facts *f, __u64 lasted_ns)
{
	switch (f->err) {
	case ECONNREFUSED:
		return why(REASON_REFUSED, DETAIL_NONE, f->err);
	case ETIMEDOUT:
		return why(REASON_TIMED_OUT, timeout_detail(e, f, lasted_ns), f->err);
	case ECONNABORTED:
		return why(REASON_DESTROYED, DETAIL_NONE, f->err);
	case ECONNRESET:
	case EPIPE:
		/*
		 * sk_err is the same in two cases. Data after close(): our
		 * tcp_rcv_state_process() resets the connection. An RST from the
		 * peer: tcp_validate_incoming() is the caller, or for a child of
		 * TCP Fast Open tcp_check_req().
		 */
		if (e->from == TCP_FIN_WAIT1 || e->from == TCP_FIN_WAIT2) {
			if (f->caller == CALLER_UNKNOWN)
				return why(REASON_KILLED, DETAIL_NONE, f->err);
			if (f->caller == CALLER_STATE_PROCESS)
				return why(REASON_RST_SENT, DETAIL_DATA_AFTER_CLOSE, f->err);
		}
		return why(REASON_RESET, reset_detail(e, f), f->err);
	case ENETUNREACH:
	case EHOSTUNREACH:
	/* What other ICMP errors become (icmp_err_convert, tab_unreach), and a policy's refusal. */
	case EACCES:
	case EPROTO:
	case ENOPROTOOPT:
	case EOPNOTSUPP:
	case EHOSTDOWN:
	case ENONET:
	case EMSGSIZE:
		return why(REASON_UNREACHABLE, DETAIL_NONE, f->err);
	}
	return why(REASON_KILLED, DETAIL_NONE, f->err);
}

/* connect() failed without an error on the socket: it found no address to use, or the program gave it up. */
static __always_inline struct why connect_why(const struct event *e, const struct facts *f)
{
	if (f->shutdown == SHUTDOWN_MASK)
		return why(REASON_GIVEN_UP, f->task_flags & PF_EXITING ? DETAIL_EXIT : DETAIL_CLOSE, f->soft_err);
	if (f->sent_syn) {
		switch (f->caller) {
		case CALLER_SHUTDOWN:
			return why(REASON_GIVEN_UP, DETAIL_SHUTDOWN, f->soft_err);
		case CALLER_DISCONNECT:
			return why(REASON_GIVEN_UP, DETAIL_DISCONNECT, f->soft_err);
		}
		return why(REASON_GIVEN_UP, DETAIL_NONE, f->soft_err);
	}
	if (f->port)
		return why(REASON_IN_USE, DETAIL_NONE, EADDRNOTAVAIL);
	if (!e->tuple.sport)
		return why(REASON_NO_PORT, DETAIL_NONE, EADDRNOTAVAIL);
	/* The port was found, and then the kernel could not route or build the segment. */
	return why(REASON_KILLED, DETAIL_NONE, 0);
}

/* What a process did: __tcp_close() in the order in which it asks, or tcp_disconnect(). */
static __always_inline __u8 abort_detail(const struct event *e, const struct facts *f)
{
	/* The peer's FIN is one number of the sequence. */
	__u32 fin = e->from == TCP_CLOSE_WAIT || e->from == TCP_LAST_ACK || e->from == TCP_CLOSING;

	if (f->shutdown != SHUTDOWN_MASK || f->caller == CALLER_DISCONNECT)
		return DETAIL_DISCONNECTED;
	if (f->repair)
		return DETAIL_CHECKPOINT;
	if (f->unread > fin)
		return DETAIL_UNREAD_DATA;
	if (f->linger && !f->linger_time)
		return DETAIL_LINGER_ZERO;
	return DETAIL_NONE;
}

/* A socket that no process holds closed without an error: an orphan, or a child that nobody has accepted. */
static __always_inline struct why orphan_why(const struct event *e, const struct facts *f)
{
	if (e->from == TCP_ESTABLISHED || e->from == TCP_CLOSE_WAIT || e->from == TCP_SYN_RECV)
		return why(REASON_ABORTED, f->caller == CALLER_LISTEN_STOP ? DETAIL_LISTENER_CLOSED : DETAIL_NONE, 0);
	if (e->from == TCP_FIN_WAIT2 && f->lingerless)
		return why(REASON_ABORTED, DETAIL_LINGER2, 0);
	/*
	 * If a process had the orphan locked when its FIN was acknowledged, the orphan
	 * gets no minisock. Then its keepalive timer waits for tcp_fin_timeout.
	 */
	if (e->from == TCP_FIN_WAIT2 && f->caller == CALLER_KEEPALIVE)
		return why(REASON_EXPIRED, DETAIL_NONE, 0);
	/* Data came after close(), be it in the segment that acknowledges the FIN. */
	if (e->from == TCP_FIN_WAIT2 && f->caller == CALLER_STATE_PROCESS)
		return why(REASON_RST_SENT, DETAIL_DATA_AFTER_CLOSE, 0);
	if (f->netns_gone)
		return why(REASON_NETNS_REMOVED, DETAIL_NONE, 0);
	return why(REASON_ABORTED, DETAIL_ORPHAN_LIMIT, 0);
}

/*
 * In FIN_WAIT_2 or CLOSING: tcp_rcv_state_process() closes a socket that a process holds
 * only when a minisock takes over, or was refused.
 */
static __always_inline bool surely_hands_over(const struct facts *f)
{
	return f->socket && f->caller == CALLER_STATE_PROCESS && !f->err && !f->refused_minisock;
}

/*
 * Why a full socket closed, from what is set on it when the tracepoint fires. An
 * ICMP message that ended nothing may have left an error behind (IP_RECVERR). So
 * other signs of a reason come before the error.
 */
static __always_inline struct why close_why(const struct event *e, const struct facts *f, __u64 lasted_ns)
{
	if (e->from == TCP_LISTEN)
		return listener_why(f);
	if (e->from == TCP_LAST_ACK && !f->unacked)
		return why(REASON_CLOSED, DETAIL_NONE, 0);
	if (f->shutdown == SHUTDOWN_MASK && (e->from == TCP_ESTABLISHED || e->from == TCP_CLOSE_WAIT))
		return why(REASON_ABORTED, abort_detail(e, f), 0);
	if (f->err)
		return error_why(e, f, lasted_ns);
	if (e->from == TCP_SYN_SENT)
		return connect_why(e, f);
	if (f->refused_minisock)
		return why(REASON_TIME_WAIT_OVERFLOW, DETAIL_NONE, 0);
	/* Without a stack, an overflow that is the first on this CPU would look like an abort. */
	if ((e->from == TCP_FIN_WAIT2 || e->from == TCP_CLOSING) && f->caller == CALLER_UNKNOWN && !f->lingerless)
		return why(REASON_KILLED, DETAIL_NONE, 0);
	if (f->socket)
		return why(REASON_ABORTED, abort_detail(e, f), 0);
	return orphan_why(e, f);
}

/* Why a socket went from one state to another, and did not close. */
static __always_inline __u8 move_reason(const struct event *e)
{
	return e->to == TCP_CLOSE_WAIT || e->to == TCP_CLOSING ? REASON_FIN_RECEIVED : REASON_NONE;
}

/* What ended a minisock before its timer fired. caller: the function that ended it. */
static __always_inline __u8 early_reason(__u8 substate, __u32 caller)
{
	switch (caller) {
	case CALLER_SEGMENT:
		return REASON_RST_RECEIVED;
	case CALLER_RECEIVE:
		/*
		 * tcp_v4_rcv() kills FIN_WAIT_2 after TCP_TW_RST, TIME_WAIT after
		 * TCP_TW_SYN. A FIN on another CPU may have come between the two steps
		 * of the former: mini_ended() looks at that.
		 */
		return substate == TCP_FIN_WAIT2 ? REASON_RST_SENT : REASON_RECYCLED;
	case CALLER_TPROXY:
		return REASON_RECYCLED;
	case CALLER_CONNECT:
		return REASON_REUSED;
	case CALLER_ABORT:
		return REASON_DESTROYED;
	case CALLER_PURGE:
		return REASON_NETNS_REMOVED;
	default:
		return REASON_KILLED;
	}
}

/*
 * The timer of a minisock was cancelled. REASON_NONE if the minisock goes on: the
 * timer was moved, or is about to fire.
 */
static __always_inline __u8 cancel_reason(__u8 substate, struct stack st)
{
	return st.deletes ? early_reason(substate, st.caller) : REASON_NONE;
}

/* What ended a minisock: its timer, or a function that was faster. */
static __always_inline __u8 kill_reason(__u8 substate, __u32 caller)
{
	return caller == CALLER_TIMER ? REASON_EXPIRED : early_reason(substate, caller);
}

/* Why the state before TIME_WAIT ended. An ACK ends CLOSING, which is no reason of its own. */
static __always_inline __u8 time_wait_reason(__u8 from)
{
	return from == TCP_FIN_WAIT2 ? REASON_FIN_RECEIVED : REASON_NONE;
}

#endif
