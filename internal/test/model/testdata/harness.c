/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Runs the programs of bpf/ on the host. A request on stdin is a sequence of
 * operations: a kernel object is made to look so, and a hook fires. The answer on
 * stdout is what came of each. Everything is 64-bit words, in the order of the
 * structs below; harness_test.go has the same.
 */
#include <stdio.h>
#include "shim.h"

/* What user space sets before loading is constant there, not here. */
#pragma clang section bss = "finwait_bss" data = "finwait_data"
#define const
/* So few that most records are in the hash. */
#define SOCKET_SLOTS	2
#include "finwait.bpf.c"
#undef const
#pragma clang section bss = "" data = ""

struct settings {
	__u64 sees_rearms, sees_resets, raw, no_totals, stream, audit, split_by, local_port, netns, min_duration_ns, minisocks, hz;
};

enum code {
	OP_NOTHING,	/* the object changes, and no program is run */
	OP_SET_STATE,
	OP_TIMER_START,
	OP_TIMER_CANCEL,
	OP_TIMER_EXPIRE,
	OP_KFREE_SKB,
	OP_TWSK_ALLOC,
	OP_TWSK_SCHEDULE,
	OP_TWSK_KILL,
	OP_EXISTING,
	OP_SEND_RESET,
	OP_ERROR_REPORT,
	OP_ATTACHED,
	OP_NEW_SOCK,	/* memory is given to a socket; of a listener's child, with its storage */
	OP_FREE_SOCK,
	OP_NEW_MINI,
	OP_SWEEP,
};

enum object { NO_OBJECT, A_SOCK, A_MINI };

struct op {
	__u64 code, object, slot, nest;
	__u64 now, jiffies, cpu, fresh_cookie;
	__u64 stack[4];
	__s64 frames;
	__u64 fail_updates, fail_storage, ring_room;
	__u64 pid, kthread;
	__u64 parent;		/* slot of the listener, or of the socket that a minisock is made of, and 1; 0: none */
	__u64 zero_cookie, copy_cookie;
	/* set_state */
	__u64 from, to, skip;	/* skip, bit n: the n-th program on the tracepoint is not run */
	/* either */
	__u64 state, family, sport, dport, netns, tw_alive;
	/* a socket */
	__u64 inet_sport, protocol, shutdown, err, held, linger2, packets_out, unacked;
	__u64 seq, soft_err, unread, linger_zero, repair, retransmits, probes, user_timeout;
	__u64 exiting;		/* the task */
	__u64 overflows;	/* of this CPU, counted by the kernel */
	__u64 segment;		/* that is answered with an RST: its flags, and whether it has data */
	__u64 subflow;		/* of MPTCP: 1 the first, 2 a later one */
	__u64 named;		/* the program named the port to bind() */
	/* a minisock */
	__u64 substate, expires, pending, timeo, rearm;
};

#define MAX_OPS		4096
#define MAX_EVENTS	64
#define NETS		3

static struct op ops[MAX_OPS];
static struct event seen_events[MAX_EVENTS];
static size_t n_seen, at_op, n_ops;
static __u64 countdown;		/* to the point where another CPU runs the next operation; 0: none does */

static struct net nets[NETS];

/* The kernel's TCPTimeWaitOverflow, as far apart for two CPUs as values of the map that finds a CPU's are. */
static struct { __u64 count, pad; } overflow_counts[CPUS];
_Static_assert(sizeof(overflow_counts[0]) == sizeof(struct cpu_slot), "a CPU's counter is not where its slot says");
static struct sk_buff icmp_error; /* in the error queue of a socket */
static struct proto tcp_proto = { "TCP" };
static struct inode inode = { 77 };
static struct file file = { &inode };
static struct socket held_by = { &file };
static struct kernfs_node kn = { 9 };
static struct tcp_ulp_ops mptcp = { "mptcp" };
static struct cgroup cgroup = { .level = 0, .kn = &kn };

static void put(__u64 word)
{
	if (fwrite(&word, sizeof(word), 1, stdout) != 1)
		exit(1);
}

static void submitted(const void *event)
{
	if (n_seen == MAX_EVENTS)
		abort();
	seen_events[n_seen++] = *(const struct event *)event;
}

