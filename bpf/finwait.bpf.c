// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Every attach point of finwait. The headers beside this file say what happens there. */
#include "kernel.h"
#include "compat.h"
#include "event.h"
#include "maps.h"
#include "filter.h"
#include "identity.h"
#include "unwind.h"
#include "histogram.h"
#include "handler.h"
#include "metrics.h"
#include "reset.h"
#include "stack.h"
#include "tally.h"
#include "audit.h"
#include "output.h"
#include "reason.h"
#include "records.h"
#include "handover.h"
#include "minisock.h"
#include "minisock_hooks.h"
#include "minisock_fentry.h"
#include "socket.h"
#include "existing.h"
#include "nested.h"
#include "queue.h"
#include "sweep.h"
#include "segment.h"
#include "holding.h"
#include "live.h"
#include "walk.h"

int set_state(unsigned long long *ctx);

/*
 * A map apart from `nowhere`: if set_state used the map that holds it, the two
 * would keep each other alive.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, int(void *));
} skipped SEC(".maps") = { .values = { [0] = (void *)&set_state } };

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} nowhere SEC(".maps");

/*
 * A program apart from set_state, which has no room on its stack: a tail call begins a
 * new one.
 */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(queue_left, struct sock *sk, int from, int to)
{
	on_queue_left(sk);
	return 0;
}

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, int(void *));
} queue_leavers SEC(".maps") = { .values = { [0] = (void *)&queue_left } };

/*
 * set_state can be entered while it already runs on this CPU, through the programs
 * below. From 6.13 on ("bpf: Find eligible subprogs for private stack support") the
 * kernel may give a program one private stack per CPU, which the second entry would
 * overwrite. A program with a tail call never gets one. This tail call always fails.
 */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(set_state, struct sock *sk, int from, int to)
{
	if (sk->sk_protocol != IPPROTO_TCP)
		bpf_tail_call(ctx, &nowhere, 0);
	on_set_state(ctx, sk, from, to);
	if (leaves_queue(sk, from, to))
		bpf_tail_call(ctx, &queue_leavers, 0);
	return 0;
}

/*
 * Each program of this kind does the work of a set_state that the kernel skipped
 * (nested.h). From 7.0 on a task can be preempted inside a tracepoint, so each of
 * them can be skipped in turn; on older kernels user space leaves out the last two.
 * A tail call does not check whether set_state is running. It also spares the
 * verifier three copies of set_state.
 */
#define DEFINE_TAKEOVER(name)								\
SEC("tp_btf/inet_sock_set_state")						\
int BPF_PROG(name, struct sock *sk, int from, int to)				\
{										\
	if (set_state_was_skipped(sk, from, to)) {					\
		count(rescued);							\
		bpf_tail_call(ctx, &skipped, 0);					\
	}									\
	return 0;								\
}

DEFINE_TAKEOVER(set_state_nested)
DEFINE_TAKEOVER(set_state_third)
DEFINE_TAKEOVER(set_state_fourth)

SEC("tp_btf/timer_start")
int BPF_PROG(timer_start, struct timer_list *timer)
{
	if (is_minisocks(timer))
		on_timer_start(timer);
	return 0;
}

SEC("tp_btf/timer_cancel")
int BPF_PROG(timer_cancel, struct timer_list *timer)
{
	if (is_minisocks(timer))
		on_timer_cancel(ctx, timer);
	return 0;
}

SEC("tp_btf/timer_expire_entry")
int BPF_PROG(timer_expire_entry, struct timer_list *timer)
{
	if (is_minisocks(timer))
		on_timer_expire(timer);
	return 0;
}

SEC("tp_btf/kfree_skb")
int BPF_PROG(kfree_skb, struct sk_buff *skb, void *location, int reason, struct sock *rx_sk)
{
	on_kfree_skb(rx_sk);
	return 0;
}

SEC("tp_btf/tcp_send_reset")
int BPF_PROG(send_reset, struct sock *sk, struct sk_buff *skb)
{
	on_send_reset(sk, skb);
	return 0;
}

SEC("tp_btf/inet_sk_error_report")
int BPF_PROG(error_report, struct sock *sk)
{
	on_error_report(sk);
	return 0;
}

/* Before b533fb9cf4f7 ("rstreason: make it work in trace world", 6.10) the kernel passes no reason. */
SEC("tp_btf/tcp_send_reset")
int BPF_PROG(rst_sent_unexplained, struct sock *sk, struct sk_buff *skb)
{
	on_rst_sent(sk, skb, 0);
	return 0;
}

