// SPDX-License-Identifier: GPL-2.0
/*
 * nvme-dma-buf NG DISK KIND TEST...: I/O of a namespace straight into and out of dma-bufs,
 * by its character device NG, compared with what the block device DISK gives.
 *
 *  copy    write from one buffer, read into another
 *  edges   every offset and length at which something changes; the environment has SGL_ONLY where
 *          the driver was told to describe all by SGL
 *  errors  what must be refused, and how
 *  many    many commands in flight, from a thread for each CPU, on each kind of ring
 *  faults  each allocation of a registration fails once (debug kernel, kind rustN)
 *  runs N  only run N commands of 1 MiB: their number is to be seen elsewhere
 *  fill    one command reads 1 MiB into a buffer (of kind rustN), which the CPU checks; says of how
 *          many chunks of memory and of how many ranges it was, and where the first gap is
 */

#define _GNU_SOURCE
#include <pthread.h>
#include <sys/resource.h>

#include "nvme-buf.h"

#ifndef IORING_URING_CMD_MULTISHOT
#define IORING_URING_CMD_MULTISHOT	2U
#endif

static const char *ng_path, *disk_path, *kind;
static int ng;
static struct rnvme_info info;
static struct io_uring ring;
/* Commands that no SGL can describe, where there is nothing else. */
static int too_big;
static int sgl_only;

/* What the block device has, by the CPU's own way. */
static void disk_read(unsigned char *to, size_t len, __u64 at)
{
	int fd = open(disk_path, O_RDONLY | O_DIRECT);
	unsigned char *page = NULL;

	check(fd >= 0 && !posix_memalign((void **)&page, PAGE, len));
	check(pread(fd, page, len, at) == (ssize_t)len);
	memcpy(to, page, len);
	free(page);
	close(fd);
}

/* Returns what the command does. */
static int run(__u32 op, __u32 handle, __u64 offset, __u32 len, __u64 slba)
{
	struct rnvme_cmd cmd = { .offset = offset, .slba = slba, .len = len, .handle = handle };

	return ring_run(&ring, ng, op, cmd);
}

static __u32 must_register(struct buf *buf, __u32 flags)
{
	__u32 handle = 0;
	int ret = ng_register(ng, buf->fd, flags, &handle);

	if (ret)
		die("register: %s", strerror(-ret));
	check(handle);
	return handle;
}

/* All of a command that must succeed. */
static void transfer(__u32 op, __u32 handle, __u64 offset, __u32 len, __u64 slba)
{
	int ret = run(op, handle, offset, len, slba);

	if (ret != (int)len)
		die("command %x of %u at %llu: %d", op, len, offset, ret);
}

static void same(const unsigned char *a, const unsigned char *b, size_t len, const char *what)
{
	for (size_t i = 0; i < len; i++)
		if (a[i] != b[i])
			die("%s: byte %zu is %#x, not %#x", what, i, a[i], b[i]);
}

/* As few commands as can be. */
static void copy_all(__u32 op, __u32 handle, __u32 size)
{
	for (__u32 at = 0, len; at < size; at += len) {
		len = size - at < info.max_bytes ? size - at : info.max_bytes;
		transfer(op, handle, at, len, at / info.block_size);
	}
}

static void test_copy(void)
{
	size_t size = 1 << 20;
	struct buf from = buf_alloc(kind, size), to = buf_alloc(kind, size);
	__u32 out = must_register(&from, RNVME_BUF_READ);
	__u32 in = must_register(&to, RNVME_BUF_WRITE);
	unsigned char *seen = malloc(size);
	struct rnvme_info got = ng_info(ng, in);

	check(got.bytes == size && got.flags == RNVME_BUF_WRITE && got.ranges >= 1);
	check(got.ranges == 1 ? !got.gap : got.gap && got.gap < size);
	for (int turn = 0; turn < 3; turn++) {
		buf_fill(&from, turn);
		copy_all(RNVME_CMD_WRITE, out, size);
		disk_read(seen, size, 0);
		same(seen, from.bytes, size, "the disk");
		copy_all(RNVME_CMD_READ, in, size);
		cpu_sync(&to, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ);
		same(to.bytes, from.bytes, size, "the other buffer");
		cpu_sync(&to, DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ);
	}
	check(!ng_unregister(ng, out) && !ng_unregister(ng, in));
	printf("copy %s: %llu ranges\n", kind, got.ranges);
	free(seen);
	buf_free(&from);
	buf_free(&to);
}