static void dress_common(struct sock_common *skc, const struct op *op)
{
	struct net *net = &nets[op->netns % NETS];

	skc->skc_state = op->state;
	skc->skc_family = op->family;
	skc->skc_num = op->sport;
	skc->skc_dport = bpf_htons((__u16)op->dport);
	skc->skc_rcv_saddr = bpf_htonl(0x7f000001);
	skc->skc_daddr = bpf_htonl(0x7f000002);
	skc->skc_v6_rcv_saddr.s6_addr[15] = skc->skc_v6_daddr.s6_addr[15] = 1;
	skc->skc_net.net = net;
	skc->skc_prot = &tcp_proto;
	overflow_counts[op->cpu % CPUS].count = op->overflows;
	net->ipv4.tcp_death_row.tw_refcount.refs.counter = op->tw_alive + 1;
	if (op->zero_cookie)
		skc->skc_cookie.counter = 0;
	if (op->copy_cookie && op->parent)
		skc->skc_cookie.counter = socks[op->parent - 1].sk.__sk_common.skc_cookie.counter;
}

static void dress_sock(union sock_memory *s, const struct op *op)
{
	static struct mptcp_subflow_context subflows[MAX_SOCKS];
	static struct mptcp_sock connections[MAX_SOCKS];
	size_t i = s - socks;

	dress_common(&s->sk.__sk_common, op);
	s->sk.sk_protocol = op->protocol;
	s->sk.sk_shutdown = op->shutdown;
	s->sk.sk_userlocks = op->named ? SOCK_BINDPORT_LOCK : 0;
	s->sk.sk_err = op->err;
	s->sk.sk_uid.val = 1000;
	s->sk.sk_socket = op->held ? &held_by : NULL;
	s->sk.sk_cgrp_data.cgroup = &cgroup;
	s->inet.inet_sport = bpf_htons((__u16)op->inet_sport);
	subflows[i] = (struct mptcp_subflow_context){ (struct sock *)&connections[i] };
	connections[i].first = op->subflow == 1 ? &s->sk : NULL;
	s->icsk.icsk_ulp_ops = op->subflow ? &mptcp : NULL;
	s->icsk.icsk_ulp_data = op->subflow ? &subflows[i] : NULL;
	s->tp.linger2 = op->linger2 ? -1 : 0;
	s->tp.packets_out = op->packets_out;
	s->tp.snd_nxt = s->tp.write_seq = op->seq;
	s->tp.snd_una = op->seq - op->unacked;
	s->tp.copied_seq = 500;
	s->tp.rcv_nxt = 500 + op->unread;
	s->tp.repair = op->repair;
	s->icsk.icsk_retransmits = op->retransmits;
	s->icsk.icsk_probes_out = op->probes;
	s->icsk.icsk_user_timeout = op->user_timeout;
	*(__u32 *)icmp_error.cb = op->soft_err;
	s->sk.sk_error_queue.prev = &icmp_error;
	s->sk.sk_error_queue.qlen = op->soft_err != 0;
	s->sk.__sk_common.skc_flags = op->linger_zero << SOCK_LINGER;
}

static void tw_handler(struct timer_list *timer) { (void)timer; }

static void dress_mini(struct inet_timewait_sock *tw, const struct op *op)
{
	static struct hlist_node *pending;

	dress_common(&tw->__tw_common, op);
	tw->tw_substate = op->substate;
	tw->tw_timer.expires = op->expires;
	tw->tw_timer.function = tw_handler;
	tw->tw_timer.entry.pprev = op->pending ? &pending : NULL;
}

/* After the name are the bytes of an older one, as before 5.17. */
static void name_task(struct task_struct *task, __u64 pid)
{
	static const char *const names[] = { "five5", "seven-7", "eight--8", "fifteen-bytes-x" };

	memset(task->comm, 0xee, sizeof(task->comm) - 1);
	strcpy(task->comm, names[pid % 4]);
}

static void surround(const struct op *op)
{
	here = (struct surroundings){
		.now = op->now, .jiffies = op->jiffies, .cpu = op->cpu % CPUS, .fresh_cookie = op->fresh_cookie,
		.frames = op->frames, .fail_updates = op->fail_updates, .fail_storage = op->fail_storage,
		.ring_room = op->ring_room,
	};
	memcpy(here.stack, op->stack, sizeof(here.stack));
	current_task.flags = op->kthread ? PF_KTHREAD : op->exiting ? PF_EXITING : 0;
	current_task.group_leader = &current_leader;
	current_task.tgid = op->pid;
	name_task(&current_leader, op->pid);
}

