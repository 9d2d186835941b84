/* SPDX-License-Identifier: GPL-2.0 */
/*
 * For the tests of rust_nvme's character device: dma-bufs from several exporters, and
 * commands on them.
 */
#ifndef NVME_BUF_H
#define NVME_BUF_H

#include <grp.h>
#include <liburing.h>
#include <linux/udmabuf.h>
#include <stddef.h>

#include "heap.h"
#include "rust_nvme/rust_nvme.h"

#define check(condition) do {					\
	if (!(condition))					\
		die("%s:%d: not so: %s (%m)", __func__, __LINE__, #condition);	\
} while (0)

/* A user who is nobody. */
#define NOBODY	65534

static inline void become_nobody(void)
{
	check(!setgroups(0, NULL) && !setgid(NOBODY) && !setuid(NOBODY));
}

/* A dma-buf, seen by the CPU. */
struct buf {
	int fd;
	size_t size;
	unsigned char *bytes;
	/* Added to the flags of every sync. */
	__u64 sync;
};

static inline int heap_file(const char *path, size_t size, __u32 fd_flags, __u32 order)
{
	int heap = must(open(path, O_RDONLY | O_CLOEXEC), path), fd;

	if (!strcmp(path, RUST_DMA_BUF_DEVICE))
		heap_pattern(heap, order, RUST_DMA_BUF_SHUFFLED, 7);
	fd = must(heap_try(heap, size, fd_flags), path);
	close(heap);
	return fd;
}

/* A buffer of single pages of a file, in an order that keeps neighbours apart. */
static inline int udmabuf_alloc(size_t size)
{
	/* The kernel's, which may be more than PAGE. */
	size_t page = sysconf(_SC_PAGESIZE), pages = (size + page - 1) / page;
	struct udmabuf_create_list *list =
		calloc(1, sizeof(*list) + pages * sizeof(struct udmabuf_create_item));
	int memfd = memfd_create("nvme-dma-buf", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	int fd, device = open("/dev/udmabuf", O_RDWR | O_CLOEXEC);

	check(list && memfd >= 0 && device >= 0);
	/* In the order of the file, as far as that goes: the list has them in another. */
	check(!fallocate(memfd, 0, 0, 2 * pages * page));
	check(!fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK));
	list->count = pages;
	list->flags = UDMABUF_FLAGS_CLOEXEC;
	for (size_t i = 0; i < pages; i++) {
		list->list[i].memfd = memfd;
		list->list[i].offset = 2 * (pages - 1 - i) * page;
		list->list[i].size = page;
	}
	fd = ioctl(device, UDMABUF_CREATE_LIST, list);
	check(fd >= 0);
	close(device);
	close(memfd);
	free(list);
	return fd;
}

/* KIND: "heap", "udmabuf" (1 MiB at most), or "rustN": chunks of 2^N pages in disorder. */
static inline struct buf buf_alloc(const char *kind, size_t size)
{
	struct buf buf = { .size = size };

	if (!strcmp(kind, "heap")) {
		buf.fd = heap_file("/dev/dma_heap/system", size, O_RDWR | O_CLOEXEC, 0);
	} else if (!strcmp(kind, "udmabuf")) {
		buf.fd = udmabuf_alloc(size);
		/* It maps for itself as the first one says, and then takes no other. */
		buf.sync = DMA_BUF_SYNC_RW;
	} else if (!strncmp(kind, "rust", 4)) {
		buf.fd = heap_file(RUST_DMA_BUF_DEVICE, size, O_RDWR | O_CLOEXEC, atoi(kind + 4));
	} else {
		die("no such kind of buffer: %s", kind);
	}
	buf.bytes = buf_map(buf.fd, size);
	return buf;
}

static inline void buf_free(struct buf *buf)
{
	munmap(buf->bytes, buf->size);
	close(buf->fd);
}

static inline void cpu_sync(struct buf *buf, __u64 flags)
{
	buf_sync(buf->fd, flags | buf->sync);
}

static inline unsigned char pattern(__u64 seed, size_t at)
{
	return seed * 37 + at * 7 + (at >> 8) * 3 + (at >> 16) + 1;
}

static inline void buf_fill(struct buf *buf, __u64 seed)
{
	cpu_sync(buf, DMA_BUF_SYNC_START | DMA_BUF_SYNC_WRITE);
	for (size_t i = 0; i < buf->size; i++)
		buf->bytes[i] = pattern(seed, i);
	cpu_sync(buf, DMA_BUF_SYNC_END | DMA_BUF_SYNC_WRITE);
}

static inline int ng_register(int ng, int fd, __u32 flags, __u32 *handle)
{
	struct rnvme_register args = { .fd = fd, .flags = flags };

	if (ioctl(ng, RNVME_IOC_REGISTER, &args))
		return -errno;
	*handle = args.handle;
	return 0;
}

static inline int ng_unregister(int ng, __u32 handle)
{
	struct rnvme_unregister args = { .handle = handle };

	return ioctl(ng, RNVME_IOC_UNREGISTER, &args) ? -errno : 0;
}

static inline struct rnvme_info ng_info(int ng, __u32 handle)
{
	struct rnvme_info info = { .handle = handle };

	check(!ioctl(ng, RNVME_IOC_INFO, &info));
	return info;
}

static inline void ring_setup(struct io_uring *ring, unsigned int depth, unsigned int flags)
{
	int ret = io_uring_queue_init(depth, ring, IORING_SETUP_SQE128 | flags);

	if (ret)
		die("io_uring: %s", strerror(-ret));
}

static inline void ring_init(struct io_uring *ring, unsigned int depth)
{
	ring_setup(ring, depth, 0);
}

/* An entry with a command, a structure of SIZE bytes. */
static inline struct io_uring_sqe *ring_prep_cmd(struct io_uring *ring, int fd, __u32 op,
						 const void *cmd, size_t size)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	check(sqe);
	io_uring_prep_rw(IORING_OP_URING_CMD, sqe, fd, NULL, 0, 0);
	sqe->cmd_op = op;
	/* Entries are of 128 bytes, of which a structure can have the last 80. */
	memcpy((char *)sqe + offsetof(struct io_uring_sqe, cmd), cmd, size);
	return sqe;
}

static inline struct io_uring_sqe *ring_prep(struct io_uring *ring, int ng, __u32 op,
					     const struct rnvme_cmd *cmd, __u64 data)
{
	struct io_uring_sqe *sqe = ring_prep_cmd(ring, ng, op, cmd, sizeof(*cmd));

	io_uring_sqe_set_data64(sqe, data);
	return sqe;
}

/* Waits for one command, and returns its result. */
static inline int ring_reap(struct io_uring *ring, __u64 *data)
{
	struct io_uring_cqe *cqe;
	int ret;

	do
		ret = io_uring_wait_cqe(ring, &cqe);
	while (ret == -EINTR);
	if (ret)
		die("io_uring_wait_cqe: %s", strerror(-ret));
	ret = cqe->res;
	if (data)
		*data = io_uring_cqe_get_data64(cqe);
	io_uring_cqe_seen(ring, cqe);
	return ret;
}

static inline int ring_run(struct io_uring *ring, int ng, __u32 op, struct rnvme_cmd cmd)
{
	ring_prep(ring, ng, op, &cmd, 0);
	check(io_uring_submit(ring) == 1);
	return ring_reap(ring, NULL);
}

#endif /* NVME_BUF_H */