/*
 * What a command on LEN bytes from OFFSET has to do: succeed, unless it goes by SGL only and the
 * bytes are in more ranges than that can say.  How many that are is not known exactly where some
 * chunks of the buffer happen to adjoin: then either will do in between.
 */
static void check_ranges(struct buf *buf, __u32 handle, __u64 offset, __u32 len, int ret)
{
	__u64 chunk = PAGE << (strncmp(kind, "rust", 4) ? 0 : atoi(kind + 4));
	__u64 touched = (offset + len - 1) / chunk - offset / chunk + 1;
	__u64 chunks = (buf->size + chunk - 1) / chunk, ranges = ng_info(ng, handle).ranges;
	__u64 joints = chunks - ranges;
	__u64 most = touched < ranges ? touched : ranges;
	__u64 least = touched > joints ? touched - joints : 1;

	check(ranges >= 1 && ranges <= chunks);
	if (ret == -E2BIG) {
		if (!sgl_only || most <= info.max_ranges)
			die("%u from %llu: %llu ranges are not too many", len, offset, most);
		too_big++;
	} else if (ret != (int)len) {
		die("%u from %llu: %d", len, offset, ret);
	} else if (sgl_only && least > info.max_ranges) {
		die("%u from %llu: %llu ranges went through", len, offset, least);
	}
}

/*
 * From OFFSET of one buffer to the disk, and from there to OTHER of the other one, whether or not
 * the first could be; no other byte changes.
 */
static void edge(struct buf *from, __u32 out, struct buf *to, __u32 in, unsigned char *seen,
		 __u64 offset, __u64 other, __u32 len)
{
	__u64 slba = (offset + other) % 97;
	int ret;

	ret = run(RNVME_CMD_WRITE, out, offset, len, slba);
	check_ranges(from, out, offset, len, ret);
	disk_read(seen, len, slba * info.block_size);
	if (ret > 0)
		same(seen, from->bytes + offset, len, "the disk");

	buf_fill(to, len);
	ret = run(RNVME_CMD_READ, in, other, len, slba);
	check_ranges(to, in, other, len, ret);
	cpu_sync(to, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ);
	if (ret > 0)
		same(to->bytes + other, seen, len, "the other buffer");
	for (size_t i = 0; i < to->size; i++)
		if ((ret < 0 || i < other || i >= other + len) && to->bytes[i] != pattern(len, i))
			die("byte %zu was changed: read of %u to %llu", i, len, other);
	cpu_sync(to, DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ);
}

