// SPDX-License-Identifier: GPL-2.0
/*
 * stepwise points|nth WHAT [DEVICE]: does WHAT again and again, and each time the next of its
 * steps fails:
 *
 *   points  the next fallible call of the modules (/sys/kernel/debug/phyr/fail, in a build
 *           with PHYR_FAIL_POINTS=1)
 *   nth     the next allocation of this thread (/proc/thread-self/fail-nth, debug kernel)
 *
 * until it goes by without. Whatever failed, the next try must succeed. WHAT is
 *
 *   read      128 KiB of DEVICE, scattered in memory; and write, the same back
 *   flush     4 KiB to DEVICE, down to the medium
 *   discard   1 MiB of DEVICE, which is then written as zeroes
 *   heap      a dma-buf of rust_dma_buf: made, seen and used by this process, freed
 *   vgem      such a dma-buf for the DRM driver of that name, and back
 *   register  such a dma-buf for DEVICE, an NVMe controller's namespace, and back
 *   submit    a command of 64 KiB each way on a buffer that is registered with DEVICE
 *   memory    memory of this process for DEVICE, such a namespace, and back: as much of it as the
 *             process may lock, so that nothing may stay charged
 *   pinned    commands as for submit, on memory of this process that is registered
 *   passthru  reads of 64 KiB by nvme_ioctl.h, in each way: ioctls, with vectors or without, and
 *             a ring's commands, with vectors or without, of any memory or of a buffer of the ring
 *   admin     Identify in each of these ways, by DEVICE, a controller
 *   edu       a page to DEVICE, a file of rust_edu, which is bound anew where it was given up
 */
#define _GNU_SOURCE
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/nvme_ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "heap-drm.h"
#include "nvme-buf.h"

#define LEN (128 * 1024UL)
#define MANY 2000

static const char *device;
static bool by_points;

static void put(const char *path, const char *text)
{
	int fd = must(open(path, O_WRONLY), path);

	must(write(fd, text, strlen(text)), path);
	close(fd);
}

static void get(const char *path, char *text, size_t len)
{
	int fd = must(open(path, O_RDONLY), path);
	ssize_t nr = must(read(fd, text, len - 1), path);

	text[nr] = 0;
	text[strcspn(text, "\n")] = 0;
	close(fd);
}

#define FAIL "/sys/kernel/debug/phyr/fail"

static int nth_fd;

static void arm(unsigned int nth)
{
	char text[32];

	if (by_points) {
		sprintf(text, "any %u", nth);
		put(FAIL, text);
	} else {
		sprintf(text, "%u", nth);
		must(pwrite(nth_fd, text, strlen(text), 0), "fail-nth");
	}
}

/* Whether something has failed since; what, for those who want to know. */
static bool disarm(char *what, size_t len)
{
	if (by_points) {
		get(FAIL, what, len);
		put(FAIL, "any 0");
		return strcmp(what, "none");
	}
	ssize_t nr = must(pread(nth_fd, what, len - 1, 0), "fail-nth");

	what[nr] = 0;
	must(pwrite(nth_fd, "0", 1, 0), "fail-nth");
	if (atoi(what))
		return false;
	snprintf(what, len, "an allocation");
	return true;
}

/* Each of these: zero, or an errno. */

/* LEN bytes, which are scattered in memory, and there before anything fails. */
static unsigned char *pages;

static int transfer(bool write)
{
	int fd = open(device, O_RDWR | O_DIRECT | O_CLOEXEC), ret = 0;
	ssize_t done;

	if (fd < 0)
		return errno;
	done = write ? pwrite(fd, pages, LEN, 0) : pread(fd, pages, LEN, 0);
	if (done != (ssize_t)LEN)
		ret = errno ?: EIO;
	close(fd);
	return ret;
}

static int do_read(void)
{
	return transfer(false);
}

static int do_write(void)
{
	return transfer(true);
}

static int heap_fd;

static int do_heap(void)
{
	struct dma_buf_sync sync = { .flags = DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW };
	int fd = heap_try(heap_fd, 16 * PAGE, O_RDWR | O_CLOEXEC), ret = 0;
	unsigned char *mem;

	if (fd < 0)
		return errno;
	mem = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mem == MAP_FAILED) {
		ret = errno;
		goto out;
	}
	if (ioctl(fd, DMA_BUF_IOCTL_SYNC, &sync)) {
		ret = errno;
		goto unmap;
	}
	for (size_t at = 0; at < 16 * PAGE; at += PAGE)
		mem[at] = 1;
	sync.flags = DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW;
	if (ioctl(fd, DMA_BUF_IOCTL_SYNC, &sync))
		ret = errno;
