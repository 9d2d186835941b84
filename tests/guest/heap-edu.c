// SPDX-License-Identifier: GPL-2.0
/*
 * heap-edu FOLDER [scattered|bounced]: the device of a rust_edu folder writes its memory to buffers
 * of the heap.  "scattered": no IOMMU translates, so it refuses a buffer that is not one range;
 * "bounced": it may, as it gets copies.
 */
#define _GNU_SOURCE
#include "heap.h"

/* What the device holds. */
#define DEVICE_MEMORY 4096UL

static int folder;

static int open_file(const char *name, int flags)
{
	return must(openat(folder, name, flags | O_CLOEXEC), name);
}

/* Fills the device's memory, and compares what the driver dumps of it. */
static void fill_device(__u64 seed)
{
	static unsigned char bytes[DEVICE_MEMORY + 1];
	int scatter = open_file("scatter", O_WRONLY), memory = open_file("memory", O_RDONLY);

	fill(bytes, DEVICE_MEMORY, seed);
	if (must(pwrite(scatter, bytes, DEVICE_MEMORY, 0), "scatter") != DEVICE_MEMORY)
		die("not all was written");
	memset(bytes, 0, sizeof(bytes));
	if (must(pread(memory, bytes, sizeof(bytes), 0), "memory") != DEVICE_MEMORY)
		die("the device's memory is not %lu bytes", DEVICE_MEMORY);
	if (!is_filled(bytes, DEVICE_MEMORY, seed))
		die("the device's memory is not what was written");
	if (must(pread(memory, bytes, sizeof(bytes), DEVICE_MEMORY), "memory"))
		die("there is more than the device's memory");
	close(scatter);
	close(memory);
}

static int import(int buf)
{
	int file = open_file("dma_buf", O_WRONLY);
	int written = write(file, &buf, sizeof(buf));
	int error = errno;

	close(file);
	errno = error;
	return written == sizeof(buf) ? 0 : -1;
}

static void takes(int heap, size_t len, __u64 seed)
{
	size_t filled = len < DEVICE_MEMORY ? len : DEVICE_MEMORY;
	int buf = heap_alloc(heap, len);
	unsigned char *at = buf_map(buf, len);

	fill_device(seed);
	must(import(buf), "dma_buf");
	buf_sync(buf, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ);
	if (!is_filled(at, filled, seed) || !is_zero(at + filled, len - filled))
		die("a buffer of %zu bytes is not what the device has written", len);
	buf_sync(buf, DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ);
	if (heap_info(heap, buf).attachments)
		die("the device is still attached");
	munmap(at, len);
	close(buf);
}

int main(int argc, char **argv)
{
	int heap = heap_open(), buf, ret;

	if (argc < 2)
		die("usage: heap-edu FOLDER [scattered|bounced]");
	folder = must(open(argv[1], O_PATH | O_DIRECTORY | O_CLOEXEC), argv[1]);

	takes(heap, sysconf(_SC_PAGESIZE), 1);
	if (argc == 2) {
		takes(heap, 16 * sysconf(_SC_PAGESIZE), 2);
	} else {
		buf = heap_alloc(heap, 16 * sysconf(_SC_PAGESIZE));
		/* Copies of scattered pages may well lie next to each other. */
		ret = import(buf);
		if (ret || strcmp(argv[2], "bounced"))
			refused(ret, EILSEQ, "dma_buf of a scattered buffer");
		close(buf);
	}
	refused(import(-1), EBADF, "dma_buf of no file");
	refused(import(heap), EINVAL, "dma_buf of another file");
	buf = must(heap_try(heap, PAGE, O_RDONLY), "allocation");
	refused(import(buf), EACCES, "dma_buf of a buffer for reading only");
	close(buf);
	buf = heap_alloc_revocable(heap, PAGE);
	refused(import(buf), EOPNOTSUPP, "dma_buf of a buffer that is to be revocable");
	must(heap_revoke(heap, buf), "REVOKE of a revocable buffer");
	close(buf);
	buf = heap_alloc(heap, PAGE);
	must(heap_revoke(heap, buf), "REVOKE");
	refused(import(buf), ENODEV, "dma_buf of a revoked buffer");
	return 0;
}