static void test_edges(void)
{
	__u32 block = info.block_size, max = info.max_bytes;
	size_t size = max + 4 * PAGE;
	static const __u64 offsets[] = { 0, 4, 508, 512, 4092, 4096, 4100, 8188, 8192 };
	struct buf from, to;
	__u32 lens[] = { block, 2 * block, PAGE, 2 * PAGE, 3 * PAGE, max - block, max };
	unsigned char *seen = malloc(max);
	__u32 out, in;
	int count = 0;

	too_big = 0;
	/* A udmabuf is of 1024 pieces at most. */
	if (!strcmp(kind, "udmabuf") && size > 1 << 20)
		size = 1 << 20;
	from = buf_alloc(kind, size);
	to = buf_alloc(kind, size);
	out = must_register(&from, RNVME_BUF_READ | RNVME_BUF_WRITE);
	in = must_register(&to, RNVME_BUF_READ | RNVME_BUF_WRITE);
	buf_fill(&from, 99);
	for (size_t i = 0; i < sizeof(lens) / sizeof(*lens); i++) {
		__u32 len = lens[i];

		if (len > size || len > max)
			continue;
		for (size_t j = 0; j < sizeof(offsets) / sizeof(*offsets); j++) {
			__u64 end = size - len, at = offsets[j] < end ? offsets[j] : end;

			edge(&from, out, &to, in, seen, at, end - at, len);
			count++;
		}
	}

	/* The last byte of the buffer, and the last block of the namespace. */
	check(run(RNVME_CMD_WRITE, out, size - block, block, 0) == (int)block);
	check(run(RNVME_CMD_WRITE, out, size - block + 4, block, 0) == -ERANGE);
	check(run(RNVME_CMD_WRITE, out, size, block, 0) == -ERANGE);
	check(run(RNVME_CMD_WRITE, out, (~0ULL) - 3, block, 0) == -ERANGE);
	check(run(RNVME_CMD_READ, in, (~0ULL) - block + 1, block, 0) == -ERANGE);
	check(run(RNVME_CMD_WRITE, out, 0, block, info.blocks - 1) == (int)block);
	check(run(RNVME_CMD_WRITE, out, 0, 2 * block, info.blocks - 1) == -ENXIO);
	check(run(RNVME_CMD_READ, in, 0, block, info.blocks) == -ENXIO);
	check(run(RNVME_CMD_READ, in, 0, block, (~0ULL)) == -ENXIO);
	check(run(RNVME_CMD_READ, in, 0, 2 * block, (~0ULL) - 1) == -ENXIO);
	check(run(RNVME_CMD_READ, in, 0, max + block, 0) == -EMSGSIZE);
	check(run(RNVME_CMD_READ, in, 0, -block, 0) == -EMSGSIZE);
	check(run(RNVME_CMD_READ, in, 0, 0, 0) == -EINVAL);
	check(run(RNVME_CMD_READ, in, 0, block - 4, 0) == -EINVAL);
	check(run(RNVME_CMD_READ, in, 0, block + 1, 0) == -EINVAL);
	for (int i = 1; i < 4; i++)
		check(run(RNVME_CMD_READ, in, i, block, 0) == -EINVAL);

	check(!ng_unregister(ng, out) && !ng_unregister(ng, in));
	printf("edges %s: %d, of which %d in too many pieces\n", kind, count, too_big);
	free(seen);
	buf_free(&from);
	buf_free(&to);
}

static int info_errno(int fd, __u32 handle)
{
	struct rnvme_info args = { .handle = handle };

	return ioctl(fd, RNVME_IOC_INFO, &args) ? -errno : 0;
}

/* A dma-buf that the CPU, and so the controller, may only read. */
static void refuse_read_only(void)
{
	int fd = heap_file("/dev/dma_heap/system", PAGE, O_RDONLY | O_CLOEXEC, 0);
	__u32 handle = 0;

	check(ng_register(ng, fd, RNVME_BUF_WRITE, &handle) == -EACCES);
	check(ng_register(ng, fd, RNVME_BUF_READ | RNVME_BUF_WRITE, &handle) == -EACCES);
	check(!ng_register(ng, fd, RNVME_BUF_READ, &handle));
	check(run(RNVME_CMD_READ, handle, 0, info.block_size, 0) == -EACCES);
	check(run(RNVME_CMD_WRITE, handle, 0, info.block_size, 0) == (int)info.block_size);
	check(!ng_unregister(ng, handle));
	close(fd);
}

/* What the character device was not opened for. */
static void refuse_by_mode(struct buf *buf)
{
	static const int modes[] = { O_RDONLY, O_WRONLY };
	struct rnvme_cmd cmd = { .len = info.block_size };

	for (int i = 0; i < 2; i++) {
		int fd = open(ng_path, modes[i]), len = cmd.len;

		check(fd >= 0);
		check(!ng_register(fd, buf->fd, RNVME_BUF_READ | RNVME_BUF_WRITE, &cmd.handle));
		check(ring_run(&ring, fd, RNVME_CMD_READ, cmd) == (i ? -EBADF : len));
		check(ring_run(&ring, fd, RNVME_CMD_WRITE, cmd) == (i ? len : -EBADF));
		/* Registered with that file only. */
		check(info_errno(ng, cmd.handle) == -ENOENT);
		close(fd);
	}
}

