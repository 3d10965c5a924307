/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * All sockets that are connected or connect, minisocks and requests included, of all network
 * namespaces that share a table; and those that are only bound: one walk, where sock_diag(7)
 * walks the table once for each namespace. User space runs the program again and again, until
 * all buckets were walked.
 *
 * No lock is taken. A program runs in one RCU read-side critical section, so the memory of a
 * socket stays that of a socket (SLAB_TYPESAFE_BY_RCU), but it can become another one's. So what
 * makes a socket that socket is read before all else and after it. If it has changed, or a list
 * leads into another bucket, the whole bucket is read again.
 */
#ifndef FINWAIT_WALK_H
#define FINWAIT_WALK_H

#include "kernel.h"
#include "compat.h"
#include "event.h"
#include "identity.h"

#define WALK_ROWS	2048
#define WALK_STEPS	(1 << 16)	/* buckets and sockets after which no run begins another bucket: a few ms */
#define WALK_MOST	(1 << 23)	/* BPF_MAX_LOOPS; a million connections of a listener are in one bucket of bound ports */
#define WALK_AGAIN	64		/* so often a run begins a bucket again */

/* User space sets the first part, and reads the rest. */
struct walk {
	__u64 table;		/* struct inet_ehash_bucket *, or struct inet_bind_hashbucket * */
	__u64 bound_table;	/* of on_find_table() */
	__u32 bound_mask;
	__u32 mask;		/* number of buckets, less one */
	__u32 bucket;		/* the next one */
	__u32 states;		/* bit n: list sockets in state n */
	__u32 rows;
	__u32 complete;		/* rows of the buckets before this one */
	__u32 again;		/* times that this bucket was begun again */
	__u32 pad;
	__u64 node;		/* next one in the bucket's list; 0: at its head */
	__u64 link;		/* what points to it. This and the next two: of a walk of what is bound */
	__u64 owner;		/* next one in the list of its owners; 0: before the first */
	__u64 owner_link;
	struct walked_socket row[WALK_ROWS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct walk);
} walks SEC(".maps");

/* Before c51da3f7a161 ("net: remove sock_i_uid()", 6.17) the user is that of the file. */
const volatile bool uid_of_file;

/* Loads before it are not moved behind it, and the reverse: an atomic operation that returns a value is ordered. */
static __always_inline void read_barrier(struct walk *w)
{
	atomic_or(&w->again, 0);
}

/* What makes a socket that socket. */
struct being {
	struct tuple tuple;
	__u64 cookie;
	__u64 socket;		/* struct socket * */
	__u32 hash;
	__u32 txhash;		/* random */
	__u8 state;
	__u8 substate;
	__u8 pad[6];
};

/* False: it has no reference. It is being added, or it is gone. */
static __own_frame bool read_being(struct being *b, struct sock_common *skc)
{
	struct net *net = CORE_LOAD(struct sock_common, skc, skc_net.net);

	b->cookie = CORE_LOAD(struct sock_common, skc, skc_cookie.counter);
	b->hash = CORE_LOAD(struct sock_common, skc, skc_hash);
	b->state = CORE_LOAD(struct sock_common, skc, skc_state);
	b->socket = 0;
	b->txhash = 0;
	b->substate = 0;
	if (b->state == TCP_TIME_WAIT) {
		b->substate = CORE_LOAD(struct inet_timewait_sock, skc, tw_substate);
	} else if (b->state != TCP_NEW_SYN_RECV) {
		b->socket = (__u64)CORE_LOAD(struct sock, skc, sk_socket);
		b->txhash = CORE_LOAD(struct sock, skc, sk_txhash);
	}
	read_ends(&b->tuple, skc);
	b->tuple.netns_cookie = CORE_LOAD(struct net, net, net_cookie);
	return CORE_LOAD(struct sock_common, skc, skc_refcnt.refs.counter) != 0;
}

static __always_inline bool same_being(const struct being *a, const struct being *b)
{
	const __u64 *x = (const __u64 *)a, *y = (const __u64 *)b;
	__u64 differ = 0;

	for (unsigned int i = 0; i < sizeof(*a) / sizeof(*x); i++)
		differ |= x[i] ^ y[i];
	return !differ;
}

