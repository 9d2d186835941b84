// SPDX-License-Identifier: GPL-2.0
/*
 * reads one DEVICE: reads a sector, and prints the errno, or 0.
 * reads all DEVICE: reads of many lengths, to memory at each offset in a page that a sector may
 * have, in one piece and in three with gaps between them. Each returns zeroes and writes nothing
 * else.
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
#define SECTOR 512UL
#define MOST (2UL << 20)
#define BEFORE 0xa5

static unsigned char *memory;
static int fd;
static int count;

/* Reads to pieces of memory that are in order, and looks what has changed. */
static void read_pieces(const struct iovec *iov, int pieces, off_t from)
{
	size_t at = 0, len = 0;
	ssize_t got;

	memset(memory, BEFORE, MOST);
	for (int i = 0; i < pieces; i++)
		len += iov[i].iov_len;
	got = preadv(fd, iov, pieces, from);
	if (got != (ssize_t)len) {
		fprintf(stderr, "reads: %zd of %zu bytes: %s\n", got, len, strerror(errno));
		exit(1);
	}
	for (int i = 0; i <= pieces; i++) {
		unsigned char *start = i < pieces ? iov[i].iov_base : memory + MOST;

		for (; memory + at < start; at++) {
			if (memory[at] != BEFORE) {
				fprintf(stderr, "reads: %zu bytes to %zu: %zu is written\n", len,
					(size_t)iov[0].iov_base % PAGE, at);
				exit(1);
			}
		}
		for (; i < pieces && memory + at < start + iov[i].iov_len; at++) {
			if (memory[at]) {
				fprintf(stderr, "reads: %zu bytes to %zu: %zu is not zero\n", len,
					(size_t)iov[0].iov_base % PAGE, at);
				exit(1);
			}
		}
	}
	count++;
}

static void read_length(size_t len, size_t offset)
{
	struct iovec iov[3] = { { memory + PAGE + offset, len } };
	size_t third = len / SECTOR / 3 * SECTOR;

	read_pieces(iov, 1, len + offset);
	if (!third)
		return;
	iov[0].iov_len = third;
	iov[1] = (struct iovec){ iov[0].iov_base + third + SECTOR, third };
	iov[2] = (struct iovec){ iov[1].iov_base + third + PAGE + SECTOR, len - 2 * third };
	read_pieces(iov, 3, len + offset);
}

int main(int argc, char **argv)
{
	/* The end is marked by a zero. */
	static const size_t more[] = { 63, 64, 65, 255, 256, 257, 1023, 2048, 2051, 0 };

	if (argc != 3 || (strcmp(argv[1], "one") && strcmp(argv[1], "all"))) {
		fprintf(stderr, "usage: reads one|all DEVICE\n");
		return 2;
	}
	fd = open(argv[2], O_RDONLY | O_DIRECT);
	if (fd < 0) {
		perror(argv[2]);
		return 2;
	}
	memory = mmap(NULL, MOST, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED) {
		perror("reads: mmap");
		return 2;
	}
	if (!strcmp(argv[1], "one")) {
		printf("%d\n", pread(fd, memory, SECTOR, 0) == (ssize_t)SECTOR ? 0 : errno);
		return 0;
	}
	for (size_t offset = 0; offset < PAGE; offset += SECTOR) {
		for (size_t sectors = 1; sectors <= 34; sectors++)
			read_length(sectors * SECTOR, offset);
		for (const size_t *sectors = more; *sectors; sectors++)
			read_length(*sectors * SECTOR, offset);
	}
	printf("%d reads\n", count);
	return 0;
}