#define HANDLES 1024

/*
 * All handles of a file are of one buffer, which is revoked: no more than a few grace periods, for
 * each of which the task sleeps, where it would be one for each handle.
 */
static void refuse_more(void)
{
	int heap = open(RUST_DMA_BUF_DEVICE, O_RDONLY), fd = open(ng_path, O_RDWR);
	struct buf buf = buf_alloc(kind, PAGE);
	struct rusage from, to;
	__u32 handle = 0;

	check(heap >= 0 && fd >= 0);
	for (int i = 0; i < HANDLES; i++)
		check(!ng_register(fd, buf.fd, RNVME_BUF_READ, &handle));
	check(ng_register(fd, buf.fd, RNVME_BUF_READ, &handle) == -ENOSPC);
	check(!info_errno(fd, 1) && !info_errno(fd, handle));
	check(!getrusage(RUSAGE_SELF, &from));
	check(!ioctl(heap, RUST_DMA_BUF_IOCTL_REVOKE, &buf.fd));
	check(!getrusage(RUSAGE_SELF, &to));
	check(info_errno(fd, 1) == -EOWNERDEAD && info_errno(fd, handle) == -EOWNERDEAD);
	printf("revoke of %d registrations: slept %ld times\n", HANDLES,
	       to.ru_nvcsw - from.ru_nvcsw);
	check(to.ru_nvcsw - from.ru_nvcsw < HANDLES / 8);
	close(heap);
	close(fd);
	buf_free(&buf);
}

/* The driver can be told that its mapping has to end. */
static void take_revocable(void)
{
	int heap = open(RUST_DMA_BUF_DEVICE, O_RDONLY), fd = open(ng_path, O_RDWR);
	int buf = heap_alloc_revocable(heap, PAGE);
	__u32 handle = 0;

	check(!ng_register(fd, buf, RNVME_BUF_READ, &handle));
	check(!heap_revoke(heap, buf));
	check(info_errno(fd, handle) == -EOWNERDEAD);
	close(buf);
	close(heap);
	close(fd);
}