unmap:
	munmap(mem, 16 * PAGE);
out:
	close(fd);
	return ret;
}

static int do_flush(void)
{
	int fd = open(device, O_WRONLY | O_DIRECT | O_CLOEXEC), ret = 0;

	if (fd < 0)
		return errno;
	if (pwrite(fd, pages, PAGE, 0) != PAGE || fsync(fd))
		ret = errno ?: EIO;
	close(fd);
	return ret;
}

static int do_discard(void)
{
	__u64 range[] = { MIB, MIB };
	int fd = open(device, O_WRONLY | O_CLOEXEC), ret = 0;

	if (fd < 0)
		return errno;
	if (ioctl(fd, BLKDISCARD, range) || ioctl(fd, BLKZEROOUT, range))
		ret = errno;
	close(fd);
	return ret;
}

static int drm;

static int do_vgem(void)
{
	int fd = heap_try(heap_fd, 16 * PAGE, O_RDWR | O_CLOEXEC), ret = 0;
	__u32 handle;

	if (fd < 0)
		return errno;
	handle = drm_import(drm, fd);
	if (!handle || drm_close(drm, handle))
		ret = errno;
	close(fd);
	return ret;
}

static int do_register(void)
{
	int fd = heap_try(heap_fd, 16 * PAGE, O_RDWR | O_CLOEXEC), file, ret;
	__u32 handle = 0;

	if (fd < 0)
		return errno;
	file = open(device, O_RDWR | O_CLOEXEC);
	if (file < 0) {
		ret = -errno;
		goto out;
	}
	ret = ng_register(file, fd, RNVME_BUF_READ | RNVME_BUF_WRITE, &handle);
	if (!ret)
		ret = ng_unregister(file, handle);
	close(file);
out:
	close(fd);
	return -ret;
}

static struct io_uring ring;
static int ng = -1;
static __u32 registered, block_size;

/* Submits the one entry of the ring, and waits: its result is left in *res.  An errno, or 0. */
static int submit_one(int *res)
{
	struct io_uring_cqe *cqe;
	int ret;

	/* What was not taken stays in the ring, and is tried again by the next call. */
	ret = io_uring_submit(&ring);
	if (ret == -ENOMEM || ret == -EAGAIN)
		ret = io_uring_submit(&ring);
	if (ret != 1)
		return ret < 0 ? -ret : EIO;
	while ((ret = io_uring_wait_cqe(&ring, &cqe)) == -ENOMEM)
		;
	if (ret)
		return -ret;
	*res = cqe->res;
	io_uring_cqe_seen(&ring, cqe);
	return 0;
}

static int do_submit(void)
{
	struct rnvme_cmd cmd = { .len = 16 * PAGE, .handle = registered };
	__u32 ops[] = { RNVME_CMD_READ, RNVME_CMD_WRITE };

	for (size_t at = 0; at < ARRAY_SIZE(ops); at++) {
		int ret, res;

		ring_prep(&ring, ng, ops[at], &cmd, 0);
		ret = submit_one(&res);
		if (ret)
			return ret;
		if (res != 16 * PAGE)
			return res < 0 ? -res : EIO;
	}
	return 0;
}

/* Only what is registered differs. */
static int do_pinned(void)
{
	return do_submit();
}

static int do_memory(void)
{
	struct rnvme_register_memory args = { .addr = (__u64)pages, .len = LEN };
	int file = open(device, O_RDWR | O_CLOEXEC), ret;

	if (file < 0)
		return errno;
	args.flags = RNVME_BUF_READ | RNVME_BUF_WRITE;
	if (ioctl(file, RNVME_IOC_REGISTER_MEMORY, &args))
		ret = errno;
	else
		ret = -ng_unregister(file, args.handle);
	close(file);
	return ret;
}

/* An ioctl; its errno, or 0. */
static int passthru_by_ioctl(unsigned long op, struct nvme_passthru_cmd cmd)
{
	/* The shorter structure is how the longer one begins. */
	struct nvme_passthru_cmd64 cmd64 = { 0 };
	int ret;

	memcpy(&cmd64, &cmd, sizeof(cmd));
	ret = ioctl(ng, op, &cmd64);
	if (ret)
		return ret < 0 ? errno : EIO;
	return 0;
}

