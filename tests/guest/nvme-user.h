/* SPDX-License-Identifier: GPL-2.0 */
/*
 * For the programs that send NVMe commands on memory of their own: nvme-user NG CTRL DISK TEST...
 * and others, by the character devices NG of a namespace and CTRL of its controller.
 *
 * BOUNCED=1 in the environment says that memory is bounced here, so that it cannot be registered;
 * else it can be.  If that is not so the program fails.
 */
#ifndef NVME_USER_H
#define NVME_USER_H

#include <linux/nvme_ioctl.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "nvme-buf.h"

#ifndef IORING_URING_CMD_FIXED
#define IORING_URING_CMD_FIXED	1U
#endif

enum { FLUSH = 0, WRITE_CMD = 1, READ_CMD = 2, WRITE_ZEROES = 8, DSM = 9, IDENTIFY = 6, LOG = 2 };

static const char *ng_path, *ctrl_path, *disk_path;
static int ng, ctrl;
static struct rnvme_info info;
static struct io_uring ring;

static inline long counter(const char *name)
{
	/* Else each processor may have counted some that are not added up yet. */
	int refresh = open("/proc/sys/vm/stat_refresh", O_RDWR);
	FILE *file = fopen("/proc/vmstat", "r");
	char word[64];
	long value, found = -1;

	check(file && refresh >= 0 && write(refresh, "1", 1) == 1);
	close(refresh);
	while (fscanf(file, "%63s %ld", word, &value) == 2)
		if (!strcmp(word, name))
			found = value;
	fclose(file);
	return found;
}

/* Pages that are pinned. */
static inline long pins(void)
{
	return counter("nr_foll_pin_acquired") - counter("nr_foll_pin_released");
}

/* Some are given back by a task that is still on its way to its end. */
static inline void check_no_pins(const char *where)
{
	long left = 0;

	for (int i = 0; i < 500; i++) {
		left = pins();
		if (!left)
			return;
		usleep(20000);
	}
	die("%s: %ld pages are still pinned", where, left);
}

static inline unsigned char *pages(size_t size)
{
	unsigned char *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	check(bytes != MAP_FAILED);
	return bytes;
}

static inline void set_bytes(unsigned char *bytes, size_t size, __u64 seed)
{
	for (size_t i = 0; i < size; i++)
		bytes[i] = pattern(seed, i);
}

static inline int are_bytes(const unsigned char *bytes, size_t size, __u64 seed)
{
	for (size_t i = 0; i < size; i++)
		if (bytes[i] != pattern(seed, i))
			return 0;
	return 1;
}

/* What the block device has. */
static inline void disk_is(size_t len, __u64 at, __u64 seed)
{
	int fd = open(disk_path, O_RDONLY | O_DIRECT);
	unsigned char *bytes = pages(len);

	check(fd >= 0 && pread(fd, bytes, len, at) == (ssize_t)len);
	check(are_bytes(bytes, len, seed));
	munmap(bytes, len);
	close(fd);
}

static inline struct nvme_passthru_cmd io(__u8 opcode, void *data, __u32 len, __u64 at)
{
	__u64 slba = at / info.block_size;

	return (struct nvme_passthru_cmd) {
		.opcode = opcode, .nsid = 1, .addr = (__u64)data, .data_len = len,
		.cdw10 = slba, .cdw11 = slba >> 32, .cdw12 = len / info.block_size - 1,
	};
}

/* The NVMe status, or an error. */
static inline int send_io(__u8 opcode, void *data, __u32 len, __u64 at)
{
	struct nvme_passthru_cmd cmd = io(opcode, data, len, at);
	int ret = ioctl(ng, NVME_IOCTL_IO_CMD, &cmd);

	return ret < 0 ? -errno : ret;
}

static inline int send_admin(int fd, struct nvme_passthru_cmd cmd)
{
	int ret = ioctl(fd, NVME_IOCTL_ADMIN_CMD, &cmd);

	return ret < 0 ? -errno : ret;
}

static inline struct nvme_passthru_cmd identify(__u32 cns, __u32 nsid, void *to, __u32 len)
{
	return (struct nvme_passthru_cmd) {
		.opcode = IDENTIFY, .nsid = nsid, .addr = (__u64)to, .data_len = len, .cdw10 = cns,
	};
}

