// SPDX-License-Identifier: GPL-2.0
/*
 * falloc DEVICE: discards, zeroes and modes of fallocate() on a disk, with its page cache in
 * between.  A line a call: the result, and what the range reads as, past the cache and through
 * it.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/falloc.h>
#include <linux/fs.h>

#ifndef FALLOC_FL_WRITE_ZEROES
#define FALLOC_FL_WRITE_ZEROES 0x80
#endif

#define SIZE (4UL << 20)

static int direct, cached;
static unsigned char *buf;

static void fill(bool through_cache)
{
	memset(buf, 0xab, SIZE);
	if (pwrite(through_cache ? cached : direct, buf, SIZE, 0) != (ssize_t)SIZE)
		err(1, "fill");
}

static const char *look(int fd, __u64 from, __u64 len)
{
	bool zero = true, old = true;

	if (pread(fd, buf, SIZE, 0) != (ssize_t)SIZE)
		return strerrorname_np(errno);
	for (__u64 i = 0; i < SIZE; i++) {
		if (i < from || i - from >= len) {
			if (buf[i] != 0xab)
				return "AROUND IT IS DAMAGED";
		} else {
			zero &= !buf[i];
			old &= buf[i] == 0xab;
		}
	}
	return zero ? "zero" : old ? "old" : "MIXED";
}

static void report(const char *name, __u64 from, __u64 len, int result, bool past_cache)
{
	printf("%s %llu+%llu: %s", name, (unsigned long long)from, (unsigned long long)len,
	       result ? strerrorname_np(errno) : "ok");
	if (past_cache)
		printf(", direct %s", look(direct, from, len));
	printf(", cached %s\n", look(cached, from, len));
}

static void call(const char *name, unsigned long op, __u64 from, __u64 len)
{
	__u64 range[2] = { from, len };

	fill(false);
	report(name, from, len, ioctl(direct, op, range), true);
	/* A dirty cache. */
	fill(true);
	report(name, from, len, ioctl(direct, op, range), false);
}

static void allocate(const char *name, int mode, off_t from, off_t len)
{
	fill(false);
	report(name, from, len, fallocate(direct, mode, from, len), true);
}

int main(int argc, char **argv)
{
	static const __u64 ranges[][2] = {
		{ 0, SIZE }, { 4096, 4096 }, { 512, 512 }, { 512, 8192 }, { 4096 + 512, 1 << 20 },
		{ 0, 0 }, { 1, 512 }, { 512, 1 },
	};
	__u64 end;

	if (argc != 2)
		errx(2, "usage: falloc DEVICE");
	direct = open(argv[1], O_RDWR | O_DIRECT);
	cached = open(argv[1], O_RDWR);
	buf = aligned_alloc(4096, SIZE);
	if (direct < 0 || cached < 0 || !buf)
		err(1, "%s", argv[1]);
	end = lseek(direct, 0, SEEK_END);

	for (size_t i = 0; i < sizeof(ranges) / sizeof(*ranges); i++) {
		call("BLKDISCARD", BLKDISCARD, ranges[i][0], ranges[i][1]);
		call("BLKZEROOUT", BLKZEROOUT, ranges[i][0], ranges[i][1]);
	}
	call("BLKSECDISCARD", BLKSECDISCARD, 0, SIZE);
	call("BLKDISCARD", BLKDISCARD, end - 4096, 8192);
	call("BLKZEROOUT", BLKZEROOUT, end, 4096);
	call("BLKDISCARD", BLKDISCARD, ~0ULL - 4095, 4096);
	allocate("PUNCH_HOLE|KEEP_SIZE", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 65536);
	allocate("PUNCH_HOLE|KEEP_SIZE", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 100);
	allocate("ZERO_RANGE", FALLOC_FL_ZERO_RANGE, 4096, 65536);
	allocate("ZERO_RANGE|KEEP_SIZE", FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 512, 1024);
	allocate("WRITE_ZEROES", FALLOC_FL_WRITE_ZEROES, 4096, 65536);
	allocate("0", 0, 4096, 65536);
	return 0;
}
