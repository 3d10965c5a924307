/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Which listeners have set SO_REUSEADDR and SO_REUSEPORT: sock_diag(7) does not tell. */
#ifndef FINWAIT_REUSE_H
#define FINWAIT_REUSE_H

#include "kernel.h"
#include "event.h"

/* A socket that has no cookie yet was listed by nobody: nobody asks about it. */
static __always_inline void on_listener(struct bpf_iter__tcp *ctx, struct sock_common *skc)
{
	struct listener l = { .cookie = BPF_CORE_READ(skc, skc_cookie.counter) };

	if (skc->skc_state != TCP_LISTEN || !l.cookie)
		return;
	l.reuse_addr = BPF_CORE_READ_BITFIELD(skc, skc_reuse);
	l.reuse_port = BPF_CORE_READ_BITFIELD(skc, skc_reuseport);
	bpf_seq_write(ctx->meta->seq, &l, sizeof(l));
}

#endif