static void test_errors(void)
{
	struct buf buf = buf_alloc(kind, 4 * PAGE);
	__u32 block = info.block_size, handle = 0, old;
	struct rnvme_register reg = { .fd = buf.fd, .flags = RNVME_BUF_READ, .reserved = 1 };
	struct rnvme_unregister unreg = { .reserved = 1 };
	struct rnvme_info odd = { 0 };
	struct rnvme_cmd cmd = { .len = block };
	struct io_uring small;
	struct io_uring_sqe *sqe;
	int devnull = open("/dev/null", O_RDWR);

	check(ng_register(ng, -1, RNVME_BUF_READ, &handle) == -EBADF);
	check(ng_register(ng, 999, RNVME_BUF_READ, &handle) == -EBADF);
	check(ng_register(ng, devnull, RNVME_BUF_READ, &handle) == -EINVAL);
	check(ng_register(ng, buf.fd, 0, &handle) == -EINVAL);
	check(ng_register(ng, buf.fd, 4, &handle) == -EINVAL);
	check(ng_register(ng, buf.fd, ~0U, &handle) == -EINVAL);
	check(ioctl(ng, RNVME_IOC_REGISTER, &reg) == -1 && errno == EINVAL);
	check(ioctl(ng, RNVME_IOC_REGISTER, NULL) == -1 && errno == EFAULT);
	check(ioctl(ng, RNVME_IOC_INFO, NULL) == -1 && errno == EFAULT);
	check(ioctl(ng, RNVME_IOC_UNREGISTER, NULL) == -1 && errno == EFAULT);
	check(ioctl(ng, _IO('N', 0x93), NULL) == -1 && errno == ENOTTY);
	check(ioctl(ng, RNVME_CMD_READ, &cmd) == -1 && errno == ENOTTY);
	check(ng_unregister(ng, 0) == -ENOENT);
	check(ng_unregister(ng, 1) == -ENOENT);
	check(ng_unregister(ng, ~0U) == -ENOENT);
	check(info_errno(ng, 1) == -ENOENT);
	odd.reserved = 1;
	check(ioctl(ng, RNVME_IOC_INFO, &odd) == -1 && errno == EINVAL);
	/* What else was in there does not come back. */
	memset(&odd, 0xff, sizeof(odd));
	odd.handle = 0;
	odd.reserved = 0;
	check(!ioctl(ng, RNVME_IOC_INFO, &odd));
	check(!odd.flags && !odd.bytes && !odd.ranges && !odd.gap && odd.blocks == info.blocks);
	check(read(ng, &handle, sizeof(handle)) == -1 && errno == EINVAL);

	handle = must_register(&buf, RNVME_BUF_READ);
	unreg.handle = handle;
	check(ioctl(ng, RNVME_IOC_UNREGISTER, &unreg) == -1 && errno == EINVAL);
	/* Only what it was registered for. */
	check(run(RNVME_CMD_READ, handle, 0, block, 0) == -EACCES);
	check(run(RNVME_CMD_WRITE, handle, 0, block, 0) == (int)block);
	check(run(RNVME_CMD_WRITE, handle + 1, 0, block, 0) == -ENOENT);
	check(run(RNVME_CMD_WRITE, 0, 0, block, 0) == -ENOENT);
	check(run(RNVME_CMD_WRITE, ~0U, 0, block, 0) == -ENOENT);
	check(run(0, handle, 0, block, 0) == -ENOTTY);
	cmd.handle = handle;
	cmd.flags = RNVME_CMD_FUA;
	check(ring_run(&ring, ng, RNVME_CMD_WRITE, cmd) == (int)block);
	check(ring_run(&ring, ng, RNVME_CMD_READ, cmd) == -EINVAL);
	cmd.flags = 2;
	check(ring_run(&ring, ng, RNVME_CMD_WRITE, cmd) == -EINVAL);
	cmd.flags = 0;
	cmd.reserved = 1;
	check(ring_run(&ring, ng, RNVME_CMD_WRITE, cmd) == -EINVAL);
	cmd.reserved = 0;
	/* A buffer of the ring's own means nothing here. */
	sqe = ring_prep(&ring, ng, RNVME_CMD_WRITE, &cmd, 0);
	sqe->uring_cmd_flags = IORING_URING_CMD_FIXED;
	check(io_uring_submit(&ring) == 1);
	check(ring_reap(&ring, NULL) == -EINVAL);
	/* Nor are there many completions of one command. */
	sqe = ring_prep(&ring, ng, RNVME_CMD_WRITE, &cmd, 0);
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->uring_cmd_flags = IORING_URING_CMD_MULTISHOT;
	check(io_uring_submit(&ring) == 1);
	check(ring_reap(&ring, NULL) == -EINVAL);
	old = handle;
	check(!ng_unregister(ng, old));
	check(ng_unregister(ng, old) == -ENOENT);
	check(run(RNVME_CMD_WRITE, old, 0, block, 0) == -ENOENT);

	refuse_read_only();
	refuse_by_mode(&buf);
	if (!strncmp(kind, "rust", 4)) {
		refuse_more();
		take_revocable();
	}

	/* A ring of small entries has no room for the command. */
	check(!io_uring_queue_init(1, &small, 0));
	sqe = io_uring_get_sqe(&small);
	io_uring_prep_rw(IORING_OP_URING_CMD, sqe, ng, NULL, 0, 0);
	sqe->cmd_op = RNVME_CMD_READ;
	check(io_uring_submit(&small) == 1);
	check(ring_reap(&small, NULL) == -EOPNOTSUPP);
	io_uring_queue_exit(&small);

	/* Each handle of one buffer is for itself. */
	handle = must_register(&buf, RNVME_BUF_READ);
	old = must_register(&buf, RNVME_BUF_READ);
	check(!ng_unregister(ng, old));
	check(run(RNVME_CMD_WRITE, handle, 0, block, 0) == (int)block);
	check(!ng_unregister(ng, handle));

	/* A hundred handles, twice; closing the file takes them all. */
	for (int turn = 0; turn < 2; turn++) {
		int fd = open(ng_path, O_RDWR);

		check(fd >= 0);
		for (int i = 0; i < 100; i++)
			check(!ng_register(fd, buf.fd, RNVME_BUF_READ, &handle) && handle);
		close(fd);
	}
	close(devnull);
	buf_free(&buf);
	printf("errors %s: as documented\n", kind);
}

