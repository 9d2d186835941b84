// SPDX-License-Identifier: GPL-2.0
/*
 * nvme-user-refused NG CTRL DISK TEST...: what the character devices of a namespace and of its
 * controller do not take from a program, and the error of each (nvme-user.h).
 *
 *  fields         a field that is wrong, in each way to send a command
 *  vectors        vectors that are wrong, in each way that takes vectors
 *  registrations  memory that must not be registered
 *  bounced        memory cannot be registered at all: with BOUNCED=1 only
 *
 * After each test all pins are given back.
 */

#define _GNU_SOURCE
#include <glob.h>

#include "nvme-user.h"

/* A way to send a command; by io_uring, if it has an UOP. */
struct way {
	const char *name;
	unsigned long op;
	__u32 uop;
	bool admin, vec, fixed;
};

static const struct way ways[] = {
	{ "IO_CMD", NVME_IOCTL_IO_CMD, 0, false, false, false },
	{ "IO64_CMD", NVME_IOCTL_IO64_CMD, 0, false, false, false },
	{ "IO64_CMD_VEC", NVME_IOCTL_IO64_CMD_VEC, 0, false, true, false },
	{ "ADMIN_CMD", NVME_IOCTL_ADMIN_CMD, 0, true, false, false },
	{ "ADMIN64_CMD", NVME_IOCTL_ADMIN64_CMD, 0, true, false, false },
	{ "URING_CMD_IO", 0, NVME_URING_CMD_IO, false, false, false },
	{ "URING_CMD_IO with a buffer", 0, NVME_URING_CMD_IO, false, false, true },
	{ "URING_CMD_IO_VEC", 0, NVME_URING_CMD_IO_VEC, false, true, false },
	{ "URING_CMD_IO_VEC with a buffer", 0, NVME_URING_CMD_IO_VEC, false, true, true },
	{ "URING_CMD_ADMIN", 0, NVME_URING_CMD_ADMIN, true, false, false },
	{ "URING_CMD_ADMIN with a buffer", 0, NVME_URING_CMD_ADMIN, true, false, true },
	{ "URING_CMD_ADMIN_VEC", 0, NVME_URING_CMD_ADMIN_VEC, true, true, false },
	{ "URING_CMD_ADMIN_VEC with a buffer", 0, NVME_URING_CMD_ADMIN_VEC, true, true, true },
};

/* What a good command of each kind transfers. */
#define LEN	4096

/* Of a ring with a buffer of SIZE bytes; as many bytes after it are the program's, too. */
#define SIZE	(16 * PAGE)
static unsigned char *buffer;

static void set_up(void)
{
	struct iovec iov;

	buffer = pages(2 * SIZE);
	iov = (struct iovec) { buffer, SIZE };
	check(!io_uring_register_buffers(&ring, &iov, 1));
	set_bytes(buffer, LEN, 3);
	check(send_io(WRITE_CMD, buffer, LEN, 0) == 0);
}

static void tear_down(void)
{
	check(!io_uring_unregister_buffers(&ring));
	munmap(buffer, 2 * SIZE);
}

/* A good command, whose data is COUNT bytes, or vectors, at ADDR. */
static struct nvme_passthru_cmd command(const struct way *way, const void *addr, __u32 count)
{
	struct nvme_passthru_cmd cmd = io(READ_CMD, NULL, LEN, 0);

	if (way->admin)
		cmd = identify(1, 0, NULL, LEN);
	cmd.addr = (__u64)addr;
	cmd.data_len = count;
	return cmd;
}

/* The NVMe status, or an error. */
static int send_by(const struct way *way, struct nvme_passthru_cmd cmd)
{
	int fd = way->admin ? ctrl : ng, ret;
	struct nvme_passthru_cmd64 cmd64 = { 0 };

	if (way->uop)
		return uring_io(fd, way->uop, cmd, way->fixed ? 0 : -1, NULL);
	/* The shorter structure is how the longer one begins. */
	memcpy(&cmd64, &cmd, sizeof(cmd));
	ret = ioctl(fd, way->op, &cmd64);
	return ret < 0 ? -errno : ret;
}

static void expect(const struct way *way, const char *what, int ret, int error)
{
	if (ret != -error)
		die("%s: %s: %d, not %d", way->name, what, ret, -error);
}