/* A command of nvme_ioctl.h by io_uring; BUFFER is a buffer of the ring, or -1. */
static inline int uring_io(int fd, __u32 op, struct nvme_passthru_cmd cmd, int buffer, __u64 *extra)
{
	struct io_uring_sqe *sqe;
	struct io_uring_cqe *cqe;
	int ret;

	cmd.result = 0;
	sqe = ring_prep_cmd(&ring, fd, op, &cmd, sizeof(cmd));
	if (buffer >= 0) {
		sqe->uring_cmd_flags = IORING_URING_CMD_FIXED;
		sqe->buf_index = buffer;
	}
	check(io_uring_submit(&ring) == 1);
	do
		ret = io_uring_wait_cqe(&ring, &cqe);
	while (ret == -EINTR);
	check(!ret);
	ret = cqe->res;
	if (extra)
		*extra = cqe->big_cqe[0];
	io_uring_cqe_seen(&ring, cqe);
	return ret;
}

static inline void as_nobody(void (*test)(void))
{
	pid_t child = fork();
	int status;

	if (!child) {
		become_nobody();
		test();
		exit(0);
	}
	check(waitpid(child, &status, 0) == child && !status);
}

static inline int register_memory(void *addr, __u64 len, __u32 flags, __u32 *handle)
{
	struct rnvme_register_memory args = { .addr = (__u64)addr, .len = len, .flags = flags };

	if (ioctl(ng, RNVME_IOC_REGISTER_MEMORY, &args))
		return -errno;
	*handle = args.handle;
	return 0;
}

static inline __u32 registered(void *addr, __u64 len, __u32 flags)
{
	__u32 handle = 0;
	int ret = register_memory(addr, len, flags, &handle);

	if (ret)
		die("register: %s", strerror(-ret));
	check(handle);
	return handle;
}

static inline int run(__u32 op, __u32 handle, __u64 offset, __u32 len, __u64 at)
{
	struct rnvme_cmd cmd = {
		.offset = offset, .slba = at / info.block_size, .len = len, .handle = handle,
	};

	return ring_run(&ring, ng, op, cmd);
}

static inline void *map_file(int fd, size_t size, int flags)
{
	void *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);

	check(bytes != MAP_FAILED);
	return bytes;
}

/* Registrations of a file. */
#define EACH	1000

/* So many of the first 200 pages of BYTES, with each of some new files of the namespace. */
static inline void register_many(unsigned char *bytes, int files, int fds[])
{
	for (int i = 0; i < files; i++) {
		ng = open(ng_path, O_RDWR);
		check(ng >= 0);
		fds[i] = ng;
		for (int j = 0; j < EACH; j++)
			registered(bytes + PAGE * (j % 200), PAGE,
				   RNVME_BUF_READ | RNVME_BUF_WRITE);
	}
}

/* Opens the devices, and looks whether memory can be registered as BOUNCED says. */
static inline bool open_files(char **paths)
{
	const char *text = getenv("BOUNCED");
	bool bounced = text && *text == '1';
	unsigned char *bytes = pages(PAGE);
	__u32 handle = 0;
	int ret;

	ng_path = paths[0];
	ctrl_path = paths[1];
	disk_path = paths[2];
	ng = must(open(ng_path, O_RDWR), ng_path);
	ctrl = must(open(ctrl_path, O_RDWR), ctrl_path);
	info = ng_info(ng, 0);
	ring_setup(&ring, 64, IORING_SETUP_CQE32);
	ret = register_memory(bytes, PAGE, RNVME_BUF_READ, &handle);
	if (ret != (bounced ? -EOPNOTSUPP : 0))
		die("a page is registered with %d where memory is%s bounced", ret,
		    bounced ? "" : " not");
	if (!ret)
		check(!ng_unregister(ng, handle));
	munmap(bytes, PAGE);
	return bounced;
}

struct test {
	const char *name;
	void (*run)(void);
	/* Alternatively, with a number. */
	void (*run_with)(int number);
};

/* Runs the tests that ARGS name, each of which must leave no page pinned. */
static inline void run_tests(const struct test *tests, size_t count, char **args)
{
	while (*args) {
		const char *name = *args++;
		size_t nr = 0;

		while (nr < count && strcmp(tests[nr].name, name))
			nr++;
		if (nr == count)
			die("no such test: %s", name);
		if (tests[nr].run_with) {
			if (!*args)
				die("%s: a number is missing", name);
			tests[nr].run_with(atoi(*args++));
		} else {
			tests[nr].run();
		}
		check_no_pins(name);
		printf("%s: ok\n", name);
		fflush(stdout);
	}
}

#endif /* NVME_USER_H */
