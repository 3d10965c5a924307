// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Listens, connects to itself, and closes what it has accepted, each time that it reads a byte. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

/* The asm keeps the compiler from making a jump of the last call. */
__attribute__((noinline)) static int finish(int fd)
{
	int err = close(fd);

	asm volatile("");
	return err;
}

__attribute__((noinline)) int handle(int fd)
{
	char kept[64];
	int err = finish(fd);

	asm volatile("" : : "r"(kept));
	return err;
}

int main(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int listener = socket(AF_INET, SOCK_STREAM, 0), client;
	socklen_t len = sizeof(at);
	char byte;

	if (bind(listener, (struct sockaddr *)&at, len) || listen(listener, 8) ||
	    getsockname(listener, (struct sockaddr *)&at, &len))
		return 1;
	while (read(0, &byte, 1) == 1) {
		client = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(client, (struct sockaddr *)&at, len) || handle(accept(listener, NULL, NULL)))
			return 1;
		close(client);
	}
	return 0;
}