/* include/net/inet_connection_sock.h: icsk_pending */
#define ICSK_TIME_RETRANS	1
#define ICSK_TIME_PROBE0	3
#define ICSK_TIME_LOSS_PROBE	5
#define ICSK_TIME_REO_TIMEOUT	6

/* include/uapi/linux/inet_diag.h: idiag_timer */
#define TIMER_RETRANSMIT	1
#define TIMER_KEEPALIVE		2
#define TIMER_TIMEWAIT		3
#define TIMER_PERSIST		4

/* As in inet_sk_diag_fill(). timer_left is when the timer fires until from_now(). */
static __always_inline void read_timer(struct walked_socket *row, void *sk)
{
	__u8 pending = CORE_LOAD(struct inet_connection_sock, sk, icsk_pending);
	__u64 at = 0;

	switch (pending) {
	case ICSK_TIME_RETRANS:
	case ICSK_TIME_REO_TIMEOUT:
	case ICSK_TIME_LOSS_PROBE:
		row->timer = TIMER_RETRANSMIT;
		row->retries = CORE_LOAD(struct inet_connection_sock, sk, icsk_retransmits);
		at = retransmit_at(sk);
		break;
	case ICSK_TIME_PROBE0:
		row->timer = TIMER_PERSIST;
		row->retries = CORE_LOAD(struct inet_connection_sock, sk, icsk_probes_out);
		at = retransmit_at(sk);
		break;
	default:
		if (!keepalive_at(sk, &at)) {
			row->timer = 0;
			row->retries = 0;
			break;
		}
		row->timer = TIMER_KEEPALIVE;
		row->retries = CORE_LOAD(struct inet_connection_sock, sk, icsk_probes_out);
	}
	row->timer_left = at;
}

/* Now is read last, so that no time is in the future. */
static __always_inline void from_now(struct walked_socket *row)
{
	__u64 now = bpf_jiffies64();

	row->timer_left -= now;
	row->data_sent = (__u32)now - row->data_sent;
	row->data_received = (__u32)now - row->data_received;
	row->ack_received = (__u32)now - row->ack_received;
}

static __always_inline bool is_mptcp(void *sk)
{
	struct tcp_ulp_ops *ulp = CORE_LOAD(struct inet_connection_sock, sk, icsk_ulp_ops);
	char name[6] = {};

	if (!ulp)
		return false;
	bpf_core_read(name, sizeof(name), &ulp->name);
	return name[0] == 'm' && name[1] == 'p' && name[2] == 't' && name[3] == 'c' && name[4] == 'p' && !name[5];
}

/* As in inet_diag_msg_attrs_fill(), tcp_diag_get_info() and tcp_get_info(). */
static __own_frame int walk_full(struct walked_socket *row, void *sk, __u64 socket)
{
	struct cgroup *cgrp;
	struct inode *inode;
	int unread;

	if (!row)
		return 0;
	cgrp = CORE_LOAD(struct sock, sk, sk_cgrp_data.cgroup);
	row->cgroup_id = cgrp ? cgroup_id(cgrp) : 0;
	row->inode = 0;
	row->uid = uid_of_file ? 0 : CORE_LOAD(struct sock, sk, sk_uid.val);
	if (socket) {
		inode = (void *)socket + bpf_core_field_offset(struct socket_alloc, vfs_inode);
		row->inode = CORE_LOAD(struct inode, inode, i_ino);
		if (uid_of_file)
			row->uid = CORE_LOAD(struct inode, inode, i_uid.val);
	}
	unread = CORE_LOAD(struct tcp_sock, sk, rcv_nxt) - CORE_LOAD(struct tcp_sock, sk, copied_seq);
	row->recv_queue = unread > 0 ? unread : 0;
	row->send_queue = CORE_LOAD(struct tcp_sock, sk, write_seq) - CORE_LOAD(struct tcp_sock, sk, snd_una);
	row->data_sent = CORE_LOAD(struct tcp_sock, sk, lsndtime);
	row->data_received = CORE_LOAD(struct inet_connection_sock, sk, icsk_ack.lrcvtime);
	row->ack_received = CORE_LOAD(struct tcp_sock, sk, rcv_tstamp);
	row->mptcp = is_mptcp(sk);
	read_timer(row, sk);
	return 0;
}