#define DEPTH 32
/* Of each kind of ring; even. */
#define ROUNDS 10

struct many {
	pthread_t thread;
	struct buf *buf;
	__u32 handle;
	unsigned int index;
};

static const struct {
	unsigned int setup;
	unsigned int flags;
} rings[] = {
	{ 0, 0 },
	{ IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, 0 },
	/* By a thread of the kernel; by workers that may wait. */
	{ IORING_SETUP_SQPOLL, 0 },
	{ 0, IOSQE_ASYNC },
};

/* Writes the thread's part to the disk, or reads it in the opposite order. */
static void many_round(struct many *self, struct io_uring *own, __u32 op, unsigned int flags)
{
	__u32 len = 2 * PAGE;
	__u64 base = (__u64)self->index * DEPTH * len, data;

	for (int i = 0; i < DEPTH; i++) {
		__u64 at = base + i * len;
		struct rnvme_cmd cmd = {
			.offset = op == RNVME_CMD_READ ? base + (DEPTH - 1 - i) * len : at,
			.slba = at / info.block_size,
			.len = len,
			.handle = self->handle,
		};

		ring_prep(own, ng, op, &cmd, i)->flags |= flags;
	}
	check(io_uring_submit(own) == DEPTH);
	for (int i = 0; i < DEPTH; i++) {
		int ret = ring_reap(own, &data);

		if (ret != (int)len)
			die("command %llu: %d", data, ret);
	}
}

/* Each thread has a part of the buffer and of the disk of its own, in DEPTH pieces. */
static void *many(void *arg)
{
	struct io_uring own;

	for (unsigned int i = 0; i < sizeof(rings) / sizeof(*rings); i++) {
		ring_setup(&own, DEPTH, rings[i].setup);
		for (int round = 0; round < ROUNDS; round++) {
			many_round(arg, &own, RNVME_CMD_WRITE, rings[i].flags);
			many_round(arg, &own, RNVME_CMD_READ, rings[i].flags);
		}
		io_uring_queue_exit(&own);
	}
	return NULL;
}

static void test_many(void)
{
	unsigned int count = sysconf(_SC_NPROCESSORS_ONLN);
	__u32 part = DEPTH * 2 * PAGE, handle;
	struct buf buf;
	struct many threads[16];
	unsigned char *seen;

	/* Each thread's part is 256 KiB. */
	if (count > 4)
		count = 4;
	buf = buf_alloc(kind, count * part);
	seen = malloc(buf.size);
	buf_fill(&buf, 5);
	handle = must_register(&buf, RNVME_BUF_READ | RNVME_BUF_WRITE);
	for (unsigned int i = 0; i < count; i++) {
		threads[i] = (struct many){ .buf = &buf, .handle = handle, .index = i };
		check(!pthread_create(&threads[i].thread, NULL, many, &threads[i]));
	}
	for (unsigned int i = 0; i < count; i++)
		check(!pthread_join(threads[i].thread, NULL));

	/* Each round turned the pieces around: an even number of them is as before. */
	cpu_sync(&buf, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ);
	for (size_t i = 0; i < buf.size; i++)
		if (buf.bytes[i] != pattern(5, i))
			die("byte %zu is %#x, not %#x", i, buf.bytes[i], pattern(5, i));
	cpu_sync(&buf, DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ);
	check(!ng_unregister(ng, handle));
	free(seen);
	buf_free(&buf);
	printf("many %s: %u threads\n", kind, count);
}

