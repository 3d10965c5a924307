// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Listens, connects to itself, and closes what it has accepted, each time that it reads a
 * byte: in a signal handler, if it is told so; otherwise by a function. With the name of a
 * program it becomes that the second time. With names of libraries it closes by the
 * function end() of the first one, and next of the second one, in the place of the first.
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
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

static int accepted;

static void on_signal(int nr)
{
	(void)nr;
	handle(accepted);
}

#ifdef LIBRARIES
static int by_library(const char *name, int fd)
{
	static void *library;
	int (*end)(int);

	if (library)
		dlclose(library);
	library = dlopen(name, RTLD_NOW);
	end = library ? (int (*)(int))dlsym(library, "end") : NULL;
	return end ? end(fd) : -1;
}
#else
static int by_library(const char *name, int fd) { (void)name; return fd; }
#endif

static int finish_by(int argc, char **argv, int turn)
{
	if (argc > 2)
		return by_library(argv[1 + turn % 2], accepted);
	if (argc > 1 && !strcmp(argv[1], "signal")) {
		signal(SIGUSR1, on_signal);
		return raise(SIGUSR1);
	}
	return handle(accepted);
}

int main(int argc, char **argv)
{
	int turn = 0;
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int listener = socket(AF_INET, SOCK_STREAM, 0), client;
	socklen_t len = sizeof(at);
	char byte;

	if (bind(listener, (struct sockaddr *)&at, len) || listen(listener, 8) ||
	    getsockname(listener, (struct sockaddr *)&at, &len))
		return 1;
	while (read(0, &byte, 1) == 1) {
		if (turn && argc == 2 && strcmp(argv[1], "signal"))
			execl(argv[1], argv[1], NULL);
		client = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(client, (struct sockaddr *)&at, len))
			return 1;
		accepted = accept(listener, NULL, NULL);
		if (finish_by(argc, argv, turn++))
			return 1;
		close(client);
	}
	return 0;
}
