/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The few kernel types that finwait reads, with only the fields that it needs.
 * CO-RE relocates every access at load time, so one object serves every
 * little-endian machine, and the build needs no vmlinux.h. Each struct names the
 * kernel header that it comes from.
 */
#ifndef FINWAIT_KERNEL_H
#define FINWAIT_KERNEL_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;

#define true	1
#define false	0
#define NULL	((void *)0)

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>

#define __core __attribute__((preserve_access_index))

/*
 * A function with a stack frame of its own. Not inlined, its locals do not lie in the
 * frame of the caller (all frames of a call chain together may take 512 bytes), and
 * the caller saves no registers where it does not call.
 */
#define __own_frame	__noinline

/*
 * A global function. The verifier checks it once, for any arguments, instead of on
 * every path that leads to a call. So it must test a pointer for NULL itself, and
 * its caller knows nothing of the result.
 */
#define __verified_once	__noinline

/* Atomic operations, by the kernel's names. Each returns the old value. */
#define cmpxchg(ptr, old, new)	__sync_val_compare_and_swap(ptr, old, new)
#define xchg(ptr, value)	__sync_lock_test_and_set(ptr, value)
#define atomic_add(ptr, value)	__sync_fetch_and_add(ptr, value)
#define atomic_or(ptr, bits)	__sync_fetch_and_or(ptr, bits)

/* include/uapi/linux/bpf.h */
enum {
	BPF_MAP_TYPE_HASH	  = 1,
	BPF_MAP_TYPE_ARRAY	  = 2,
	BPF_MAP_TYPE_PROG_ARRAY	  = 3,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH	  = 9,
	BPF_MAP_TYPE_ARRAY_OF_MAPS = 12,
	BPF_MAP_TYPE_SK_STORAGE	  = 24,
	BPF_MAP_TYPE_RINGBUF	  = 27,

	BPF_NOEXIST	  = 1,
	BPF_F_NO_PREALLOC = 1 << 0,
	BPF_F_CLONE	  = 1 << 9,
	BPF_F_MMAPABLE	  = 1 << 10,

	BPF_SK_STORAGE_GET_F_CREATE = 1,

	BPF_RB_NO_WAKEUP    = 1,
	BPF_RB_FORCE_WAKEUP = 2,
	BPF_RB_AVAIL_DATA   = 0,
};

/* include/linux/socket.h, include/uapi/linux/in.h, include/uapi/asm-generic/errno.h */
#define AF_INET		2
#define AF_INET6	10
#define IPPROTO_TCP	6
#define IPPROTO_MPTCP	262
#define E2BIG		7
#define ENOMEM		12
#define EACCES		13
#define EEXIST		17
#define EPIPE		32
#define ENONET		64
#define EPROTO		71
#define EMSGSIZE	90
#define ENOPROTOOPT	92
#define EOPNOTSUPP	95
#define EADDRNOTAVAIL	99
#define ENETUNREACH	101
#define ECONNABORTED	103
#define ECONNRESET	104
#define ETIMEDOUT	110
#define ECONNREFUSED	111
#define EHOSTDOWN	112
#define EHOSTUNREACH	113

/* include/net/tcp_states.h; the numbers are ABI, ss and /proc/net/tcp print them */
enum {
	TCP_ESTABLISHED	 = 1,
	TCP_SYN_SENT	 = 2,
	TCP_SYN_RECV	 = 3,
	TCP_FIN_WAIT1	 = 4,
	TCP_FIN_WAIT2	 = 5,
	TCP_TIME_WAIT	 = 6,
	TCP_CLOSE	 = 7,
	TCP_CLOSE_WAIT	 = 8,
	TCP_LAST_ACK	 = 9,
	TCP_LISTEN	 = 10,
	TCP_CLOSING	 = 11,
	TCP_NEW_SYN_RECV = 12,
};

/* include/net/tcp.h: TCP_TIMEWAIT_LEN, in seconds */
#define TIMEWAIT_LEN	60

/* include/net/tcp.h */
#define TCPHDR_SYN	2
#define TCPHDR_ACK	0x10

/* include/net/sock.h */
#define SEND_SHUTDOWN	2
#define SHUTDOWN_MASK	3
#define SOCK_BINDPORT_LOCK	8	/* the program has named the port (__inet_bind()) */
#define SOCK_DONE	1	/* a bit of sk_flags, enum sock_flags */
#define SOCK_LINGER	4

struct in6_addr {
	__u8 s6_addr[16];
} __core;

/* include/linux/types.h */
typedef struct {
	__s64 counter;
} __core atomic64_t;

typedef struct {
	int counter;
} __core atomic_t;

