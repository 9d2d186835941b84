/* SPDX-License-Identifier: GPL-2.0 */
/*
 * For the programs here that use a dma-buf heap: that of $HEAP, or rust_dma_buf's.
 *
 * What goes wrong is told in one line, and ends the program with status 1: that is what die(),
 * must() and refused() are for.
 */
#ifndef _HEAP_H
#define _HEAP_H

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/dma-buf.h>
#include <linux/dma-heap.h>

#include "rust_dma_buf/rust_dma_buf.h"

#define PAGE 4096UL
#define MIB (1024 * 1024UL)

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

/* One line to standard error, with the program's name before it. */
#define die(...) errx(1, __VA_ARGS__)

/* The result of a system call that must succeed. */
static inline long must(long result, const char *what)
{
	if (result == -1)
		die("%s: %s", what, strerror(errno));
	return result;
}

/* A system call that must fail, with this error. */
static inline void refused(long result, int error, const char *what)
{
	if (result != -1)
		die("%s succeeds, and should not", what);
	if (errno != error)
		die("%s: %s, not %s", what, strerrorname_np(errno), strerrorname_np(error));
}

static inline const char *heap_path(void)
{
	return getenv("HEAP") ?: RUST_DMA_BUF_DEVICE;
}

/* Whether it is rust_dma_buf, which can be told more than other heaps. */
static inline bool heap_is_ours(void)
{
	return !strcmp(heap_path(), RUST_DMA_BUF_DEVICE);
}

static inline int heap_open(void)
{
	return must(open(heap_path(), O_RDWR | O_CLOEXEC), heap_path());
}

/* A buffer's file descriptor, or -1. */
static inline int heap_try(int heap, __u64 len, __u32 flags)
{
	struct dma_heap_allocation_data data = { .len = len, .fd_flags = flags };

	return ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data) ? -1 : (int)data.fd;
}

static inline int heap_alloc(int heap, __u64 len)
{
	return must(heap_try(heap, len, O_RDWR | O_CLOEXEC), "allocation");
}

/* A buffer that no importer keeps from being revoked. */
static inline int heap_alloc_revocable(int heap, __u64 len)
{
	struct dma_heap_allocation_data data = {
		.len = len,
		.fd_flags = O_RDWR | O_CLOEXEC,
		.heap_flags = RUST_DMA_BUF_HEAP_REVOCABLE,
	};

	must(ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data), "allocation of a revocable buffer");
	return data.fd;
}

static inline void heap_pattern(int heap, unsigned int order, enum rust_dma_buf_pattern pattern,
				__u64 arg)
{
	struct rust_dma_buf_set_pattern set = { .order = order, .pattern = pattern, .arg = arg };

	if (heap_is_ours())
		must(ioctl(heap, RUST_DMA_BUF_IOCTL_SET_PATTERN, &set), "SET_PATTERN");
}

static inline struct rust_dma_buf_info heap_info(int heap, int buf)
{
	struct rust_dma_buf_info info = { .fd = buf };

	must(ioctl(heap, RUST_DMA_BUF_IOCTL_INFO, &info), "INFO");
	return info;
}

static inline int heap_revoke(int heap, int buf)
{
	return ioctl(heap, RUST_DMA_BUF_IOCTL_REVOKE, &buf);
}

static inline unsigned char *buf_map(int buf, size_t len)
{
	void *at = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, buf, 0);

	if (at == MAP_FAILED)
		die("mmap of %zu bytes: %s", len, strerror(errno));
	return at;
}

static inline void buf_sync(int buf, __u64 flags)
{
	struct dma_buf_sync sync = { .flags = flags };

	must(ioctl(buf, DMA_BUF_IOCTL_SYNC, &sync), "DMA_BUF_IOCTL_SYNC");
}

static inline bool is_zero(const unsigned char *at, size_t len)
{
	return !len || (!at[0] && !memcmp(at, at + 1, len - 1));
}

/* Differs from word to word and from seed to seed. */
static inline __u64 word(__u64 seed, size_t i)
{
	return (seed + i) * 0x9e3779b97f4a7c15ULL + 1;
}

static inline void fill(unsigned char *at, size_t len, __u64 seed)
{
	for (size_t i = 0; i < len / sizeof(__u64); i++)
		((__u64 *)at)[i] = word(seed, i);
}

static inline bool is_filled(const unsigned char *at, size_t len, __u64 seed)
{
	for (size_t i = 0; i < len / sizeof(__u64); i++) {
		__u64 found = ((const __u64 *)at)[i];

		if (found != word(seed, i)) {
			fprintf(stderr, "byte %#zx of %#zx: %#llx, not %#llx\n",
				i * sizeof(__u64), len, found, word(seed, i));
			return false;
		}
	}
	return true;
}

/* splitmix64: the same numbers for the same seed. */
static inline __u64 rnd(__u64 *state)
{
	__u64 mixed = *state += 0x9e3779b97f4a7c15ULL;

	mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9ULL;
	mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebULL;
	return mixed ^ mixed >> 31;
}

#endif /* _HEAP_H */