/* A program is called with what the hook was called with. */
#define RUN(program, args...) program((unsigned long long[]){ args })
#define ARG(arg) ((unsigned long long)(arg))

/* Programs on one tracepoint are run one after the other. */
static void fire_set_state(struct sock *sk, const struct op *op)
{
	if (!(op->skip & 1))
		RUN(set_state, ARG(sk), op->from, op->to);
	if (!(op->skip & 2))
		RUN(set_state_nested, ARG(sk), op->from, op->to);
}

static void fire(const struct op *op)
{
	union sock_memory *s = &socks[op->slot % MAX_SOCKS];
	struct inet_timewait_sock *tw = &minis[op->slot % MAX_MINIS];
	size_t slot = op->slot % MAX_SOCKS;
	void *rx_sk = op->object == A_MINI ? (void *)tw : op->object == A_SOCK ? (void *)s : NULL;

	switch (op->code) {
	case OP_NEW_SOCK:
		memset(s, 0, sizeof(*s));
		if (op->parent && storage[op->parent - 1]) {
			storage[slot] = malloc(sizeof(struct owner));
			memcpy(storage[slot], storage[op->parent - 1], sizeof(struct owner));
		}
		break;
	case OP_NEW_MINI:
		memset(tw, 0, sizeof(*tw));
		break;
	case OP_FREE_SOCK:
		free(storage[slot]);
		storage[slot] = NULL;
	}

	if (op->object == A_SOCK)
		dress_sock(s, op);
	else if (op->object == A_MINI)
		dress_mini(tw, op);

	switch (op->code) {
	case OP_SET_STATE:
		fire_set_state(&s->sk, op);
		break;
	case OP_TIMER_START:
		RUN(timer_start, ARG(&tw->tw_timer));
		break;
	case OP_TIMER_CANCEL:
		RUN(timer_cancel, ARG(&tw->tw_timer));
		break;
	case OP_TIMER_EXPIRE:
		RUN(timer_expire_entry, ARG(&tw->tw_timer));
		break;
	case OP_KFREE_SKB:
		RUN(kfree_skb, 0, 0, 0, ARG(rx_sk));
		break;
	case OP_TWSK_ALLOC:
		RUN(twsk_alloc, ARG(op->parent ? &socks[op->parent - 1].sk : NULL), 0, op->substate,
		    ARG(op->object == A_MINI ? tw : NULL));
		break;
	case OP_TWSK_SCHEDULE:
		RUN(twsk_schedule, ARG(tw), op->timeo, op->rearm);
		break;
	case OP_TWSK_KILL:
		RUN(twsk_kill, ARG(tw));
		break;
	case OP_ERROR_REPORT:
		RUN(error_report, ARG(&s->sk));
		break;
	case OP_SEND_RESET: {
		unsigned char th[20] = { [12] = 5 << 4, [13] = op->segment & 255 };
		struct sk_buff skb = { .len = sizeof(th) + (op->segment >> 8), .head = th };

		RUN(send_reset, ARG(rx_sk), ARG(&skb));
		break;
	}
	case OP_EXISTING: {
		struct bpf_iter__tcp iter = { .sk_common = rx_sk };

		existing(&iter);
		break;
	}
	case OP_ATTACHED:
		attached_ns = op->now;
		break;
	case OP_SWEEP:
		if (raw) /* as tracer/sweep_linux.go does */
			break;
		sweep_minisocks(NULL);
		sweep_sockets(NULL);
		settle_ports(NULL);
	}
	if (op->object == A_SOCK && op->to) /* whether or not a program has run */
		s->sk.__sk_common.skc_state = op->to;
}

struct account sum_accounts(void)
{
	struct account sum = {};
	struct account *a;

	for (int cpu = 0; cpu < CPUS; cpu++) {
		a = array_slot(MAP(&accounts), cpu, 0);
		for (size_t i = 0; i < sizeof(sum) / 8; i++)
			((__u64 *)&sum)[i] += ((__u64 *)a)[i];
	}
	return sum;
}

/* Places of an array whose first word is set. */
static size_t used(struct map *m)
{
	size_t n = 0;

	for (__u32 i = 0; i < m->max; i++)
		n += *(__u64 *)array_slot(m, 0, i) != 0;
	return n;
}