static void fields_by(const struct way *way)
{
	struct iovec vec = { buffer, LEN };
	const struct nvme_passthru_cmd good = command(way, way->vec ? &vec : (void *)buffer,
						      way->vec ? 1 : LEN);
	struct nvme_passthru_cmd cmd = good;

	memset(buffer, 0x55, LEN);
	expect(way, "a good command", send_by(way, cmd), 0);
	check(way->admin ? !memcmp(buffer + 24, "QEMU", 4) : are_bytes(buffer, LEN, 3));
	cmd.flags = 1;
	expect(way, "flags", send_by(way, cmd), EINVAL);
	cmd = good;
	cmd.metadata = (__u64)buffer;
	cmd.metadata_len = 8;
	expect(way, "metadata", send_by(way, cmd), EINVAL);
	cmd = good;
	cmd.data_len = 0;
	expect(way, "no data", send_by(way, cmd), EINVAL);
	cmd = good;
	cmd.addr = 0;
	/* Not in the ring's buffer. */
	expect(way, "data at address 0", send_by(way, cmd), way->fixed ? EFAULT : EINVAL);
	cmd.addr = 1ULL << 63 | (__u64)buffer;
	expect(way, "an address with bit 63", send_by(way, cmd), EFAULT);
	cmd.addr = -PAGE;
	expect(way, "an address at the end of all", send_by(way, cmd), EFAULT);
	if (!way->admin) {
		cmd = good;
		cmd.nsid = 2;
		expect(way, "another namespace", send_by(way, cmd), EINVAL);
		cmd.nsid = ~0U;
		expect(way, "all namespaces", send_by(way, cmd), EINVAL);
	}
	if (!way->vec) {
		cmd = good;
		cmd.data_len = LEN - info.block_size / 2;
		expect(way, "too short", send_by(way, cmd), EINVAL);
		cmd.data_len = LEN + info.block_size;
		expect(way, "too long", send_by(way, cmd), EINVAL);
	}
}

/* The structure itself is not there, or cannot be written. */
static void structures(void)
{
	unsigned char *place = pages(2 * PAGE);
	struct nvme_passthru_cmd feature = { .opcode = 10, .cdw10 = 7 };
	struct nvme_passthru_cmd64 cmd64 = { 0 };

	munmap(place + PAGE, PAGE);
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		const struct way *way = &ways[i];
		int fd = way->admin ? ctrl : ng;

		if (way->uop)
			continue;
		if (ioctl(fd, way->op, 8UL) != -1 || errno != EFAULT)
			die("%s: a structure at address 8: %m", way->name);
		if (ioctl(fd, way->op, place + PAGE - 8) != -1 || errno != EFAULT)
			die("%s: a structure that is not all there: %m", way->name);
	}
	/* All 64 bits of the result are there, and at the end of the structure. */
	memcpy(&cmd64, &feature, sizeof(feature));
	cmd64.result = ~0ULL;
	check(!ioctl(ctrl, NVME_IOCTL_ADMIN64_CMD, &cmd64));
	check(cmd64.result && cmd64.result <= ~0U);
	check(!ioctl(ng, NVME_IOCTL_ADMIN64_CMD, &cmd64));
	memcpy(place, &cmd64, sizeof(cmd64));
	check(!mprotect(place, PAGE, PROT_READ));
	check(ioctl(ctrl, NVME_IOCTL_ADMIN64_CMD, place) == -1 && errno == EFAULT);
	munmap(place, PAGE);
}

static void fields(void)
{
	set_up();
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++)
		fields_by(&ways[i]);
	structures();
	tear_down();
}

/*
 * LEN bytes in COUNT vectors: two each but for the last, every second two bytes of the buffer.
 * None is in two pages: the block layer copies no more pieces than there can be vectors.
 */
static const struct iovec *many(size_t count)
{
	static struct iovec vecs[UIO_MAXIOV + 1];

	for (size_t i = 0; i < count; i++)
		vecs[i] = (struct iovec) { buffer + 4 * i, 2 };
	vecs[count - 1] = (struct iovec) { buffer + 2 * PAGE, LEN - 2 * (count - 1) };
	return vecs;
}