/* include/linux/refcount.h */
typedef struct {
	atomic_t refs;
} __core refcount_t;

/* include/linux/ns_common.h */
struct ns_common {
	__u32 inum;
	refcount_t count;
} __core;

/* include/linux/types.h */
struct hlist_node {
	struct hlist_node *next;
	struct hlist_node **pprev;
} __core;

struct hlist_head {
	struct hlist_node *first;
} __core;

/* include/linux/list_nulls.h: next is odd at the end of a list */
struct hlist_nulls_node {
	struct hlist_nulls_node *next;
} __core;

struct inet_hashinfo;

/* include/net/inet_timewait_sock.h (until 6.3), include/net/netns/ipv4.h (since) */
struct inet_timewait_death_row {
	refcount_t tw_refcount;
	struct inet_hashinfo *hashinfo;
	int sysctl_max_tw_buckets;
} __core;

/* include/net/inet_hashtables.h: the table of sockets that are connected or connect, minisocks and requests included */
struct inet_ehash_bucket {
	struct hlist_nulls_node *first;	/* chain.first: no more is in it */
};

/* The sockets that are bound to a port of an address, of all that are bound. */
struct inet_bind2_bucket {
	struct hlist_node node;
	struct hlist_head owners;
} __core;

struct inet_bind_hashbucket {
	struct hlist_head chain;
} __core;

struct inet_hashinfo {
	struct inet_ehash_bucket *ehash;
	struct inet_bind_hashbucket *bhash2;
	__u32 ehash_mask;
	__u32 bhash_size;
} __core;

/* include/net/netns/ipv4.h */
struct netns_ipv4 {
	struct inet_timewait_death_row tcp_death_row;
} __core;

/* include/net/snmp.h: the TcpExt counters, one struct for each CPU */
struct linux_mib;

/* include/net/netns/mib.h */
struct netns_mib {
	struct linux_mib *net_statistics;
} __core;

/* include/net/net_namespace.h */
struct net {
	__u64 net_cookie;
	struct hlist_head *dev_index_head;
	struct ns_common ns;
	struct netns_mib mib;
	struct netns_ipv4 ipv4;
} __core;

typedef struct {
	struct net *net;
} __core possible_net_t;

/* include/linux/netdevice.h */
struct net_device {
	char name[16];
	int ifindex;
	possible_net_t nd_net;
	struct hlist_node index_hlist;
} __core;

/* include/linux/skbuff.h */
struct sk_buff {
	unsigned int len;
	__u16 transport_header;
	__u16 network_header;
	unsigned char *head;
	struct net_device *dev;
	int skb_iif;
	char cb[48];
} __core;

struct sk_buff_head {
	struct sk_buff *prev;
	__u32 qlen;
} __core;

/* include/uapi/linux/errqueue.h */
struct sock_extended_err {
	__u32 ee_errno;
} __core;

/* include/linux/errqueue.h: the cb of a sk_buff in a socket's error queue */
struct sock_exterr_skb {
	struct sock_extended_err ee;
} __core;

/* include/net/sock.h */
struct proto {
	char name[32];
} __core;

struct sock_common {
	union {
		__u64 skc_addrpair;
		struct {
			__be32 skc_daddr;
			__be32 skc_rcv_saddr;
		};
	};
	union {
		__u32 skc_portpair;
		struct {
			__be16 skc_dport;
			__u16 skc_num;
		};
	};
	__u16 skc_family;
	volatile __u8 skc_state;
	__u8 skc_reuse : 4;	/* SO_REUSEADDR */
	__u8 skc_reuseport : 1;
	unsigned long skc_flags;
	int skc_bound_dev_if;
	struct proto *skc_prot;
	possible_net_t skc_net;
	__u32 skc_hash;
	struct hlist_nulls_node skc_nulls_node;
	struct hlist_node skc_bind_node;
	refcount_t skc_refcnt;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	atomic64_t skc_cookie;
} __core;

/* include/linux/kernfs.h */
struct kernfs_node {
	__u64 id;
} __core;

/* include/linux/cgroup-defs.h */
struct cgroup {
	int level;
	struct kernfs_node *kn;
} __core;

struct sock_cgroup_data {
	struct cgroup *cgroup;
} __core;

/* include/linux/uidgid.h */
typedef struct {
	__u32 val;
} __core kuid_t;

/* include/linux/fs.h */
struct inode {
	unsigned long i_ino;
	kuid_t i_uid;
} __core;

struct file {
	struct inode *f_inode;
} __core;

/* include/linux/net.h */
struct sock;

struct socket {
	struct file *file;
	struct sock *sk;
} __core;

