/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * What user space needs to read and write NVMe namespaces straight into and out of dma-bufs, and of
 * memory of its own.
 *
 * Each namespace has a character device /dev/rnvme-ng<controller>n<namespace>.  A buffer is
 * registered with an open file of it, by ioctl: it is mapped for the controller then, once.  It is
 * read into and written from by io_uring commands (IORING_OP_URING_CMD) to the same file, as many
 * as one likes, from any thread.  The ring needs entries of 128 bytes (IORING_SETUP_SQE128).
 *
 * The CPU's accesses to a dma-buf are bracketed by DMA_BUF_IOCTL_SYNC, as for any device.  Other
 * devices' are ordered by whoever sends the commands: registration waits for what the buffer's
 * fences stand for at that time; a command waits for none, and leaves none.
 *
 * The same device takes the ioctls and io_uring commands of <linux/nvme_ioctl.h>.
 *
 * Any ioctl can fail with EFAULT, where its argument is not there; with EINVAL, where @reserved is
 * not zero; and, if there is no such ioctl, with ENOTTY.
 *
 * Documentation/nvme.rst tells more.
 */
#ifndef _RUST_NVME_H
#define _RUST_NVME_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* What commands may do with a registered buffer. */
#define RNVME_BUF_READ	0x1U	/* the controller reads it: RNVME_CMD_WRITE */
#define RNVME_BUF_WRITE	0x2U	/* the controller writes it: RNVME_CMD_READ */

/*
 * Registers the dma-buf with file descriptor @fd.  @flags is one of the flags above or both;
 * @reserved is zero.  @handle is set.  The buffer stays registered, and is kept, until
 * RNVME_IOC_UNREGISTER or until the file is closed by all who have it; @fd can be closed.
 *
 * EBADF		@fd is not open
 * EINVAL		it is no dma-buf, or @flags or @reserved are wrong
 * EINTR		a signal came while it waited for the buffer's fences
 * ENOMEM		no memory
 * EACCES		@fd was not opened for what @flags let the controller do
 * EOPNOTSUPP		the controller cannot take the buffer: its pieces are not whole pages of
 *			4 KiB, and it has no SGLs; or the exporter refuses the controller
 * EBUSY		the exporter cannot map it now
 * EIO			the DMA API cannot map it, such as large pieces where memory is bounced
 * ENOSPC		the file has 1024 handles already, or there is no IOVA space
 * EAGAIN		all bounce buffers are in use
 * ENOBUFS		its memory is never mapped for the controller: it has to be bounced, and
 *			there are no bounce buffers
 * EFBIG		likewise: a piece is longer than a bounce buffer
 * ERANGE		likewise: the controller cannot tell the address
 * ENODEV		the controller was unbound, or the exporter has revoked the buffer
 *
 * and with whatever else the exporter refuses to attach or to map it.
 *
 * A registration is for good or not at all: when the exporter revokes the buffer, or moves it, the
 * registration is over, and commands say EOWNERDEAD.  It is not mapped anew behind the program's
 * back, as no command ever waits for a mapping; register it again.
 */
struct rnvme_register {
	__s32 fd;
	__u32 flags;
	__u32 handle;
	__u32 reserved;
};

/*
 * Registers @len bytes of the process's memory from @addr on: anonymous memory, shared or private,
 * huge pages, memfds, tmpfs, and, for the controller to read, any file that is mapped.  @flags and
 * @handle are those of struct rnvme_register.  Where it ends within a page the controller is given
 * all of the page behind an IOMMU, but commands reach no further than @len.
 *
 * The pages are pinned until the registration ends.  They are those that are mapped there now: what
 * the process maps in their place later is not registered, and what it unmaps, or truncates, still
 * is.  A child has a copy of private memory, as always.  They count for the user's RLIMIT_MEMLOCK,
 * together with the buffers of io_uring, unless the process has CAP_IPC_LOCK.  Any number of
 * registrations of the same memory are counted, and mapped, each for itself.
 *
 * EINVAL		@len is zero, @addr or @len is not a multiple of 4, or @flags are wrong
 * EFAULT		it wraps, is not mapped, or not for writing where the controller would
 *			write; it is a device's registers; or the controller would write to a file
 *			on a disk
 * EREMOTEIO		it is memory of another device; EOPNOTSUPP on a file system on such (DAX)
 * EDQUOT		more than RLIMIT_MEMLOCK allows the user
 * EINTR		a signal came while it was pinned
 * EOPNOTSUPP		the controller does not see the memory as the processors do: memory is
 *			bounced, or it is not coherent
 * ENOMEM, ENOSPC, EIO, ERANGE, EBUSY, ENODEV	as for RNVME_IOC_REGISTER
 */
