/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * User space interface of rust_dma_buf, a dma-buf heap that scatters its buffers on purpose.
 *
 * /dev/dma_heap/rust_dma_buf takes DMA_HEAP_IOCTL_ALLOC of <linux/dma-heap.h> as any heap does,
 * and what is here besides. Any of its commands may fail with
 *
 *  EFAULT	the argument cannot be read or written; nothing was changed
 *  EINVAL	there is no such command with an argument of that size
 *  ENOTTY	not a command of a heap at all
 *
 * DMA_HEAP_IOCTL_ALLOC itself:
 *
 *  EINVAL	@len is zero or too large to be rounded up to pages, @fd is not zero, or a bit of
 *		@fd_flags or @heap_flags is unknown
 *  ENOMEM	no memory, over the limit of the caller's memory cgroup, or more than half of what
 *		the machine has; no process is killed to make room
 *  EINTR	the caller was killed meanwhile
 *  EMFILE	the caller has no file descriptor left
 */
#ifndef _RUST_DMA_BUF_H
#define _RUST_DMA_BUF_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define RUST_DMA_BUF_DEVICE	"/dev/dma_heap/rust_dma_buf"

/*
 * A bit of @heap_flags: the buffer can always be revoked. A device whose driver cannot be told to
 * end its mapping is refused as it attaches (EOPNOTSUPP).
 */
#define RUST_DMA_BUF_HEAP_REVOCABLE	1ULL

/* The largest chunks have 2^9 pages: 2 MiB of pages of 4 KiB. */
#define RUST_DMA_BUF_MAX_ORDER	9

/**
 * enum rust_dma_buf_pattern - in which order the chunks of a buffer lie in physical memory
 * @RUST_DMA_BUF_DESCENDING:	from high to low, so that none joins the next
 * @RUST_DMA_BUF_ASCENDING:	from low to high, so that those join that can
 * @RUST_DMA_BUF_SHUFFLED:	at random, the same for the same argument
 * @RUST_DMA_BUF_STRIDED:	ascending in steps of the argument: of 0 1 2 3 4 5 in steps of 2
 *				are made 0 2 4 1 3 5
 */
enum rust_dma_buf_pattern {
	RUST_DMA_BUF_DESCENDING	= 0,
	RUST_DMA_BUF_ASCENDING	= 1,
	RUST_DMA_BUF_SHUFFLED	= 2,
	RUST_DMA_BUF_STRIDED	= 3,
};

/**
 * struct rust_dma_buf_set_pattern - how later allocations of this open file are scattered
 * @order:	chunks of 2^order pages; the last one of a buffer is cut
 * @pattern:	one of &enum rust_dma_buf_pattern
 * @arg:	the seed of SHUFFLED, the step of STRIDED; zero for the others
 *
 * Until it is set: order 0, DESCENDING.
 */
struct rust_dma_buf_set_pattern {
	__u32 order;
	__u32 pattern;
	__u64 arg;
};

/**
 * struct rust_dma_buf_info - what became of a buffer
 * @fd:			in: a buffer of this heap
 * @revoked:		1 once it is revoked
 * @size:		in bytes
 * @chunks:		how many were allocated
 * @runs:		how many pieces of adjacent physical memory these are, in their order
 * @attachments:	importing devices
 * @mappings:		how many of these have it mapped
 */
struct rust_dma_buf_info {
	__s32 fd;
	__u32 revoked;
	__u64 size;
	__u64 chunks;
	__u64 runs;
	__u32 attachments;
	__u32 mappings;
};

/*
 * EINVAL	@order is too large, @pattern unknown, or @arg not one for it: STRIDED wants a step
 *		of at least 2
 */
#define RUST_DMA_BUF_IOCTL_SET_PATTERN	_IOW('H', 0x80, struct rust_dma_buf_set_pattern)

/*
 * Takes the buffer away from the devices that import it. When it returns, no device gets at the
 * memory any more, and none can attach or map it again. mmap() and the start of a
 * DMA_BUF_IOCTL_SYNC fail with ENODEV, too; but what processes and the kernel have mapped stays
 * mapped and can be used, and the memory stays the buffer's until its last reference is gone.
 *
 * EBADF	not a file descriptor
 * EINVAL	not a buffer of this heap
 * EACCES	the buffer's file is for reading only (@fd_flags O_RDONLY)
 * EBUSY	a device has it mapped whose driver cannot be told; nothing has changed. Not of a
 *		buffer with RUST_DMA_BUF_HEAP_REVOCABLE
 * EINTR	the caller was killed while it waited for devices; the buffer is revoked, and who
 *		does it again waits again
 */
#define RUST_DMA_BUF_IOCTL_REVOKE	_IOW('H', 0x81, __s32)

/*
 * EBADF	not a file descriptor
 * EINVAL	not a buffer of this heap
 */
#define RUST_DMA_BUF_IOCTL_INFO		_IOWR('H', 0x82, struct rust_dma_buf_info)

#endif /* _RUST_DMA_BUF_H */
