/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Which process holds which socket: all descriptors of the host, in a fraction of the time that /proc takes. */
#ifndef FINWAIT_HOLDING_H
#define FINWAIT_HOLDING_H

#include "kernel.h"
#include "event.h"
#include "identity.h"

/* Threads that share their descriptors are visited once. */
static __always_inline void on_file(struct bpf_iter__task_file *ctx, struct task_struct *task, struct file *file)
{
	struct socket *sock = bpf_sock_from_file(file);
	struct holding h = {};
	struct sock *sk;
	__u16 protocol;

	if (!sock)
		return;
	sk = BPF_CORE_READ(sock, sk);
	if (!sk)
		return;
	/* A file of MPTCP is that of its subflows, too: mptcp_sock_graft(), __mptcp_nmpc_sk(). */
	protocol = BPF_CORE_READ(sk, sk_protocol);
	if (protocol != IPPROTO_TCP && protocol != IPPROTO_MPTCP)
		return;
	h.inode = file->f_inode->i_ino;
	h.fd = ctx->fd;
	h.pid = process_of(task, h.comm);
	h.parent = task->group_leader->real_parent->tgid;
	h.listens = BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_LISTEN;
	h.reuse_addr = BPF_CORE_READ_BITFIELD_PROBED(&sk->__sk_common, skc_reuse);
	h.reuse_port = BPF_CORE_READ_BITFIELD_PROBED(&sk->__sk_common, skc_reuseport);
	bpf_seq_write(ctx->meta->seq, &h, sizeof(h));
}

#endif