static void vectors_by(const struct way *way)
{
	unsigned char *end = buffer + SIZE, *hole = pages(PAGE), *read_only = pages(PAGE);
	const __u64 half = LEN / 2, top = 1ULL << 63;
	struct {
		const char *what;
		struct iovec vecs[3];
		__u32 count;
		/* Of memory that is the ring's, if that is another one. */
		int error, fixed;
	} bad[] = {
		{ "two vectors", { { buffer, half }, { end - half, half } }, 2, 0, 0 },
		{ "no vector", { { buffer, LEN } }, 0, EINVAL, EINVAL },
		{ "less than the command says",
		  { { buffer, half }, { buffer + PAGE, half - 512 } }, 2, EINVAL, EINVAL },
		{ "more than the command says",
		  { { buffer, half }, { buffer + PAGE, half + 512 } }, 2, EINVAL, EINVAL },
		{ "all of it, and again", { { buffer, LEN }, { buffer, LEN } }, 2, EINVAL, EINVAL },
		{ "an empty vector",
		  { { buffer, half }, { buffer, 0 }, { end - half, half } }, 3, 0, EFAULT },
		{ "only an empty vector", { { buffer, 0 } }, 1, EINVAL, EFAULT },
		{ "one that wraps", { { (void *)-half, LEN } }, 1, EFAULT, EFAULT },
		{ "one at the end of all", { { (void *)-PAGE, LEN } }, 1, EFAULT, EFAULT },
		{ "an address with bit 63", { { (void *)(top | (__u64)buffer), LEN } }, 1,
		  EFAULT, EFAULT },
		{ "bit 63 alone", { { (void *)top, LEN } }, 1, EFAULT, EFAULT },
		{ "address 0", { { NULL, LEN } }, 1, EFAULT, EFAULT },
		{ "the second one at address 0", { { buffer, half }, { NULL, half } }, 2,
		  EFAULT, EFAULT },
		{ "a length with bit 63", { { buffer, top | LEN } }, 1, EINVAL, EINVAL },
		{ "all lengths that there are", { { buffer, ~0ULL } }, 1, EINVAL, EINVAL },
		/* As a sum of 64 bits it is LEN. */
		{ "lengths that wrap", { { buffer, top - PAGE }, { buffer, top - PAGE },
		  { buffer, 2 * PAGE + LEN } }, 3, EFAULT, EOVERFLOW },
		{ "what is not the program's", { { buffer, half }, { hole, half } }, 2,
		  EFAULT, EFAULT },
		{ "what it may only read", { { buffer, half }, { read_only, half } }, 2,
		  EFAULT, EFAULT },
		{ "the end of the ring's buffer", { { end - LEN, LEN } }, 1, 0, 0 },
		{ "one that leaves the ring's buffer", { { end - half, LEN } }, 1, 0, EFAULT },
		{ "one outside of the ring's buffer", { { end, LEN } }, 1, 0, EFAULT },
		{ "the second one outside of it", { { buffer, half }, { end, half } }, 2,
		  0, EFAULT },
	};

	munmap(hole, PAGE);
	check(!mprotect(read_only, PAGE, PROT_READ));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		expect(way, bad[i].what, send_by(way, command(way, bad[i].vecs, bad[i].count)),
		       way->fixed ? bad[i].fixed : bad[i].error);
	/* The vectors themselves. */
	expect(way, "as many vectors as there can be",
	       send_by(way, command(way, many(UIO_MAXIOV), UIO_MAXIOV)), 0);
	expect(way, "one vector more",
	       send_by(way, command(way, many(UIO_MAXIOV + 1), UIO_MAXIOV + 1)), EINVAL);
	expect(way, "vectors at address 8", send_by(way, command(way, (void *)8, 1)), EFAULT);
	expect(way, "vectors that are not there", send_by(way, command(way, hole, 1)), EFAULT);
	expect(way, "vectors at the end of all", send_by(way, command(way, (void *)-8L, 1)),
	       EFAULT);
	munmap(read_only, PAGE);
}

static void vectors(void)
{
	set_up();
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++)
		if (ways[i].vec)
			vectors_by(&ways[i]);
	tear_down();
}

static void expect_registration(const char *what, void *addr, __u64 len, __u32 flags, int error)
{
	__u32 handle = 0;
	int ret = register_memory(addr, len, flags, &handle);

	if (ret != -error)
		die("registered: %s: %d, not %d", what, ret, -error);
	if (!ret)
		check(!ng_unregister(ng, handle));
}