static void put_event(const struct event *e)
{
	__u64 comms[4];
	const __u64 words[] = {
		e->time_ns, e->since_ns, e->cookie, e->from, e->to, e->precision, e->role, e->reason, e->flags,
		e->detail, e->err, e->retransmits, e->hook, e->rearms, e->owner.pid, e->owner.holder, e->closer.pid,
		e->tuple.sport, e->tuple.dport, e->tuple.family, e->tuple.netns, e->tuple.netns_cookie,
		*(const __u32 *)e->tuple.saddr, *(const __u32 *)e->tuple.daddr,
	};

	for (size_t i = 0; i < sizeof(words) / 8; i++)
		put(words[i]);
	memcpy(comms, e->owner.comm, COMM_LEN);
	memcpy(comms + 2, e->closer.comm, COMM_LEN);
	for (size_t i = 0; i < sizeof(comms) / 8; i++)
		put(comms[i]);
}

static void answer(const struct op *op, const struct surroundings *s, size_t first, size_t last)
{
	struct account a = sum_accounts();
	size_t records = MAP(&minisocks)->n + used(MAP(&minisock_slots));
	size_t sockets_kept = MAP(&sockets)->n + used(MAP(&socket_slots));
	struct sock_common *skc = op->object == A_MINI ? &minis[op->slot % MAX_MINIS].__tw_common
						       : &socks[op->slot % MAX_SOCKS].sk.__sk_common;
	const __u64 words[] = {
		s->failed_updates, s->failed_storage, skc->skc_cookie.counter, records, sockets_kept,
		a.seen, a.filtered, a.delivered, a.ring_full, a.map_full, a.rescued, a.births_rescued,
		a.missed, a.unwind_failed, last - first,
	};

	put(op - ops);
	for (size_t i = 0; i < sizeof(words) / 8; i++)
		put(words[i]);
	for (; first < last; first++)
		put_event(&seen_events[first]);
}

/* The other CPU's operation, in the middle of this one's. What each has emitted is told apart. */
static void preempt(void)
{
	struct surroundings mine = here;
	struct task_struct task = current_task, leader = current_leader;
	size_t before = n_seen;
	const struct op *op;

	if (!countdown || --countdown)
		return;
	op = &ops[at_op++];
	surround(op);
	fire(op);
	answer(op, &here, before, n_seen);
	n_seen = before;
	here = mine;
	current_task = task;
	current_leader = leader;
}

static void run_next(void)
{
	const struct op *op = &ops[at_op++];

	n_seen = 0;
	surround(op);
	countdown = at_op < n_ops ? op->nest : 0;
	fire(op);
	countdown = 0;
	answer(op, &here, 0, n_seen);
	grace_period();
}

/* As after loading. Not instrumented: it goes over what lies between variables. */
extern char __start_finwait_bss[], __stop_finwait_bss[], __start_finwait_data[], __stop_finwait_data[];
static char *loaded;

__attribute__((no_sanitize("address"), noinline)) static void copy(volatile char *to, const volatile char *from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		to[i] = from ? from[i] : 0;
}

static void forget(void)
{
	size_t size = __stop_finwait_data - __start_finwait_data;
	struct entry *e;

	if (!loaded) {
		loaded = malloc(size);
		copy(loaded, __start_finwait_data, size);
	}
	copy(__start_finwait_data, loaded, size);
	copy(__start_finwait_bss, NULL, __stop_finwait_bss - __start_finwait_bss);
	for (struct map *m = maps; m < maps + MAX_MAPS; m++) {
		free(m->array);
		while ((e = m->entries)) {
			m->entries = e->next;
			free(e->value);
			free(e);
		}
	}
	memset(maps, 0, sizeof(maps));
	for (int i = 0; i < MAX_SOCKS; i++) {
		free(storage[i]);
		storage[i] = NULL;
	}
	memset(socks, 0, sizeof(socks));
	memset(minis, 0, sizeof(minis));
}

