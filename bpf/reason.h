/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Why a state ended, and whether a process ended it. Every reason is decided here, and nothing here reads the kernel. */
#ifndef FINWAIT_REASON_H
#define FINWAIT_REASON_H

#include "kernel.h"
#include "event.h"
#include "unwind.h"

/* What can be read of a socket as it is closed, and says why; shutdown always. */
struct facts {
	__u32 caller;		/* enum caller */
	__u8 shutdown;
	bool unacked;		/* something that was sent, the FIN included */
	bool lingerless;	/* a TCP_LINGER2 of -1 asks for no TIME_WAIT */
	bool held;		/* by a process */
	bool timewait_full;
	bool sent_syn;
	__u16 pad;
};

/*
 * Does close() or shutdown() run this in the process that called it? An active
 * close does, unless shutdown() came before the handshake was over: then
 * tcp_rcv_state_process() sends the FIN. The answer to a passive close does. An
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
	/* close() sets this before; neither an abort nor a listen() that fails does. */
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

/* What sk_err says, if it has been set since the last transition. */
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
		 * Data that arrives after close() makes tcp_rcv_state_process()
		 * reset the connection itself; an RST comes by way of
		 * tcp_validate_incoming(). sk_err is the same.
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
 * Has tcp_time_wait() closed it, in FIN_WAIT_2 or CLOSING? __tcp_close() aborts, for
 * data that was not read or SO_LINGER 0, while the process still has the socket.
 */
static __always_inline bool asked_for_time_wait(const struct facts *f)
{
	return !f->lingerless && (f->caller == CALLER_STATE_PROCESS || !f->held);
}

/*
 * Why a full socket closed, from what is set on it as the tracepoint fires. An
 * error can be left from an ICMP message that ended nothing (IP_RECVERR): where
 * something else shows why the socket closed, that counts.
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
		 * An orphan whose FIN was acknowledged while a process had it
		 * locked gets no minisock, but tcp_fin_timeout all the same.
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

/* What ended a minisock before its timer fired, by the function that did it. */
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
 * What ended a minisock whose timer was cancelled. REASON_NONE if nothing did:
 * the timer was moved, or is about to fire.
 */
static __always_inline __u8 cancel_reason(__u8 substate, struct stack st)
{
	return st.deletes ? early_reason(substate, st.caller) : REASON_NONE;
}

/* What ended a minisock that is being killed: its timer, or who was faster. */
static __always_inline __u8 kill_reason(__u8 substate, __u32 caller)
{
	return caller == CALLER_TIMER ? REASON_EXPIRED : early_reason(substate, caller);
}

/* Why the state before TIME_WAIT ended: in CLOSING the FIN was there already, and its ACK came. */
static __always_inline __u8 time_wait_reason(__u8 from)
{
	return from == TCP_FIN_WAIT2 ? REASON_FIN_RECEIVED : REASON_NONE;
}

#endif