/* As in inet_twsk_diag_fill() and inet_req_diag_fill(). */
static __always_inline void walk_mini(struct walked_socket *row, struct sock_common *skc, const struct being *b)
{
	row->cgroup_id = 0;
	row->inode = 0;
	row->uid = 0;
	row->recv_queue = 0;
	row->send_queue = 0;
	row->mptcp = 0;
	if (b->state == TCP_TIME_WAIT) {
		row->timer = TIMER_TIMEWAIT;
		row->retries = 0;
		row->timer_left = CORE_LOAD(struct inet_timewait_sock, skc, tw_timer.expires);
	} else {
		row->timer = TIMER_RETRANSMIT;
		row->retries = CORE_LOAD(struct request_sock, skc, num_retrans);
		row->timer_left = CORE_LOAD(struct request_sock, skc, rsk_timer.expires);
	}
}

enum walked {
	WALK_NEXT,
	WALK_CHANGED,
	WALK_FULL,
};

/* bound: list it if it is only bound. */
static __own_frame int walk_socket(struct walk *w, struct sock_common *skc, bool bound)
{
	struct being before = {}, after = {};
	struct walked_socket *row;
	__u32 n, state;

	if (!w)
		return WALK_FULL;
	if (!read_being(&before, skc))
		return WALK_NEXT;
	state = before.state == TCP_TIME_WAIT ? before.substate : before.state;
	if (bound) {
		if (state != TCP_CLOSE || !before.tuple.sport)
			return WALK_NEXT;
	} else {
		if ((before.hash & w->mask) != w->bucket)
			return WALK_CHANGED;
		if (!(w->states & 1 << (state & 31)))
			return WALK_NEXT;
	}
	n = w->rows;
	if (n >= WALK_ROWS)
		return WALK_FULL;
	row = &w->row[n];
	read_barrier(w);
	row->family = CORE_LOAD(struct sock_common, skc, skc_family);
	row->interface = CORE_LOAD(struct sock_common, skc, skc_bound_dev_if);
	if (before.state == TCP_TIME_WAIT || before.state == TCP_NEW_SYN_RECV)
		walk_mini(row, skc, &before);
	else
		walk_full(row, skc, before.socket);
	read_barrier(w);
	if (!read_being(&after, skc) || !same_being(&before, &after))
		return WALK_CHANGED;
	from_now(row);
	row->tuple = before.tuple;
	row->cookie = before.cookie;
	row->state = state;
	row->minisock = before.state == TCP_TIME_WAIT;
	w->rows = n + 1;
	return WALK_NEXT;
}

/* Leaves out what was read of the bucket. */
static __always_inline void leave_bucket(struct walk *w)
{
	w->rows = w->complete;
	w->node = 0;
}

static __always_inline void next_bucket(struct walk *w)
{
	w->complete = w->rows;
	w->node = 0;
	w->again = 0;
	w->bucket++;
}

/* One bucket's head, or one socket. Other than 0 ends the run. */
static long walk_step(__u32 turn, void *ctx)
{
	struct sock_common *skc;
	struct walk *w;
	__u32 zero = 0;
	__u64 node;

	w = bpf_map_lookup_elem(&walks, &zero);
	if (!w)
		return 1;
	node = w->node;
	if (!node) {
		if (w->bucket > w->mask || turn >= WALK_STEPS)
			return 1;
		bpf_probe_read_kernel(&node, sizeof(node), (struct inet_ehash_bucket *)w->table + w->bucket);
	}
	if (!node)
		goto changed;
	if (node & 1) { /* the end of a list says whose it is: NULLS_MARKER() */
		if (node >> 1 != w->bucket)
			goto changed;
		next_bucket(w);
		return 0;
	}
	skc = (void *)node - bpf_core_field_offset(struct sock_common, skc_nulls_node);
	switch (walk_socket(w, skc, false)) {
	case WALK_NEXT:
		w->node = (__u64)CORE_LOAD(struct sock_common, skc, skc_nulls_node.next);
		if (w->node)
			return 0;
		goto changed;
	case WALK_CHANGED:
		goto changed;
	}
	leave_bucket(w);
	return 1;
changed:
	leave_bucket(w);
	return ++w->again > WALK_AGAIN;
}

