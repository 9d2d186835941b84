// SPDX-License-Identifier: GPL-2.0
/*
 * heap-life: the life of buffers of a heap, from allocation to the last close, in any order.
 */
#define _GNU_SOURCE
#include <sys/wait.h>

#include "heap.h"

static int heap;

static size_t size_of(int buf)
{
	return must(lseek(buf, 0, SEEK_END), "lseek to the end");
}

static void a_life(size_t len)
{
	size_t size = (len + PAGE - 1) & -PAGE;
	int buf = heap_alloc(heap, len);
	unsigned char *one, *two, *part;

	if (size_of(buf) != size)
		die("a buffer of %zu bytes has %zu, not %zu", len, size_of(buf), size);
	must(lseek(buf, 0, SEEK_SET), "lseek to the start");

	one = buf_map(buf, size);
	buf_sync(buf, DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW);
	if (!is_zero(one, size))
		die("a new buffer of %zu bytes is not zero", len);
	fill(one, size, len);
	buf_sync(buf, DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW);

	two = buf_map(buf, size);
	buf_sync(buf, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ);
	if (!is_filled(two, size, len))
		die("a second mapping has other bytes");
	for (size_t offset = 0; offset < size; offset += (size / 5 + PAGE) & -PAGE) {
		part = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, buf, offset);
		if (part == MAP_FAILED || memcmp(part, one + offset, PAGE))
			die("the page at %zu is not that of the whole mapping", offset);
		munmap(part, PAGE);
	}
	buf_sync(buf, DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ);

	munmap(one, size);
	if (!is_filled(two, size, len))
		die("unmapping one mapping changes the other");
	/* The mapping keeps the buffer. */
	close(buf);
	if (!is_filled(two, size, len))
		die("closing the file changes what is mapped");
	if (size > 2 * PAGE) {
		munmap(two + PAGE, PAGE);
		two[0] = two[2 * PAGE];
	}
	munmap(two, size);
}

/* No mapping reaches past the end. */
static void the_end(size_t size)
{
	int buf = heap_alloc(heap, size);
	struct { size_t len; off_t offset; } bad[] = {
		{ size + PAGE, 0 }, { size, PAGE }, { PAGE, size }, { PAGE, size + PAGE },
		{ 2 * PAGE, size - PAGE }, { PAGE, INT64_MAX & -PAGE },
	};
	unsigned char *at = buf_map(buf, size);

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (mmap(NULL, bad[i].len, PROT_READ, MAP_SHARED, buf, bad[i].offset) != MAP_FAILED)
			die("%zu bytes at %jd of %zu can be mapped", bad[i].len,
			    (intmax_t)bad[i].offset, size);
	}
	if (mremap(at, size, size + PAGE, MREMAP_MAYMOVE) != MAP_FAILED)
		die("a mapping can be made longer than the buffer");
	munmap(at, size);
	close(buf);
}

/* What a file may not do, its mappings may not either. */
static void read_only(void)
{
	int buf = must(heap_try(heap, PAGE, O_RDONLY | O_CLOEXEC), "a read-only buffer");
	void *at;

	if (mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, buf, 0) != MAP_FAILED)
		die("a read-only buffer can be mapped for writing");
	refused(-1, EACCES, "mapping a read-only buffer for writing");
	at = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, buf, 0);
	if (at == MAP_FAILED)
		die("a read-only buffer cannot be mapped: %s", strerror(errno));
	refused(mprotect(at, PAGE, PROT_READ | PROT_WRITE), EACCES,
		"mprotect of a read-only buffer");
	munmap(at, PAGE);
	close(buf);
}

/* A private mapping, if there is one, is of no use to change the buffer. */
static void copy_on_write(void)
{
	int buf = heap_alloc(heap, PAGE);
	unsigned char *shared = buf_map(buf, PAGE);
	unsigned char *own = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, buf, 0);

	if (own != MAP_FAILED) {
		own[0] = 1;
		if (shared[0])
			die("a private mapping changes the buffer");
		munmap(own, PAGE);
	}
	munmap(shared, PAGE);
	close(buf);
}

static void forked(size_t size)
{
	int status, buf = heap_alloc(heap, size);
	unsigned char *at = buf_map(buf, size);
	pid_t child;

	fill(at, size, 1);
	child = must(fork(), "fork");
	if (!child) {
		unsigned char *mine;

		if (!is_filled(at, size, 1))
			_exit(2);
		mine = buf_map(buf, size);
		fill(mine, size, 2);
		/* All is left to exit(). */
		_exit(0);
	}
	must(waitpid(child, &status, 0), "waitpid");
	if (status)
		die("a child does not have the buffer: status %#x", status);
	if (!is_filled(at, size, 2))
		die("the bytes of a child are not there");
	munmap(at, size);
	close(buf);
}