static void load(const struct settings *set)
{
	struct owner holder = {};

	sees_rearms = set->sees_rearms;
	sees_resets = set->sees_resets;
	overflow_mib = 0;
	raw = set->raw;
	totals_on = !raw && !set->no_totals; /* as tracer/load_linux.go does */
	stream = set->stream;
	audit = set->audit;
	split_by = set->split_by;
	local_ports[0].first = local_ports[0].last = set->local_port;
	n_local_ports = set->local_port != 0;
	netns[0] = set->netns;
	n_netns = set->netns != 0;
	filters_connections = n_local_ports || n_netns;
	min_duration_ns = set->min_duration_ns;
	hz = set->hz;
	overdue_after = 1;
	tw_timer_handler = (__u64)tw_handler;
	n_callers = CALLER_UNKNOWN - 1;
	for (__u32 c = 1; c <= n_callers; c++)
		callers[c - 1] = (struct caller_range){ .start = c << 8, .end = (c << 8) + 255, .caller = c };
	for (__u32 c = n_callers; c < MAX_CALLERS; c++)
		callers[c] = (struct caller_range){ .start = 1UL << 62 }; /* none */
	owners = stream || split_by;
	fails = MAP(&minisocks);
	resize(fails, set->minisocks);
	if (!split_by) /* as tracer/size_linux.go does */
		fails->value_size = owners ? offsetof(struct mini_info, group) : offsetof(struct mini_info, owner);
	n_minisock_slots = 2;
	find_map(&minisock_slots, BPF_MAP_TYPE_ARRAY, sizeof(__u32), fails->value_size, n_minisock_slots);
	storage_fails = MAP(&sockets);
	resize(storage_fails, 64);
	resize(MAP(&groups), 64);
	resize(MAP(&holders), 1);
	n_rings = MAP(&rings)->max = CPUS;
	holder.pid = 300;
	memcpy(holder.comm, "five5", 6);
	bpf_map_update_elem(&holders, &(__u64){ inode.i_ino }, &holder, 0);
	for (int i = 0; i < NETS; i++) {
		nets[i].mib.net_statistics = (void *)((__u64)overflow_counts - (__u64)array_slot(MAP(&cpu_slots), 0, 0));
		nets[i].net_cookie = i + 1;
		nets[i].ns.inum = 4026531840u; /* as if each had been removed before the next was made */
		nets[i].ipv4.tcp_death_row.sysctl_max_tw_buckets = 1000;
	}
	if (audit)
		find_map(&netns_totals, BPF_MAP_TYPE_PERCPU_ARRAY, sizeof(__u32), sizeof(struct netns_totals), NETNS_MAX);
}

static void put_sums(struct map *m, __u32 key, size_t words)
{
	for (size_t i = 0; i < words; i++) {
		__u64 sum = 0;

		for (int cpu = 0; cpu < CPUS; cpu++)
			sum += ((__u64 *)array_slot(m, cpu, key))[i];
		put(sum);
	}
}

static void put_totals(void)
{
	__u64 live[STATES] = {};

	put_sums(MAP(&totals), 0, offsetof(struct totals, rearms) / 8 + 2);
	for (__u32 of = 0; of < ALL_DURATIONS; of++) {
		__u64 n = 0;

		for (int cpu = 0; cpu < CPUS; cpu++) {
			struct durations *d = array_slot(MAP(&durations), cpu, of);

			for (int i = 0; i < HISTOGRAM_BUCKETS; i++)
				n += d->counts[i];
		}
		put(n);
	}
	for (struct entry *e = MAP(&groups)->entries; e; e = e->next)
		live[((struct group_key *)e->key)->state % STATES] += ((struct group *)e->value)->sums.live;
	for (int i = 0; i < STATES; i++)
		put(live[i]);
	for (__u32 slot = 0; slot <= NETS; slot++) {
		if (audit)
			put_sums(MAP(&netns_totals), slot, sizeof(struct netns_totals) / 8);
		else
			for (size_t i = 0; i < sizeof(struct netns_totals) / 8; i++)
				put(0);
	}
}

int main(void)
{
	struct settings set;
	__u64 n;

	while (fread(&n, sizeof(n), 1, stdin) == 1) {
		if (n > MAX_OPS || fread(&set, sizeof(set), 1, stdin) != 1 || fread(ops, sizeof(ops[0]), n, stdin) != n)
			return 1;
		forget();
		load(&set);
		n_ops = n;
		at_op = 0;
		while (at_op < n_ops)
			run_next();
		put_totals();
		if (fflush(stdout))
			return 1;
	}
	forget();
	return 0;
}
