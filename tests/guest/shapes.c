// SPDX-License-Identifier: GPL-2.0
/*
 * shapes DEVICE SHAPE [OFFSET]: write, then read back one direct request of a
 * given shape, and compare.  With -r: read only; with -w: write only.
 *
 * What makes a shape is where its pieces lie in memory.  Buffers are taken
 * from a larger area in an order that keeps neighbours apart.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGE 4096UL
#define MAX_PIECES 256

static struct iovec iov[MAX_PIECES];
static int pieces;

/* Every second page of an area, from the top down: no two are neighbours. */
static void scatter(int count, size_t offset, size_t len)
{
	size_t size = 2 * count * PAGE;
	char *area = mmap(NULL, size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (area == MAP_FAILED) {
		perror("mmap");
		exit(2);
	}
	for (int i = 0; i < count; i++) {
		iov[pieces].iov_base = area + size - (2 * i + 1) * PAGE + offset;
		iov[pieces++].iov_len = len;
	}
}

static void contiguous(size_t len)
{
	void *area = mmap(NULL, len, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (area == MAP_FAILED) {
		perror("mmap");
		exit(2);
	}
	iov[pieces].iov_base = area;
	iov[pieces++].iov_len = len;
}

static int shape(const char *name)
{
	if (!strcmp(name, "page")) {
		scatter(1, 0, PAGE);
	} else if (!strcmp(name, "scattered")) {
		scatter(32, 0, PAGE);
	} else if (!strcmp(name, "gap")) {
		/* Whole pages with one piece amid them that ends early. */
		scatter(4, 0, PAGE);
		scatter(1, 512, 1024);
		scatter(4, 0, PAGE);
	} else if (!strcmp(name, "gaps")) {
		scatter(16, 512, 1024);
	} else if (!strcmp(name, "sectors")) {
		scatter(8, 512, 512);
	} else if (!strcmp(name, "mib")) {
		contiguous(1024 * 1024);
	} else {
		return -1;
	}
	return 0;
}

static unsigned char expected(int piece, size_t at)
{
	return piece * 31 + at * 7 + (at >> 8) + 1;
}

static int check(void)
{
	for (int i = 0; i < pieces; i++) {
		const unsigned char *bytes = iov[i].iov_base;

		for (size_t at = 0; at < iov[i].iov_len; at++) {
			if (bytes[at] != expected(i, at)) {
				fprintf(stderr, "piece %d byte %zu: %#x, not %#x\n",
					i, at, bytes[at], expected(i, at));
				return 1;
			}
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	int fd, mode = 0;
	ssize_t total = 0, done;
	off_t offset;

	while (argc > 1 && argv[1][0] == '-') {
		mode = argv[1][1];
		argv++;
		argc--;
	}
	if (argc < 3 || shape(argv[2])) {
		fprintf(stderr,
			"usage: shapes [-r|-w] DEVICE page|scattered|gap|gaps|sectors|mib [OFFSET]\n");
		return 2;
	}
	offset = argc > 3 ? strtoll(argv[3], NULL, 0) : 0;
	for (int i = 0; i < pieces; i++)
		total += iov[i].iov_len;

	fd = open(argv[1], O_RDWR | O_DIRECT);
	if (fd < 0) {
		perror(argv[1]);
		return 2;
	}
	if (mode != 'r') {
		for (int i = 0; i < pieces; i++)
			for (size_t at = 0; at < iov[i].iov_len; at++)
				((unsigned char *)iov[i].iov_base)[at] = expected(i, at);
		done = pwritev(fd, iov, pieces, offset);
		if (done != total) {
			fprintf(stderr, "pwritev: %zd of %zd: %s\n", done, total, strerror(errno));
			return 1;
		}
	}
	if (mode != 'w') {
		for (int i = 0; i < pieces; i++)
			memset(iov[i].iov_base, 0, iov[i].iov_len);
		done = preadv(fd, iov, pieces, offset);
		if (done != total) {
			fprintf(stderr, "preadv: %zd of %zd: %s\n", done, total, strerror(errno));
			return 1;
		}
		return check();
	}
	return 0;
}