/* include/net/sock.h */
struct socket_alloc {
	struct socket socket;
	struct inode vfs_inode;
} __core;

/* include/net/sock.h */
struct sock {
	struct sock_common __sk_common;
	__u8 sk_userlocks : 4;
	__u8 sk_shutdown;
	__u16 sk_protocol;
	__u32 sk_txhash;
	int sk_err;
	struct sk_buff_head sk_error_queue;
	unsigned long sk_lingertime;
	kuid_t sk_uid;
	struct socket *sk_socket;
	struct sock_cgroup_data sk_cgrp_data;
	__u32 sk_ack_backlog;
	struct sock_reuseport *sk_reuseport_cb;
} __core;

/* include/linux/timer_types.h, include/linux/timer.h before 6.12 */
struct timer_list {
	struct hlist_node entry;
	unsigned long expires;
	void (*function)(struct timer_list *timer);
} __core;

/* include/net/request_sock.h */
struct request_sock {
	struct sock_common __req_common;
	struct request_sock *dl_next;
	struct sock *sk;
	__u8 num_retrans;
	__u8 num_timeout : 7;
	struct timer_list rsk_timer;
} __core;

struct request_sock_queue {
	struct request_sock *rskq_accept_head;
} __core;

/* include/net/inet_sock.h */
struct inet_sock {
	__be16 inet_sport;
} __core;

/* include/net/tcp.h */
struct tcp_ulp_ops {
	char name[16];
} __core;

/* include/net/inet_connection_sock.h: begins with an inet_sock */
struct inet_connection_sock {
	struct request_sock_queue icsk_accept_queue;
	struct tcp_ulp_ops *icsk_ulp_ops;
	void *icsk_ulp_data;
	__u8 icsk_retransmits;
	__u8 icsk_pending;
	__u8 icsk_probes_out;
	__u32 icsk_user_timeout;	/* ms */
	struct {
		__u32 lrcvtime;
	} icsk_ack;
} __core;

/* net/mptcp/protocol.h: the icsk_ulp_data of a subflow, and its connection */
struct mptcp_subflow_context {
	struct sock *conn;
} __core;

struct mptcp_sock {
	struct sock *first;
} __core;

/* include/linux/tcp.h: begins with an inet_connection_sock */
struct tcp_sock {
	__u32 packets_out;
	__u32 snd_una;
	__u32 snd_nxt;
	__u32 write_seq;
	__u32 rcv_nxt;
	__u32 copied_seq;
	int linger2;
	__u64 bytes_sent;
	__u64 bytes_retrans;
	__u64 bytes_received;
	__u32 srtt_us;
	__u32 lsndtime;
	__u32 rcv_tstamp;
	__u32 total_retrans;
	__u32 snd_cwnd;
	__u32 mss_cache;
	__u8 repair : 1;
} __core;

/* include/net/inet_timewait_sock.h */
struct inet_timewait_sock {
	struct sock_common __tw_common;
	volatile __u8 tw_substate;
	__be16 tw_sport;
	struct timer_list tw_timer;
} __core;

/* include/linux/tcp.h: begins with the inet_timewait_sock */
struct tcp_timewait_sock {
} __core;

/* include/linux/bpf.h: the kernel's side of a map that is an array */
struct bpf_array {
	void *pptrs[1];		/* of a per-CPU array: an offset, to be added to that of a CPU */
} __core;

/* include/linux/sched.h */
struct mm_struct;
struct nsproxy;

#define PF_EXITING	0x00000004
#define PF_KTHREAD	0x00200000

struct task_struct {
	unsigned int flags;
	int tgid;
	struct task_struct *group_leader;
	struct task_struct *real_parent;
	char comm[16];
	__u64 start_boottime;
	struct mm_struct *mm;
	struct nsproxy *nsproxy;
} __core;

/* include/linux/nsproxy.h */
struct nsproxy {
	struct net *net_ns;
} __core;

/* include/linux/mm_types.h */
struct mm_struct {
	unsigned long start_stack;
	unsigned long exec_vm;
} __core;

/* arch/x86/include/asm/ptrace.h */
struct pt_regs___amd64 {
	unsigned long r15, r14, r13, r12, bp, bx, orig_ax, ip, cs, sp;
} __core;

/* include/linux/bpf.h and kernel/bpf/task_iter.c: the context of an iter/task_file program */
struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
} __core;

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
} __core;

/* include/linux/bpf.h and net/ipv4/tcp_ipv4.c: the context of an iter/tcp program */
struct bpf_iter__tcp {
	struct bpf_iter_meta *meta;
	struct sock_common *sk_common;
} __core;

#endif
