// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* A library that closes. NAME is the function that does it. */
#include <unistd.h>

__attribute__((noinline)) int NAME(int fd)
{
	int err = close(fd);

	asm volatile("");
	return err;
}

int end(int fd)
{
	int err = NAME(fd);

	asm volatile("");
	return err;
}