/* By a command of the ring, into its buffer or not. */
static int passthru_by_ring(__u32 op, struct nvme_passthru_cmd cmd, unsigned int flags)
{
	int ret, res;

	cmd.result = 0;
	ring_prep_cmd(&ring, ng, op, &cmd, sizeof(cmd))->uring_cmd_flags = flags;
	ret = submit_one(&res);
	if (ret)
		return ret;
	return res > 0 ? EIO : -res;
}

/* The same command in each way, with its data in vectors as well. */
static int do_passthru(void)
{
	const size_t len = 16 * PAGE;
	struct nvme_passthru_cmd cmd = {
		.opcode = 2, .nsid = 1, .addr = (__u64)pages, .data_len = len,
		.cdw12 = len / block_size - 1,
	}, vec;
	/* More than fit on the kernel's stack, and each second page. */
	struct iovec vecs[16];

	for (size_t at = 0; at < ARRAY_SIZE(vecs); at++)
		vecs[at] = (struct iovec) { pages + 2 * at * PAGE, PAGE };
	vec = cmd;
	vec.addr = (__u64)vecs;
	vec.data_len = ARRAY_SIZE(vecs);
	return passthru_by_ioctl(NVME_IOCTL_IO_CMD, cmd) ?:
		passthru_by_ioctl(NVME_IOCTL_IO64_CMD, cmd) ?:
		passthru_by_ioctl(NVME_IOCTL_IO64_CMD_VEC, vec) ?:
		passthru_by_ring(NVME_URING_CMD_IO, cmd, 0) ?:
		passthru_by_ring(NVME_URING_CMD_IO, cmd, IORING_URING_CMD_FIXED) ?:
		passthru_by_ring(NVME_URING_CMD_IO_VEC, vec, 0) ?:
		passthru_by_ring(NVME_URING_CMD_IO_VEC, vec, IORING_URING_CMD_FIXED);
}

static int do_admin(void)
{
	struct nvme_passthru_cmd cmd = {
		.opcode = 6, .addr = (__u64)pages, .data_len = PAGE, .cdw10 = 1,
	}, vec;
	/* Halves, which PRPs cannot describe: they are copied. */
	struct iovec vecs[2] = { { pages, PAGE / 2 }, { pages + PAGE, PAGE / 2 } };

	vec = cmd;
	vec.addr = (__u64)vecs;
	vec.data_len = ARRAY_SIZE(vecs);
	return passthru_by_ioctl(NVME_IOCTL_ADMIN_CMD, cmd) ?:
		passthru_by_ioctl(NVME_IOCTL_ADMIN64_CMD, cmd) ?:
		passthru_by_ring(NVME_URING_CMD_ADMIN, cmd, 0) ?:
		passthru_by_ring(NVME_URING_CMD_ADMIN, cmd, IORING_URING_CMD_FIXED) ?:
		passthru_by_ring(NVME_URING_CMD_ADMIN_VEC, vec, 0) ?:
		passthru_by_ring(NVME_URING_CMD_ADMIN_VEC, vec, IORING_URING_CMD_FIXED);
}

static int do_edu(void)
{
	int fd = open(device, O_WRONLY | O_CLOEXEC), ret = 0;

	if (fd < 0)
		return errno;
	if (pwrite(fd, pages, PAGE, PAGE) != PAGE)
		ret = errno ?: EIO;
	close(fd);
	return ret;
}

/* A device that did not answer in time does no DMA any more. It is busy until it finds that out. */
static void bind_edu_anew(void)
{
	const char *address = strstr(device, "rust_edu-") + strlen("rust_edu-");
	size_t len = strcspn(address, "/");
	int fd, tries = 3000;

	fd = must(open("/sys/bus/pci/drivers/rust_edu/unbind", O_WRONLY | O_CLOEXEC), "unbind");
	must(write(fd, address, len), "unbind");
	close(fd);
	fd = must(open("/sys/bus/pci/drivers/rust_edu/bind", O_WRONLY | O_CLOEXEC), "bind");
	while (write(fd, address, len) < 0) {
		if (errno != EBUSY || !tries--)
			die("rust_edu is not bound anew: %s", strerror(errno));
		usleep(20000);
	}
	close(fd);
}

/* ENOMEM, or what it says after the name. */
static bool expected(int error, const char *what)
{
	const char *own = strchr(what, ' ');

	/* Who does not get in at a buffer's gate is told that the buffer has gone. */
	if (error == EOWNERDEAD && !strncmp(what, "percpu_ref_tryget_live ", 23))
		return true;
	return error == ENOMEM || (by_points && own && error == atoi(own));
}

