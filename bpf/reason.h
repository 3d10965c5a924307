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
 * What is read of a socket when it closes, to decide why. shutdown is always read,
 * the rest only if the transition asks for it (enum kind in socket.h).
 */
struct facts {
	__u32 caller;		/* enum caller */
	__u8 shutdown;
	bool unacked;		/* the peer has not acknowledged everything, the FIN included */
	bool lingerless;	/* TCP_LINGER2 of -1: no TIME_WAIT is wanted */
	bool held;		/* a process holds it: it is no orphan */
	bool timewait_full;
	bool sent_syn;
	__u16 pad;
};

/*
 * Does this transition run in the process that called close() or shutdown()? An
 * active close does, unless shutdown() came before the end of the handshake: then
 * tcp_rcv_state_process() sends the FIN. The second half of a passive close does. An
 * abort does if __tcp_close() has set both shutdown bits.
 */
__verified_once int closed_by_process(__u32 from, __u32 to, __u32 reason, __u32 shutdown, __u32 deferred_fin)
{
	switch (to) {
	case TCP_FIN_WAIT1:
		return from == TCP_SYN_RECV || (from == TCP_ESTABLISHED && !deferred_fin);
	case TCP_LAST_ACK:
		return from == TCP_CLOSE_WAIT;
	case TCP_CLOSE:
		if (from == TCP_LISTEN)
			return reason == REASON_CLOSED;
		return shutdown == SHUTDOWN_MASK &&
		       (from == TCP_ESTABLISHED || from == TCP_SYN_SENT || from == TCP_CLOSE_WAIT);
	}
	return false;
}

__verified_once __u32 listener_reason(__u32 caller, __u32 shutdown)
{
	/* close() sets both bits first. An abort and a failed listen() do not. */
	if (caller == CALLER_UNKNOWN && shutdown != SHUTDOWN_MASK)
		return REASON_KILLED;
	switch (caller) {
	case CALLER_ABORT:
		return REASON_DESTROYED;
	case CALLER_LISTEN: /* listen() failed */
		return REASON_ABORTED;
	}
	return REASON_CLOSED;
}

/* What sk_err says, if it was set since the last transition. */
__verified_once __u32 error_reason(__u32 caller, __u32 err, __u32 from)
{
	switch (err) {
	case 0:
		return REASON_NONE;
	case ECONNREFUSED:
		return REASON_REFUSED;
	case ETIMEDOUT:
		return REASON_TIMED_OUT;
	case EHOSTUNREACH:
	case ENETUNREACH:
		return REASON_UNREACHABLE;
	case ECONNABORTED:
		return REASON_DESTROYED;
	case ECONNRESET:
	case EPIPE:
		/*
		 * sk_err is the same in two cases. Data after close(): our
		 * tcp_rcv_state_process() resets the connection. An RST from the
		 * peer: tcp_validate_incoming() is the caller.
		 */
		if (from == TCP_FIN_WAIT1 || from == TCP_FIN_WAIT2) {
			if (caller == CALLER_UNKNOWN)
				return REASON_KILLED;
			if (caller == CALLER_STATE_PROCESS)
				return REASON_RST_SENT;
		}
		return REASON_RESET;
	}
	return REASON_KILLED;
}

/*
 * In FIN_WAIT_2 or CLOSING: has tcp_time_wait() closed the socket? If not, then
 * __tcp_close() has aborted it, for unread data or SO_LINGER 0, while the process
 * still held it.
 */
static __always_inline bool asked_for_time_wait(const struct facts *f)
{
	return !f->lingerless && (f->caller == CALLER_STATE_PROCESS || !f->held);
}

/*
 * Why a full socket closed, from what is set on it when the tracepoint fires. An
 * ICMP message that ended nothing may have left an error behind (IP_RECVERR). So
 * other signs of a reason come before the error.
 */
static __always_inline __u8 close_reason(const struct event *e, const struct facts *f)
{
	__u8 reason;

	if (e->from == TCP_LISTEN)
		return listener_reason(f->caller, f->shutdown);
	if (e->from == TCP_LAST_ACK && !f->unacked)
		return REASON_CLOSED;
	if (f->shutdown == SHUTDOWN_MASK && (e->from == TCP_ESTABLISHED || e->from == TCP_CLOSE_WAIT))
		return REASON_ABORTED;

	reason = error_reason(f->caller, e->err, e->from);
	if (reason != REASON_NONE)
		return reason;

	switch (e->from) {
	case TCP_SYN_SENT:
		if (f->shutdown == SHUTDOWN_MASK)
			return REASON_CLOSED;
		return e->tuple.sport ? REASON_ABORTED : REASON_NO_PORT;
	case TCP_FIN_WAIT2:
	case TCP_CLOSING:
		if (f->caller == CALLER_UNKNOWN)
			return REASON_KILLED;
		/*
		 * If a process had the orphan locked when its FIN was
		 * acknowledged, the orphan gets no minisock. Then its keepalive
		 * timer waits for tcp_fin_timeout.
		 */
		if (e->from == TCP_FIN_WAIT2 && f->caller == CALLER_KEEPALIVE)
			return REASON_EXPIRED;
		if (f->timewait_full && asked_for_time_wait(f))
			return REASON_TIMEWAIT_OVERFLOW;
	}
	return REASON_ABORTED;
}

static __always_inline __u8 step_reason(const struct event *e, const struct facts *f)
{
	if (e->to == TCP_CLOSE)
		return close_reason(e, f);
	if (e->to == TCP_CLOSE_WAIT || e->to == TCP_CLOSING)
		return REASON_FIN_RECEIVED;
	return REASON_NONE;
}

/* What ended a minisock before its timer fired. caller: the function that ended it. */
static __always_inline __u8 early_reason(__u8 substate, __u32 caller)
{
	switch (caller) {
	case CALLER_SEGMENT:
		return REASON_RST_RECEIVED;
	case CALLER_RECEIVE:
		/* tcp_v4_rcv() kills FIN_WAIT_2 after TCP_TW_RST, TIME_WAIT after TCP_TW_SYN. */
		return substate == TCP_FIN_WAIT2 ? REASON_RST_SENT : REASON_RECYCLED;
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