SEC("tp_btf/tcp_send_reset")
int BPF_PROG(rst_sent, struct sock *sk, struct sk_buff *skb, int reason)
{
	on_rst_sent(sk, skb, reason);
	return 0;
}

SEC("tp_btf/tcp_receive_reset")
int BPF_PROG(rst_received, struct sock *sk)
{
	on_rst_received(sk);
	return 0;
}

SEC("tp_btf/tcp_retransmit_synack")
int BPF_PROG(synack_again, struct sock *sk, struct request_sock *req)
{
	on_synack_again(req);
	return 0;
}

SEC("tp_btf/sock_recv_length")
int BPF_PROG(recv_length, struct sock *sk)
{
	on_used(sk);
	return 0;
}

SEC("tp_btf/sock_send_length")
int BPF_PROG(send_length, struct sock *sk)
{
	on_used(sk);
	return 0;
}

SEC("tp_btf/tcp_rcv_space_adjust")
int BPF_PROG(rcv_space_adjust, struct sock *sk)
{
	on_used(sk);
	return 0;
}

SEC("fexit/inet_csk_accept")
int BPF_PROG(csk_accept, struct sock *sk, void *arg, struct sock *child)
{
	on_accepted(child);
	return 0;
}

/* Before 92ef0fd55ac8 ("net: change proto and proto_ops accept type", 6.10). */
SEC("fexit/inet_csk_accept")
int BPF_PROG(csk_accept_flags, struct sock *sk, int flags, int *err, bool kern, struct sock *child)
{
	on_accepted(child);
	return 0;
}

SEC("fexit/inet_twsk_alloc")
int BPF_PROG(twsk_alloc, struct sock *sk, struct inet_timewait_death_row *dr, int state,
	     struct inet_timewait_sock *tw)
{
	on_twsk_alloc(sk, tw);
	return 0;
}

SEC("fentry/__inet_twsk_schedule")
int BPF_PROG(twsk_schedule, struct inet_timewait_sock *tw, int timeo, bool rearm)
{
	on_twsk_schedule(tw, timeo, rearm);
	return 0;
}

SEC("fentry/inet_twsk_kill")
int BPF_PROG(twsk_kill, struct inet_timewait_sock *tw)
{
	on_twsk_kill(ctx, tw);
	return 0;
}

SEC("iter/tcp")
int existing(struct bpf_iter__tcp *ctx)
{
	struct sock_common *skc = ctx->sk_common;

	if (skc)
		on_existing(skc);
	return 0;
}

SEC("iter/tcp")
int live_sockets(struct bpf_iter__tcp *ctx)
{
	struct sock_common *skc = ctx->sk_common;

	if (skc)
		on_live(ctx, skc);
	return 0;
}

SEC("iter/task_file")
int holdings(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;

	if (task && file)
		on_file(ctx, task, file);
	return 0;
}

/*
 * No hook runs these, but user space (BPF_PROG_TEST_RUN). Raw tracepoints can be run so
 * since 5.10; programs of type syscall could not use such hash maps before 6.1.
 */
SEC("raw_tp/sweep_minisocks")
int sweep_minisocks(void *ctx)
{
	return on_sweep_minisocks();
}

SEC("raw_tp/sweep_sockets")
int sweep_sockets(void *ctx)
{
	on_sweep_sockets();
	return 0;
}

SEC("raw_tp/settle_ports")
int settle_ports(void *ctx)
{
	on_settle_ports();
	return 0;
}

SEC("raw_tp/find_table")
int find_table(void *ctx)
{
	return on_find_table();
}

SEC("raw_tp/walk_table")
int walk_table(void *ctx)
{
	return on_walk(false);
}

SEC("raw_tp/walk_bound")
int walk_bound(void *ctx)
{
	return on_walk(true);
}

/* bpf2go exports a type only if something uses it. */
struct exported {
	struct event event;
	struct wide_event wide_event;
	struct metrics metrics;
	struct called_event called_event;
	struct rst_sender rst_sender;
	enum rst_end rst_end;
	struct user_event user_event;
	struct call call;
	struct holding holding;
	struct live_socket live_socket;
	struct walk walk;
	struct walked_socket walked_socket;
	struct account account;
	struct segment_account segment_account;
	struct segment_key segment_key;
	enum segment segment;
	struct totals totals;
	struct durations durations;
	struct group_key group_key;
	struct group group;
	struct group_end_key group_end_key;
	struct netns_totals netns_totals;
	enum split split;
	enum hook hook;
	enum precision precision;
	enum role role;
	enum reason reason;
	enum detail detail;
	enum event_flags event_flags;
	enum caller caller;
};
const struct exported *exported __attribute__((unused));

char _license[] SEC("license") = "Dual BSD/GPL";