static void test_runs(int count)
{
	struct buf buf = buf_alloc(kind, 1 << 20);
	__u32 handle = must_register(&buf, RNVME_BUF_READ | RNVME_BUF_WRITE);

	for (int i = 0; i < count; i++)
		transfer(i % 2 ? RNVME_CMD_READ : RNVME_CMD_WRITE, handle, 0, 1 << 20, 0);
	check(!ng_unregister(ng, handle));
	buf_free(&buf);
}

static struct rust_dma_buf_info buf_info(struct buf *buf)
{
	int heap = heap_open();
	struct rust_dma_buf_info info = heap_info(heap, buf->fd);

	close(heap);
	return info;
}

/* Sets which allocation of this thread is to fail, and returns which was left over. */
static int fail_nth(int fd, int nth)
{
	char was[16] = "", set[16];
	int len = snprintf(set, sizeof(set), "%d", nth);

	check(pread(fd, was, sizeof(was) - 1, 0) > 0);
	check(pwrite(fd, set, len, 0) == len);
	return atoi(was);
}

static void test_faults(void)
{
	struct buf buf = buf_alloc(kind, 64 * PAGE);
	int fd = open("/proc/thread-self/fail-nth", O_RDWR);
	int nth = 0, failed = 0, left;

	check(fd >= 0);
	do {
		struct rust_dma_buf_info got;
		__u32 handle = 0;
		int ret;

		fail_nth(fd, ++nth);
		ret = ng_register(ng, buf.fd, RNVME_BUF_READ | RNVME_BUF_WRITE, &handle);
		left = fail_nth(fd, 0);
		/* It may do without. */
		if (!ret)
			check(!ng_unregister(ng, handle));
		else
			check(!left && ret == -ENOMEM && ++failed);
		got = buf_info(&buf);
		check(!got.attachments && !got.mappings);
	} while (!left);
	check(failed > 5);
	close(fd);
	printf("faults %s: %d of %d failed\n", kind, failed, nth - 1);
	buf_free(&buf);
}

static void test_fill(void)
{
	struct buf buf = buf_alloc(kind, 1 << 20);
	unsigned char *seen = malloc(buf.size);
	__u32 handle = must_register(&buf, RNVME_BUF_WRITE);
	struct rnvme_info got = ng_info(ng, handle);

	transfer(RNVME_CMD_READ, handle, 0, 1 << 20, 0);
	disk_read(seen, buf.size, 0);
	cpu_sync(&buf, DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ);
	same(buf.bytes, seen, buf.size, "the buffer");
	cpu_sync(&buf, DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ);
	printf("%llu %llu %llu\n", buf_info(&buf).chunks, got.ranges, got.gap);
	check(!ng_unregister(ng, handle));
	free(seen);
	buf_free(&buf);
}

int main(int argc, char **argv)
{
	if (argc < 5) {
		fprintf(stderr, "usage: nvme-dma-buf NG DISK KIND TEST...\n");
		return 2;
	}
	ng_path = argv[1];
	disk_path = argv[2];
	kind = argv[3];
	sgl_only = !!getenv("SGL_ONLY");
	ng = open(ng_path, O_RDWR);
	if (ng < 0)
		die("%s: %m", ng_path);
	info = ng_info(ng, 0);
	check(info.blocks && info.block_size && info.max_bytes);
	ring_init(&ring, DEPTH);
	for (int i = 4; i < argc; i++) {
		if (!strcmp(argv[i], "copy"))
			test_copy();
		else if (!strcmp(argv[i], "edges"))
			test_edges();
		else if (!strcmp(argv[i], "errors"))
			test_errors();
		else if (!strcmp(argv[i], "many"))
			test_many();
		else if (!strcmp(argv[i], "runs") && i + 1 < argc)
			test_runs(atoi(argv[++i]));
		else if (!strcmp(argv[i], "faults"))
			test_faults();
		else if (!strcmp(argv[i], "fill"))
			test_fill();
		else
			die("no such test: %s", argv[i]);
	}
	return 0;
}
