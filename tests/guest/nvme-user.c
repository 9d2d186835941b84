// SPDX-License-Identifier: GPL-2.0
/*
 * nvme-user NG CTRL DISK TEST...: memory of a program as the data of NVMe commands, by the
 * character devices NG of a namespace and CTRL of its controller: pass-through, and registered
 * memory; compared with what the block device DISK gives.
 *
 *  ioctl     each ioctl of nvme_ioctl.h, and what is refused
 *  uring     each io_uring command, with addresses, vectors and buffers of the ring
 *  edges     lengths and addresses at which something changes
 *  rights    what a process without privileges may do
 *  memory    registered memory of each kind, read and written
 *  gone      memory that is unmapped, moved, truncated, forked or given away while it is registered
 *  many N    N times 1,000 registrations, the same memory in many of them
 *  file      memory of a file on a disk, FILE in the environment
 *  peer      memory of another device: what can be mapped of PEER in the environment, the file
 *            "allocate" of a device's p2pmem in sysfs
 *
 * After each test all pins are given back.
 */

#define _GNU_SOURCE
#include "nvme-user.h"

/* sizeof(struct nvme_user_io) there. */
#define IO32	44

static void test_ioctl(void)
{
	unsigned char *bytes = pages(MIB), *id = pages(PAGE);
	struct nvme_passthru_cmd64 cmd64;
	struct nvme_passthru_cmd cmd;
	struct nvme_user_io uio = { 0 };
	struct iovec vecs[3];
	struct {
		int fd;
		unsigned long op;
	} wrong[] = {
		{ ng, NVME_IOCTL_RESET }, { ng, NVME_IOCTL_RESCAN }, { ctrl, NVME_IOCTL_RESET },
		{ ctrl, NVME_IOCTL_SUBSYS_RESET }, { ctrl, NVME_IOCTL_IO_CMD },
		{ ctrl, NVME_IOCTL_ID }, { ng, 0 },
	};

	check(ioctl(ng, NVME_IOCTL_ID) == 1);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		check(ioctl(wrong[i].fd, wrong[i].op, &cmd) == -1 && errno == ENOTTY);

	set_bytes(bytes, 64 << 10, 1);
	check(send_io(WRITE_CMD, bytes, 64 << 10, 0) == 0);
	disk_is(64 << 10, 0, 1);
	memset(bytes, 0, 64 << 10);
	check(send_io(READ_CMD, bytes, 64 << 10, 0) == 0);
	check(are_bytes(bytes, 64 << 10, 1));
	check(send_io(FLUSH, NULL, 0, 0) == 0);

	/* The other structures, and vectors. */
	uio.opcode = READ_CMD;
	uio.nblocks = 4096 / info.block_size - 1;
	uio.addr = (__u64)bytes + MIB / 2;
	check(ioctl(ng, NVME_IOCTL_SUBMIT_IO, &uio) == 0);
	check(are_bytes(bytes + MIB / 2, 4096, 1));
	uio.opcode = DSM;
	check(ioctl(ng, NVME_IOCTL_SUBMIT_IO, &uio) == -1 && errno == EINVAL);
	uio.opcode = READ_CMD;
	uio.control = 1 << 13;
	uio.metadata = (__u64)bytes;
	check(ioctl(ng, NVME_IOCTL_SUBMIT_IO, &uio) == -1 && errno == EINVAL);
	/* As a 32-bit program of x86 has it: four bytes less, with nothing after them. */
	uio.control = 0;
	uio.metadata = 0;
	memset(bytes + MIB / 2, 0, 4096);
	munmap(bytes + 4 * PAGE, PAGE);
	check(ioctl(ng, _IOC(_IOC_WRITE, 'N', 0x42, IO32),
		    memcpy(bytes + 4 * PAGE - IO32, &uio, IO32)) == 0);
	check(are_bytes(bytes + MIB / 2, 4096, 1));
	check(mmap(bytes + 4 * PAGE, PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED);

	memset(bytes, 0, MIB);
	cmd = io(READ_CMD, bytes, 8192, 0);
	memcpy(&cmd64, &cmd, sizeof(cmd));
	check(ioctl(ng, NVME_IOCTL_IO64_CMD, &cmd64) == 0 && are_bytes(bytes, 8192, 1));
	for (int i = 0; i < 3; i++)
		vecs[i] = (struct iovec) { bytes + (2 * i + 2) * PAGE, PAGE };
	cmd = io(READ_CMD, vecs, 3 * PAGE, 0);
	memcpy(&cmd64, &cmd, sizeof(cmd));
	cmd64.vec_cnt = 3;
	check(ioctl(ng, NVME_IOCTL_IO64_CMD_VEC, &cmd64) == 0);
	check(are_bytes(bytes + 2 * PAGE, PAGE, 1));
	for (size_t i = 0; i < PAGE; i++)
		check(bytes[6 * PAGE + i] == pattern(1, 2 * PAGE + i));

	/* The status is the controller's: a block that is not there. */
	check((send_io(READ_CMD, bytes, 4096, info.blocks * info.block_size) & 0x7ff) == 0x80);
	/* Data that is not as long as the command says; another namespace; flags; metadata. */
	cmd = io(READ_CMD, bytes, 4096, 0);
	cmd.data_len = 8192;
	check(ioctl(ng, NVME_IOCTL_IO_CMD, &cmd) == -1 && errno == EINVAL);
	cmd.data_len = 0;
	check(ioctl(ng, NVME_IOCTL_IO_CMD, &cmd) == -1 && errno == EINVAL);
	check(send_io(READ_CMD, NULL, 4096, 0) == -EINVAL);
	cmd = io(READ_CMD, bytes, 4096, 0);
	cmd.nsid = 2;
	check(ioctl(ng, NVME_IOCTL_IO_CMD, &cmd) == -1 && errno == EINVAL);
	cmd.nsid = 1;
	cmd.flags = 1;
	check(ioctl(ng, NVME_IOCTL_IO_CMD, &cmd) == -1 && errno == EINVAL);
	cmd.flags = 0;
	cmd.metadata = (__u64)id;
	cmd.metadata_len = 8;
	check(ioctl(ng, NVME_IOCTL_IO_CMD, &cmd) == -1 && errno == EINVAL);
	check(ioctl(ng, NVME_IOCTL_IO_CMD, (void *)1) == -1 && errno == EFAULT);

	/* Admin commands, by both devices. */
	for (int i = 0; i < 2; i++) {
		int fd = i ? ng : ctrl;

		memset(id, 0, PAGE);
		check(send_admin(fd, identify(1, 0, id, 4096)) == 0 && !memcmp(id + 24, "QEMU", 4));
		check(send_admin(fd, identify(1, 0, id, 512)) == -EINVAL);
		check(send_admin(fd, identify(0x77, 0, id, 4096)) > 0);
		cmd = (struct nvme_passthru_cmd) {
			.opcode = LOG, .nsid = ~0U, .addr = (__u64)id, .data_len = 512,
			.cdw10 = 127 << 16 | 2,
		};
		check(send_admin(fd, cmd) == 0);
		cmd.data_len = 4096;
		check(send_admin(fd, cmd) == -EINVAL);
	}
	/* What the driver could not follow, such as queues and formats; its own features. */
	for (int i = 0; i < 10; i++) {
		__u8 opcode[] = { 0, 1, 4, 5, 0x0c, 0x0d, 0x15, 0x7c, 0x80, 0x84 };

		cmd = (struct nvme_passthru_cmd) { .opcode = opcode[i], .nsid = 1 };
		check(send_admin(ctrl, cmd) == -EOPNOTSUPP);
	}
	cmd = (struct nvme_passthru_cmd) { .opcode = 9, .cdw10 = 7 };
	check(send_admin(ctrl, cmd) == -EACCES);
	cmd = (struct nvme_passthru_cmd) { .opcode = 10, .cdw10 = 7 };
	check(ioctl(ctrl, NVME_IOCTL_ADMIN_CMD, &cmd) == 0 && cmd.result);
	munmap(bytes, MIB);
	munmap(id, PAGE);
}

static void test_uring(void)
{
	unsigned char *bytes = pages(MIB);
	struct iovec vecs[2], buffers[2] = { { bytes, MIB / 2 }, { bytes + MIB / 2, MIB / 2 } };
	struct nvme_passthru_cmd cmd;
	struct io_uring small;
	__u64 extra = 1;

	check(!io_uring_register_buffers(&ring, buffers, 2));
	for (int buffer = -1; buffer < 2; buffer++) {
		unsigned char *at = bytes + (buffer == 1 ? MIB / 2 : 0) + PAGE;
		__u64 seed = 10 + buffer;

		set_bytes(at, 64 << 10, seed);
		cmd = io(WRITE_CMD, at, 64 << 10, MIB);
		check(uring_io(ng, NVME_URING_CMD_IO, cmd, buffer, &extra) == 0 && !extra);
		disk_is(64 << 10, MIB, seed);
		memset(at, 0, 64 << 10);
		cmd = io(READ_CMD, at, 64 << 10, MIB);
		check(uring_io(ng, NVME_URING_CMD_IO, cmd, buffer, NULL) == 0);
		check(are_bytes(at, 64 << 10, seed));

		memset(at, 0, 64 << 10);
		vecs[0] = (struct iovec) { at, 2 * PAGE };
		vecs[1] = (struct iovec) { at + 4 * PAGE, 2 * PAGE };
		cmd = io(READ_CMD, vecs, 4 * PAGE, MIB);
		cmd.data_len = 2;
		check(uring_io(ng, NVME_URING_CMD_IO_VEC, cmd, buffer, NULL) == 0);
		check(are_bytes(at, 2 * PAGE, seed));
		check(at[4 * PAGE] == pattern(seed, 2 * PAGE) && !at[2 * PAGE]);
	}
	/* Not in the buffer, or not all; no such buffer. */
	cmd = io(READ_CMD, bytes + MIB / 2, 4096, MIB);
	check(uring_io(ng, NVME_URING_CMD_IO, cmd, 0, NULL) == -EFAULT);
	cmd = io(READ_CMD, bytes + MIB / 2 - 2048, 4096, MIB);
	check(uring_io(ng, NVME_URING_CMD_IO, cmd, 0, NULL) == -EFAULT);
	check(uring_io(ng, NVME_URING_CMD_IO, cmd, 2, NULL) == -EFAULT);
	/* The commands of rust_nvme.h have none. */
	check(uring_io(ng, RNVME_CMD_READ, (struct nvme_passthru_cmd) { 0 }, 0, NULL) == -EINVAL);

	cmd = identify(1, 0, bytes, 4096);
	for (int buffer = -1; buffer < 1; buffer++) {
		memset(bytes, 0, 4096);
		check(!uring_io(ctrl, NVME_URING_CMD_ADMIN, cmd, buffer, NULL));
		check(!memcmp(bytes + 24, "QEMU", 4));
	}
	cmd = (struct nvme_passthru_cmd) { .opcode = 10, .cdw10 = 7 };
	check(uring_io(ctrl, NVME_URING_CMD_ADMIN, cmd, -1, &extra) == 0 && extra);
	check(uring_io(ctrl, NVME_URING_CMD_IO, cmd, -1, NULL) == -ENOTTY);
	check(uring_io(ng, NVME_URING_CMD_ADMIN, cmd, -1, NULL) == -ENOTTY);

	/* A status of the controller's is no error. */
	cmd = io(READ_CMD, bytes, 4096, info.blocks * info.block_size);
	check((uring_io(ng, NVME_URING_CMD_IO, cmd, -1, NULL) & 0x7ff) == 0x80);
	cmd = io(READ_CMD, (void *)8, 4096, 0);
	check(uring_io(ng, NVME_URING_CMD_IO, cmd, -1, NULL) == -EFAULT);

	/* Entries or completions that are too small. */
	for (int i = 0; i < 2; i++) {
		unsigned int flags = i ? IORING_SETUP_SQE128 : IORING_SETUP_CQE32;
		struct io_uring_sqe *sqe;

		check(!io_uring_queue_init(2, &small, flags));
		sqe = io_uring_get_sqe(&small);
		check(sqe);
		io_uring_prep_rw(IORING_OP_URING_CMD, sqe, ng, NULL, 0, 0);
		sqe->cmd_op = NVME_URING_CMD_IO;
		check(io_uring_submit(&small) == 1 && ring_reap(&small, NULL) == -EOPNOTSUPP);
		io_uring_queue_exit(&small);
	}
	check(!io_uring_unregister_buffers(&ring));
	munmap(bytes, MIB);
}

static void test_edges(void)
{
	unsigned char *bytes = pages(4 * MIB), *read_only;
	__u32 block = info.block_size;
	__u32 lens[] = { block, 4096, 8192, 12288, info.max_bytes - block, info.max_bytes };
	int offsets[] = { 0, 4, 512, 2048, 4092, 1, 2, 4095 };

	/* Also what is no multiple of 4: that is copied. */
	for (size_t i = 0; i < sizeof(offsets) / sizeof(*offsets); i++)
		for (size_t j = 0; j < sizeof(lens) / sizeof(*lens); j++) {
			unsigned char *at = bytes + PAGE + offsets[i];
			int ret;

			set_bytes(at, lens[j], i + j);
			ret = send_io(WRITE_CMD, at, lens[j], 0);
			/* One more page than there can be segments. */
			if (lens[j] > info.max_bytes / 2 && offsets[i] && ret == -EINVAL)
				continue;
			check(ret == 0);
			memset(at - 1, 0x55, lens[j] + 2);
			check(send_io(READ_CMD, at, lens[j], 0) == 0);
			check(are_bytes(at, lens[j], i + j));
			check(at[-1] == 0x55 && at[lens[j]] == 0x55);
		}
	if (info.max_bytes <= 2 * MIB)
		check(send_io(READ_CMD, bytes, info.max_bytes + block, 0) == -EINVAL);
	check(send_io(READ_CMD, (void *)-4096L, 4096, 0) == -EFAULT);
	check(send_io(READ_CMD, (void *)-2048L, 4096, 0) == -EFAULT);
	check(send_io(READ_CMD, (void *)(1UL << 63), 4096, 0) == -EFAULT);
	check(send_io(READ_CMD, (void *)4096, 4096, 0) == -EFAULT);

	/* A controller may read what the program cannot write, and not write it. */
	read_only = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(read_only != MAP_FAILED);
	check(send_io(READ_CMD, read_only, 4096, 0) == -EFAULT);
	check(send_io(WRITE_CMD, read_only, 4096, 0) == 0);
	munmap(read_only, PAGE);
	munmap(bytes, 4 * MIB);
}

static void rights(void)
{
	unsigned char *bytes = pages(PAGE);
	struct nvme_passthru_cmd cmd;

	/* The files are open already: for reading only, the first time. */
	check(send_io(READ_CMD, bytes, 4096, 0) == 0);
	check(send_io(WRITE_CMD, bytes, 4096, 0) == -EACCES);
	check(send_io(0x80, bytes, 4096, 0) == -EACCES);
	check(send_io(0x70, bytes, 4096, 0) == -EACCES);
	check(send_admin(ctrl, identify(1, 0, bytes, 4096)) == 0);
	check(send_admin(ctrl, identify(2, 0, bytes, 4096)) == -EACCES);
	cmd = (struct nvme_passthru_cmd) {
		.opcode = LOG, .nsid = ~0U, .addr = (__u64)bytes, .data_len = 512,
		.cdw10 = 127 << 16 | 2,
	};
	check(send_admin(ctrl, cmd) == -EACCES);
	cmd = (struct nvme_passthru_cmd) { .opcode = 10, .cdw10 = 6 };
	check(send_admin(ctrl, cmd) == -EACCES);
	cmd = (struct nvme_passthru_cmd) { .opcode = 0x80, .nsid = 1 };
	check(send_admin(ctrl, cmd) == -EACCES);
}

static void rights_to_write(void)
{
	unsigned char *bytes = pages(PAGE);

	check(send_io(READ_CMD, bytes, 4096, 0) == 0);
	check(send_io(WRITE_CMD, bytes, 4096, 0) == 0);
	check(send_io(FLUSH, NULL, 0, 0) == 0);
}

static void test_rights(void)
{
	int both = ng;

	ng = open(ng_path, O_RDONLY);
	check(ng >= 0);
	as_nobody(rights);
	close(ng);
	ng = both;
	as_nobody(rights_to_write);
}

/* Writes and reads all of the memory, in commands of 64 KiB at odd places. */
static void write_and_read(unsigned char *bytes, size_t size, __u64 seed)
{
	__u32 handle = registered(bytes, size, RNVME_BUF_READ | RNVME_BUF_WRITE);
	const size_t step = 64 << 10;

	set_bytes(bytes, size, seed);
	for (size_t at = 0; at < size; at += step) {
		__u32 len = size - at < step ? size - at : step;

		check(run(RNVME_CMD_WRITE, handle, at, len, at) == (int)len);
	}
	disk_is(size, 0, seed);
	memset(bytes, 0, size);
	for (size_t at = 0; at < size; at += step) {
		__u32 len = size - at < step ? size - at : step;

		check(run(RNVME_CMD_READ, handle, at, len, at) == (int)len);
	}
	check(are_bytes(bytes, size, seed));
	check(run(RNVME_CMD_READ, handle, size, 4096, 0) == -ERANGE);
	check(ng_info(ng, handle).bytes == size);
	check(!ng_unregister(ng, handle));
	check(run(RNVME_CMD_READ, handle, 0, 4096, 0) == -ENOENT);
}

/* Returns false if the kernel has no huge pages. */
static bool set_hugepages(int count)
{
	FILE *file = fopen("/proc/sys/vm/nr_hugepages", "w");

	if (!file)
		return false;
	fprintf(file, "%d", count);
	fclose(file);
	return true;
}

static void test_memory(void)
{
	const size_t size = 2 * MIB;
	unsigned char *bytes;
	__u32 handle;
	long faults;
	int fd;

	bytes = pages(size);
	write_and_read(bytes, size, 1);
	/* Not whole pages. */
	write_and_read(bytes + 2048, MIB, 2);
	/* What was never written is the page of zeroes, which nobody writes. */
	munmap(bytes, size);
	bytes = pages(size);
	handle = registered(bytes, size, RNVME_BUF_READ);
	check(run(RNVME_CMD_WRITE, handle, 0, 4096, 0) == 4096);
	check(run(RNVME_CMD_READ, handle, 0, 4096, 0) == -EACCES);
	check(!ng_unregister(ng, handle));
	munmap(bytes, size);

	bytes = pages(2 * size);
	faults = counter("thp_fault_alloc");
	if (!madvise(bytes, 2 * size, MADV_HUGEPAGE)) {
		write_and_read(bytes, 2 * size, 3);
		check(counter("thp_fault_alloc") > faults);
	} else {
		check(errno == EINVAL);
		printf("memory: this kernel has no transparent huge pages\n");
	}
	munmap(bytes, 2 * size);

	fd = memfd_create("nvme-user", 0);
	check(fd >= 0 && !ftruncate(fd, size));
	bytes = map_file(fd, size, MAP_SHARED);
	write_and_read(bytes, size, 4);
	munmap(bytes, size);
	bytes = map_file(fd, size, MAP_PRIVATE);
	write_and_read(bytes, size, 5);
	munmap(bytes, size);
	close(fd);

	if (set_hugepages(4)) {
		bytes = map_file(-1, size, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB);
		write_and_read(bytes, size, 6);
		/* From its middle to its end. */
		write_and_read(bytes + MIB + 4096, MIB - 4096, 7);
		munmap(bytes, size);
		set_hugepages(0);
	} else {
		printf("memory: this kernel has no huge pages\n");
	}
}

static void test_gone(void)
{
	const size_t size = 64 << 10;
	unsigned char *bytes = pages(size), *moved;
	__u32 handle, other;
	pid_t child;
	int fd, status;

	/* Unmapped: the pages are still the registration's. */
	handle = registered(bytes, size, RNVME_BUF_READ | RNVME_BUF_WRITE);
	set_bytes(bytes, size, 1);
	munmap(bytes, size);
	check(run(RNVME_CMD_WRITE, handle, 0, size, 0) == (int)size);
	disk_is(size, 0, 1);
	check(run(RNVME_CMD_READ, handle, 0, size, 0) == (int)size);
	check(!ng_unregister(ng, handle));

	/* Moved: the same pages elsewhere. */
	bytes = pages(size);
	handle = registered(bytes, size, RNVME_BUF_READ | RNVME_BUF_WRITE);
	moved = mremap(bytes, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, pages(size));
	check(moved != MAP_FAILED);
	check(run(RNVME_CMD_READ, handle, 0, size, 0) == (int)size);
	check(are_bytes(moved, size, 1));

	/* Given back: what is there now is other memory. */
	check(!madvise(moved, size, MADV_DONTNEED));
	check(run(RNVME_CMD_READ, handle, 0, size, 0) == (int)size);
	check(moved[0] == 0 && moved[size - 1] == 0);
	check(!ng_unregister(ng, handle));

	/* A child has a copy, whoever writes first. */
	handle = registered(moved, size, RNVME_BUF_READ | RNVME_BUF_WRITE);
	memset(moved, 7, size);
	child = fork();
	if (!child) {
		check(moved[0] == 7);
		memset(moved, 8, size);
		exit(0);
	}
	check(waitpid(child, &status, 0) == child && !status);
	check(run(RNVME_CMD_READ, handle, 0, size, 0) == (int)size);
	check(are_bytes(moved, size, 1));
	check(!ng_unregister(ng, handle));

	/* Truncated. */
	fd = memfd_create("nvme-user", 0);
	check(fd >= 0 && !ftruncate(fd, size));
	bytes = map_file(fd, size, MAP_SHARED);
	handle = registered(bytes, size, RNVME_BUF_READ | RNVME_BUF_WRITE);
	set_bytes(bytes, size, 2);
	check(!ftruncate(fd, 0));
	check(run(RNVME_CMD_WRITE, handle, 0, size, 0) == (int)size);
	disk_is(size, 0, 2);
	check(!ftruncate(fd, size) && bytes[0] == 0);
	/* The same again: other pages. */
	other = registered(bytes, size, RNVME_BUF_WRITE);
	check(run(RNVME_CMD_READ, other, 0, size, 0) == (int)size && are_bytes(bytes, size, 2));
	check(!ng_unregister(ng, other) && !ng_unregister(ng, handle));
	munmap(bytes, size);
	close(fd);

	/* A process that ends: the file, which another one has, keeps the pages. */
	child = fork();
	if (!child) {
		bytes = pages(size);
		set_bytes(bytes, size, 3);
		check(registered(bytes, size, RNVME_BUF_READ) == 1);
		_exit(0);
	}
	check(waitpid(child, &status, 0) == child && !status);
	check(pins());
	check(run(RNVME_CMD_WRITE, 1, 0, size, 0) == (int)size);
	disk_is(size, 0, 3);
	check(!ng_unregister(ng, 1));
	munmap(moved, size);
}

static void test_many(int files)
{
	unsigned char *bytes = pages(MIB);
	int own = ng, fds[files], ret;
	__u32 handle;

	register_many(bytes, files, fds);
	for (int j = EACH; j < 1024; j++)
		handle = registered(bytes, PAGE, RNVME_BUF_WRITE);
	check(register_memory(bytes, PAGE, RNVME_BUF_WRITE, &handle) == -ENOSPC);
	check(send_io(READ_CMD, bytes, 4096, 0) == 0);
	ret = run(RNVME_CMD_READ, 1, 0, 4096, 4096);
	if (ret != 4096)
		die("a command beside %d registrations: %d", files * EACH, ret);
	for (int i = 0; i < files; i++)
		close(fds[i]);
	ng = own;
	munmap(bytes, MIB);
}

/* The controller must not change a file behind the back of its file system, but may read it. */
static void test_file(void)
{
	const size_t size = 16 * PAGE;
	unsigned char *shared, *private, *bytes = pages(size);
	int fd = open(getenv("FILE") ?: "", O_RDWR | O_CREAT | O_TRUNC, 0600);
	__u32 handle;

	check(fd >= 0);
	set_bytes(bytes, size, 1);
	check(write(fd, bytes, size) == (ssize_t)size && !fsync(fd));
	shared = map_file(fd, size, MAP_SHARED);
	check(register_memory(shared, size, RNVME_BUF_WRITE, &handle) == -EFAULT);
	check(register_memory(shared, size, RNVME_BUF_READ | RNVME_BUF_WRITE, &handle) == -EFAULT);
	/* Also when it was written already. */
	shared[0] = shared[0];
	check(register_memory(shared, size, RNVME_BUF_WRITE, &handle) == -EFAULT);
	handle = registered(shared, size, RNVME_BUF_READ);
	check(run(RNVME_CMD_WRITE, handle, 0, size, 0) == (int)size);
	disk_is(size, 0, 1);
	check(run(RNVME_CMD_READ, handle, 0, size, 0) == -EACCES);
	/* What the file has by now is what the controller reads. */
	set_bytes(bytes, size, 2);
	check(pwrite(fd, bytes, size, 0) == (ssize_t)size);
	check(run(RNVME_CMD_WRITE, handle, 0, size, 0) == (int)size);
	disk_is(size, 0, 2);
	check(!ng_unregister(ng, handle));
	/* For a single command the file system is told. */
	set_bytes(bytes, size, 3);
	check(send_io(WRITE_CMD, bytes, size, 0) == 0);
	check(send_io(READ_CMD, shared, size, 0) == 0 && are_bytes(shared, size, 3));
	check(!fsync(fd) && pread(fd, bytes, size, 0) == (ssize_t)size);
	check(are_bytes(bytes, size, 3));
	munmap(shared, size);

	/* A private mapping has copies, of which the file gets nothing. */
	private = map_file(fd, size, MAP_PRIVATE);
	write_and_read(private, size, 4);
	munmap(private, size);
	check(pread(fd, bytes, size, 0) == (ssize_t)size && are_bytes(bytes, size, 3));
	close(fd);
	munmap(bytes, size);
}

static void test_peer(void)
{
	const size_t size = 4 * PAGE;
	int fd = open(getenv("PEER") ?: "", O_RDWR);
	unsigned char *bytes;
	__u32 handle;

	check(fd >= 0);
	bytes = map_file(fd, size, MAP_SHARED);
	set_bytes(bytes, size, 1);
	check(register_memory(bytes, size, RNVME_BUF_READ, &handle) == -EREMOTEIO);
	/* It is a file as well. */
	check(register_memory(bytes, size, RNVME_BUF_WRITE, &handle) == -EFAULT);
	check(send_io(WRITE_CMD, bytes, size, 0) == -EINVAL);
	check(send_io(READ_CMD, bytes, size, 0) == -EINVAL);
	check(are_bytes(bytes, size, 1));
	munmap(bytes, size);
	close(fd);
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		{ "ioctl", test_ioctl, NULL }, { "uring", test_uring, NULL },
		{ "edges", test_edges, NULL }, { "rights", test_rights, NULL },
		{ "memory", test_memory, NULL }, { "gone", test_gone, NULL },
		{ "many", NULL, test_many }, { "file", test_file, NULL },
		{ "peer", test_peer, NULL },
	};

	check(argc > 4);
	open_files(argv + 1);
	run_tests(tests, ARRAY_SIZE(tests), argv + 4);
	return 0;
}