struct rnvme_register_memory {
	__u64 addr;
	__u64 len;
	__u32 flags;
	__u32 handle;
};

/*
 * Ends a registration, also one that is over, and when the controller was unbound.  Commands that
 * are under way are waited for, which no signal ends: no longer than the driver's io_timeout and a
 * reset of the controller.
 *
 * ENOENT		no such handle
 * EINVAL		@reserved is not zero
 */
struct rnvme_unregister {
	__u32 handle;
	__u32 reserved;
};

/*
 * Tells about the namespace and, unless @handle is zero, about a registered buffer: how long it
 * is, and of how many ranges it consists as the controller sees it.  One range is linear; else
 * @gap is the first byte that does not follow the byte before it.  Ranges that are bounced
 * (swiotlb) count as any.  @handle and @reserved are read, all else is only written.
 *
 * EINVAL		@reserved is not zero
 * ENOENT		no such handle
 * EOWNERDEAD		the exporter has revoked or moved the buffer
 * ENODEV		the controller was unbound
 */
struct rnvme_info {
	__u32 handle;
	__u32 flags;		/* RNVME_BUF_* of the buffer */
	__u64 bytes;		/* of the buffer */
	__u64 ranges;		/* of the buffer */
	__u64 gap;
	__u64 blocks;		/* of the namespace */
	__u32 block_size;	/* in bytes */
	__u32 max_bytes;	/* of a command */
	__u32 max_ranges;	/* of a command, if it has to go by SGL */
	__u32 reserved;
};

#define RNVME_IOC_REGISTER	_IOWR('N', 0x90, struct rnvme_register)
#define RNVME_IOC_UNREGISTER	_IOW('N', 0x91, struct rnvme_unregister)
#define RNVME_IOC_INFO		_IOWR('N', 0x92, struct rnvme_info)
#define RNVME_IOC_REGISTER_MEMORY _IOWR('N', 0x93, struct rnvme_register_memory)

/*
 * A command: @len bytes from byte @offset of the buffer @handle on, and the namespace's blocks
 * from @slba on.  It is what the cmd area of the submission queue entry holds; cmd_op is one of
 * the numbers below.
 *
 * res of its completion is @len, or an error:
 *
 * EOPNOTSUPP		the ring has entries of 64 bytes
 * ENOTTY		no such command
 * EINVAL		@flags or @reserved are wrong; @len is zero or not whole blocks; @offset is
 *			not a multiple of 4; uring_cmd_flags of the entry is not zero: no buffer of
 *			the ring, and no multishot
 * EBADF		the character device was not opened for reading (RNVME_CMD_READ) or for
 *			writing (RNVME_CMD_WRITE)
 * EROFS		the namespace is write protected
 * EMSGSIZE		@len is more than max_bytes
 * ENXIO		beyond the end of the namespace
 * ENOENT		no such handle
 * EOWNERDEAD		the buffer's exporter has revoked or moved it
 * EACCES		the buffer was not registered for this direction
 * ERANGE		beyond the end of the buffer
 * E2BIG		more than max_ranges ranges, and it cannot go by PRP
 * ENODEV		the controller was unbound
 * EIO, ENODATA, ...	it failed, as read() and write() of the block device would tell
 */
struct rnvme_cmd {
	__u64 offset;
	__u64 slba;
	__u32 len;
	__u32 handle;
	__u32 flags;
	__u32 reserved;
};

/* flags of RNVME_CMD_WRITE: it ends when the data is on the medium. */
#define RNVME_CMD_FUA	0x1U

#define RNVME_CMD_READ	_IOR('N', 0x98, struct rnvme_cmd)
#define RNVME_CMD_WRITE	_IOW('N', 0x99, struct rnvme_cmd)

#endif /* _RUST_NVME_H */