/*
 * Reads what comes after a node of a list that no RCU protects. False: what pointed to the node
 * does so no more, so it is not in this place of the list, or no node any more.
 */
static __always_inline bool read_next(struct walk *w, __u64 at, __u64 link, __u64 *next)
{
	struct hlist_node *node = (struct hlist_node *)at;

	if ((__u64)CORE_LOAD(struct hlist_node, node, pprev) != link)
		return false;
	read_barrier(w);
	*next = (__u64)CORE_LOAD(struct hlist_node, node, next);
	read_barrier(w);
	return (__u64)CORE_LOAD(struct hlist_node, node, pprev) == link;
}

/* One bucket's head, one port of an address, or one socket that is bound to it. Other than 0 ends the run. */
static long bound_step(__u32 turn, void *ctx)
{
	struct inet_bind_hashbucket *head;
	struct inet_bind2_bucket *port;
	struct sock_common *skc;
	struct walk *w;
	__u32 zero = 0;
	__u64 next;

	w = bpf_map_lookup_elem(&walks, &zero);
	if (!w)
		return 1;
	if (!w->node) {
		if (w->bucket > w->mask || turn >= WALK_STEPS)
			return 1;
		head = (void *)w->table + w->bucket * (__u64)bpf_core_type_size(struct inet_bind_hashbucket);
		w->link = (__u64)head + bpf_core_field_offset(struct inet_bind_hashbucket, chain);
		w->node = (__u64)CORE_LOAD(struct inet_bind_hashbucket, head, chain.first);
		w->owner = 0;
		w->owner_link = 0;
		if (!w->node)
			next_bucket(w);
		return 0;
	}
	port = (void *)w->node - bpf_core_field_offset(struct inet_bind2_bucket, node);
	if (!w->owner_link) {
		w->owner_link = (__u64)port + bpf_core_field_offset(struct inet_bind2_bucket, owners);
		w->owner = (__u64)CORE_LOAD(struct inet_bind2_bucket, port, owners.first);
	}
	if (!w->owner) {
		if (!read_next(w, w->node, w->link, &next))
			goto changed;
		w->link = w->node; /* next is the first field of a node */
		w->node = next;
		w->owner_link = 0;
		if (!next)
			next_bucket(w);
		return 0;
	}
	skc = (void *)w->owner - bpf_core_field_offset(struct sock_common, skc_bind_node);
	switch (walk_socket(w, skc, true)) {
	case WALK_NEXT:
		if (!read_next(w, w->owner, w->owner_link, &next))
			goto changed;
		w->owner_link = w->owner;
		w->owner = next;
		return 0;
	case WALK_CHANGED:
		goto changed;
	}
	leave_bucket(w);
	return 1;
changed:
	leave_bucket(w);
	return ++w->again > WALK_AGAIN;
}

static __always_inline int on_walk(bool bound)
{
	__u32 zero = 0;
	struct walk *w = bpf_map_lookup_elem(&walks, &zero);

	if (!w)
		return 1;
	w->rows = 0;
	w->complete = 0;
	w->again = 0;
	w->node = 0;
	if (bound)
		bpf_loop(WALK_MOST, bound_step, NULL, 0);
	else
		bpf_loop(WALK_MOST, walk_step, NULL, 0);
	leave_bucket(w);
	return 0;
}

/* The table of the network namespace of the thread that runs the program. */
static __always_inline int on_find_table(void)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task_btf();
	__u32 zero = 0;
	struct walk *w = bpf_map_lookup_elem(&walks, &zero);
	struct inet_hashinfo *table = BPF_CORE_READ(task, nsproxy, net_ns, ipv4.tcp_death_row.hashinfo);

	if (!w || !table)
		return 1;
	w->table = (__u64)BPF_CORE_READ(table, ehash);
	w->mask = BPF_CORE_READ(table, ehash_mask);
	w->bound_table = 0;
	w->bound_mask = 0;
	if (bpf_core_field_exists(table->bhash2)) { /* since 6.1 */
		w->bound_table = (__u64)BPF_CORE_READ(table, bhash2);
		w->bound_mask = BPF_CORE_READ(table, bhash_size) - 1;
	}
	return 0;
}

#endif
