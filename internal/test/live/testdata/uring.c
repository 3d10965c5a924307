// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Uses descriptor 3, a connection, by io_uring alone: receives until the end, and closes.
 * With an argument, a thread of the kernel does it (IOSQE_ASYNC).
 */
#include <linux/io_uring.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct io_uring_params params;
static struct io_uring_sqe *sqes;
static char *submitted, *completed;
static int ring;

static uint32_t *word(char *mapped, uint32_t offset) { return (uint32_t *)(mapped + offset); }

__attribute__((noinline)) static int request(const struct io_uring_sqe *what)
{
	uint32_t tail = *word(submitted, params.sq_off.tail), slot = tail & *word(submitted, params.sq_off.ring_mask), head;
	struct io_uring_cqe *done;

	sqes[slot] = *what;
	word(submitted, params.sq_off.array)[slot] = slot;
	__atomic_store_n(word(submitted, params.sq_off.tail), tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1)
		return -1;
	head = *word(completed, params.cq_off.head);
	done = (struct io_uring_cqe *)(completed + params.cq_off.cqes) + (head & *word(completed, params.cq_off.ring_mask));
	__atomic_store_n(word(completed, params.cq_off.head), head + 1, __ATOMIC_RELEASE);
	return done->res;
}

int main(int argc, char **argv)
{
	char buf[16];
	struct io_uring_sqe receive = { .opcode = IORING_OP_RECV, .fd = 3, .addr = (uintptr_t)buf, .len = sizeof(buf) };
	struct io_uring_sqe end = { .opcode = IORING_OP_CLOSE, .fd = 3 };
	int n;

	(void)argv;
	ring = syscall(SYS_io_uring_setup, 4, &params);
	if (ring < 0)
		return 77;
	submitted = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	completed = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_CQ_RING);
	sqes = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
	if (argc > 1)
		receive.flags = end.flags = IOSQE_ASYNC;
	while ((n = request(&receive)) > 0)
		;
	if (n || request(&end))
		return 1;
	return read(0, buf, 1) < 0;
}