/* Two files and two mappings of a buffer, let go of in each of the orders that there are. */
static void any_order(void)
{
	for (int order = 0; order < 4 * 4 * 4 * 4; order++) {
		int which[4] = { order & 3, order >> 2 & 3, order >> 4 & 3, order >> 6 & 3 };
		int buf = heap_alloc(heap, 3 * PAGE), other = must(dup(buf), "dup");
		unsigned char *one = buf_map(buf, 3 * PAGE), *two = buf_map(other, 3 * PAGE);

		if (!is_zero(two, 3 * PAGE))
			die("a buffer has bytes of an earlier one");
		fill(one, 3 * PAGE, order);
		/* Some more than once, which fails, and some never, until the end. */
		for (int i = 0; i < 4; i++) {
			if (which[i] == 0 && buf >= 0)
				close(buf), buf = -1;
			else if (which[i] == 1 && other >= 0)
				close(other), other = -1;
			else if (which[i] == 2 && one)
				munmap(one, 3 * PAGE), one = NULL;
			else if (which[i] == 3 && two)
				munmap(two, 3 * PAGE), two = NULL;
			if ((one && !is_filled(one, 3 * PAGE, order)) ||
			    (two && !is_filled(two, 3 * PAGE, order)))
				die("bytes change when others let go, order %#x", order);
		}
		if (one)
			munmap(one, 3 * PAGE);
		if (two)
			munmap(two, 3 * PAGE);
		if (buf >= 0)
			close(buf);
		if (other >= 0)
			close(other);
	}
}

/*
 * What INFO tells of chunks of an order in a pattern. No page table can be asked: those that
 * dma-bufs are mapped in are not shown (VM_PFNMAP).
 */
static void scattered(unsigned int order, enum rust_dma_buf_pattern pattern, __u64 arg)
{
	size_t size = (1024 + 3) * PAGE, chunk = PAGE << order;
	size_t chunks = (size + chunk - 1) / chunk;
	struct rust_dma_buf_info info;
	int buf;

	heap_pattern(heap, order, pattern, arg);
	buf = heap_alloc(heap, size);
	info = heap_info(heap, buf);
	if (info.size != size || info.chunks != chunks)
		die("order %u: %llu bytes in %llu chunks, not %zu in %zu", order, info.size,
		    info.chunks, size, chunks);
	if (info.revoked || info.attachments || info.mappings)
		die("INFO of a new buffer: revoked %u, %u attachments, %u mappings", info.revoked,
		    info.attachments, info.mappings);
	printf("order %u pattern %u: %zu chunks, %llu runs\n", order, pattern, chunks, info.runs);
	if (!info.runs || info.runs > chunks)
		die("%llu runs cannot be", info.runs);
	if (pattern == RUST_DMA_BUF_DESCENDING && info.runs != chunks)
		die("order %u descends, but pieces adjoin", order);
	/* Of some of the free memory of a guest it can be relied on that it lies together. */
	if (pattern == RUST_DMA_BUF_ASCENDING && chunks > 64 && info.runs > chunks * 9 / 10)
		die("order %u ascends, but hardly any pieces adjoin", order);
	if (pattern != RUST_DMA_BUF_ASCENDING && chunks > 64 && info.runs < chunks * 9 / 10)
		die("order %u: many pieces adjoin in pattern %u", order, pattern);
	close(buf);
}

/* The processor keeps what it has mapped, and gets no more. */
static void revocation(size_t size)
{
	struct dma_buf_sync start = { .flags = DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW };
	int buf = heap_alloc(heap, size);
	unsigned char *at = buf_map(buf, size);

	fill(at, size, 3);
	must(heap_revoke(heap, buf), "REVOKE");
	if (!heap_info(heap, buf).revoked)
		die("a revoked buffer is not said to be");
	must(heap_revoke(heap, buf), "REVOKE of a revoked buffer");
	if (!is_filled(at, size, 3))
		die("the bytes change with REVOKE");
	if (mmap(NULL, size, PROT_READ, MAP_SHARED, buf, 0) != MAP_FAILED)
		die("a revoked buffer can be mapped");
	refused(-1, ENODEV, "mapping a revoked buffer");
	refused(ioctl(buf, DMA_BUF_IOCTL_SYNC, &start), ENODEV, "SYNC of a revoked buffer");
	munmap(at, size);
	close(buf);
}

int main(void)
{
	heap = heap_open();
	for (int order = 0; order <= 9; order += 3) {
		heap_pattern(heap, order, RUST_DMA_BUF_SHUFFLED, order + 1);
		a_life(1);
		a_life(PAGE - 1);
		a_life(PAGE);
		a_life(PAGE + 1);
		a_life(3 * MIB + 1);
		the_end(PAGE);
		the_end(5 * PAGE);
		forked(7 * PAGE);
	}
	heap_pattern(heap, 0, RUST_DMA_BUF_DESCENDING, 0);
	read_only();
	copy_on_write();
	any_order();
	if (heap_is_ours()) {
		for (unsigned int order = 0; order <= RUST_DMA_BUF_MAX_ORDER; order += 3) {
			scattered(order, RUST_DMA_BUF_DESCENDING, 0);
			scattered(order, RUST_DMA_BUF_ASCENDING, 0);
			scattered(order, RUST_DMA_BUF_SHUFFLED, 42);
			scattered(order, RUST_DMA_BUF_STRIDED, 2);
			/* In steps beyond the end it ascends. */
			if (order < 3)
				scattered(order, RUST_DMA_BUF_STRIDED, 17);
		}
		revocation(9 * PAGE);
	}
	return 0;
}