/* May lock no more than LEN, whoever this is. */
static void limit_locked(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3];
	struct rlimit limit = { LEN, LEN };

	must(syscall(SYS_capget, &head, caps), "capget");
	caps[CAP_TO_INDEX(CAP_IPC_LOCK)].effective &= ~CAP_TO_MASK(CAP_IPC_LOCK);
	must(syscall(SYS_capset, &head, caps), "capset");
	must(setrlimit(RLIMIT_MEMLOCK, &limit), "setrlimit");
}

/* What each of them needs, before anything fails. */
static void prepare(int (*run)(void))
{
	pages = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pages == MAP_FAILED)
		die("no memory");
	for (size_t at = LEN; at; at -= PAGE)
		pages[at - PAGE] = 1;
	if (run == do_heap || run == do_vgem || run == do_register || run == do_submit)
		heap_fd = heap_open();
	if (run == do_submit) {
		int fd = heap_alloc(heap_fd, 16 * PAGE);

		ng = must(open(device, O_RDWR | O_CLOEXEC), device);
		ring_init(&ring, 1);
		check(!ng_register(ng, fd, RNVME_BUF_READ | RNVME_BUF_WRITE, &registered));
		close(fd);
	}
	if (run == do_pinned) {
		struct rnvme_register_memory args = {
			.addr = (__u64)pages, .len = LEN,
			.flags = RNVME_BUF_READ | RNVME_BUF_WRITE,
		};

		ng = must(open(device, O_RDWR | O_CLOEXEC), device);
		ring_init(&ring, 1);
		must(ioctl(ng, RNVME_IOC_REGISTER_MEMORY, &args), "register");
		registered = args.handle;
	}
	if (run == do_passthru || run == do_admin) {
		struct iovec buffer = { pages, LEN };

		ng = must(open(device, O_RDWR | O_CLOEXEC), device);
		if (run == do_passthru)
			block_size = ng_info(ng, 0).block_size;
		ring_setup(&ring, 1, IORING_SETUP_CQE32);
		check(!io_uring_register_buffers(&ring, &buffer, 1));
	}
	if (run == do_memory)
		limit_locked();
	if (run == do_vgem)
		drm = must(drm_open("vgem"), "vgem");
	if (run == do_edu && !strstr(device, "rust_edu-"))
		die("%s: no file of rust_edu", device);
	if (!by_points)
		nth_fd = must(open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC), "fail-nth");
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(void);
	} all[] = {
		{ "read", do_read },
		{ "write", do_write },
		{ "flush", do_flush },
		{ "discard", do_discard },
		{ "heap", do_heap },
		{ "vgem", do_vgem },
		{ "register", do_register },
		{ "submit", do_submit },
		{ "memory", do_memory },
		{ "pinned", do_pinned },
		{ "passthru", do_passthru },
		{ "admin", do_admin },
		{ "edu", do_edu },
	};
	int (*run)(void) = NULL;
	unsigned int nth, refused = 0;
	bool bare;

	if (argc < 3)
		die("usage: stepwise points|nth WHAT [DEVICE]");
	by_points = !strcmp(argv[1], "points");
	device = argc > 3 ? argv[3] : NULL;
	for (size_t at = 0; at < ARRAY_SIZE(all); at++)
		if (!strcmp(all[at].name, argv[2]))
			run = all[at].run;
	if (!run)
		die("no such thing to do: %s", argv[2]);
	prepare(run);

	if (run())
		die("%s fails by itself: %s", argv[2], strerror(errno));
	for (nth = 1; nth < MANY; nth++) {
		char what[64];
		int error, again;
		bool failed;

		errno = 0;
		arm(nth);
		error = run();
		failed = disarm(what, sizeof(what));
		if (!failed) {
			if (error)
				die("%s fails without a failure: %s", argv[2], strerror(error));
			break;
		}
		if (error && !expected(error, what))
			die("%s: error %d after %s, step %u", argv[2], error, what, nth);
		refused += !!error;
		if (run == do_edu && error == ETIMEDOUT)
			bind_edu_anew();
		again = run();
		if (again)
			die("%s: after %s the next try fails: %s", argv[2], what, strerror(again));
	}
	/* A command on a buffer that is registered takes no memory at all. */
	bare = (run == do_submit || run == do_pinned) && !by_points;
	if (bare ? nth > 1 : nth == 1 || nth == MANY)
		die("%s: %u steps could fail", argv[2], nth - 1);
	printf("%s: %u steps have failed, and %u times it did\n", argv[2], nth - 1, refused);
	return 0;
}