/* Registers of a device. */
static void registers_of_a_device(void)
{
	unsigned char *registers;
	glob_t bars;
	int fd;

	check(!glob("/sys/bus/pci/devices/*/resource0", 0, NULL, &bars));
	fd = open(bars.gl_pathv[0], O_RDWR | O_SYNC);
	check(fd >= 0);
	registers = map_file(fd, PAGE, MAP_SHARED);
	expect_registration("registers", registers, PAGE, RNVME_BUF_READ, EFAULT);
	check(send_io(WRITE_CMD, registers, 4096, 0) == -EFAULT);
	munmap(registers, PAGE);
	close(fd);
	globfree(&bars);
}

static void registrations(void)
{
	const __u32 both = RNVME_BUF_READ | RNVME_BUF_WRITE;
	/* The third page goes: after two there would be something else. */
	unsigned char *bytes = pages(3 * PAGE), *read_only = pages(PAGE);
	const struct {
		const char *what;
		void *addr;
		__u64 len;
		__u32 flags;
		int error;
	} bad[] = {
		{ "what is there", bytes, 2 * PAGE, both, 0 },
		{ "no bytes", bytes, 0, both, EINVAL },
		{ "no flag", bytes, PAGE, 0, EINVAL },
		{ "a flag that there is not", bytes, PAGE, 4, EINVAL },
		{ "such a flag beside the others", bytes, PAGE, 7, EINVAL },
		{ "address 0", NULL, PAGE, both, EFAULT },
		{ "the second page of all", (void *)PAGE, PAGE, both, EFAULT },
		{ "the last page of all", (void *)-PAGE, PAGE, both, EFAULT },
		{ "the last page but its end", (void *)-PAGE, PAGE - 4, both, EFAULT },
		{ "beyond the last page", (void *)-PAGE, PAGE + 4, both, EFAULT },
		{ "bit 63", (void *)(1UL << 63), PAGE, both, EFAULT },
		{ "a length of 2^63", bytes, 1ULL << 63, both, ENOMEM },
		{ "a length of 2^46", bytes, 1ULL << 46, both, ENOMEM },
		{ "the longest length", bytes, ~3ULL, both, EFAULT },
		{ "all from there on", bytes, -(__u64)bytes, both, EFAULT },
		{ "a page that is not there", bytes, 3 * PAGE, both, EFAULT },
		{ "address 1 of a page", bytes + 1, PAGE, both, EINVAL },
		{ "address 2 of a page", bytes + 2, PAGE, both, EINVAL },
		{ "a length that is no multiple of 4", bytes, PAGE - 1, both, EINVAL },
		{ "address 1, nothing there", (void *)1, PAGE, both, EINVAL },
		{ "read-only, to write", read_only, PAGE, RNVME_BUF_WRITE, EFAULT },
		{ "read-only, for both", read_only, PAGE, both, EFAULT },
		{ "read-only, to read", read_only, PAGE, RNVME_BUF_READ, 0 },
	};

	munmap(bytes + 2 * PAGE, PAGE);
	check(!mprotect(read_only, PAGE, PROT_READ));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		expect_registration(bad[i].what, bad[i].addr, bad[i].len, bad[i].flags,
				    bad[i].error);
	registers_of_a_device();
	munmap(read_only, PAGE);
	munmap(bytes, 2 * PAGE);
}

/* No memory of any kind, for which the errno is another than for what is wrong with it. */
static void bounced(void)
{
	const size_t size = 16 * PAGE;
	unsigned char *bytes = pages(size), *file;
	int fd = memfd_create("nvme-user", 0);

	check(fd >= 0 && !ftruncate(fd, size));
	file = map_file(fd, size, MAP_SHARED);
	for (__u32 flags = RNVME_BUF_READ; flags <= (RNVME_BUF_READ | RNVME_BUF_WRITE); flags++) {
		expect_registration("any memory", bytes, size, flags, EOPNOTSUPP);
		expect_registration("a part of it", bytes + 512, 512, flags, EOPNOTSUPP);
		expect_registration("a file", file, size, flags, EOPNOTSUPP);
		expect_registration("address 1 of it", bytes + 1, PAGE, flags, EINVAL);
		expect_registration("address 0", NULL, PAGE, flags, EFAULT);
	}
	munmap(file, size);
	munmap(bytes, size);
	close(fd);
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		{ "fields", fields, NULL }, { "vectors", vectors, NULL },
		{ "registrations", registrations, NULL }, { "bounced", bounced, NULL },
	};

	check(argc > 4);
	open_files(argv + 1);
	run_tests(tests, ARRAY_SIZE(tests), argv + 4);
	return 0;
}
