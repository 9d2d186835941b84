// SPDX-License-Identifier: GPL-2.0
/*
 * discard-ranges DEVICE BLOCK COUNT: discards every second of twice COUNT blocks of BLOCK
 * bytes, all submitted at once, so that the block layer can make few commands of them. What was
 * discarded must read as zeroes, and nothing else may have changed.
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <liburing.h>
#include <linux/ioctl.h>

#ifndef BLOCK_URING_CMD_DISCARD
#define BLOCK_URING_CMD_DISCARD _IO(0x12, 0)
#endif

int main(int argc, char **argv)
{
	struct io_uring ring;
	size_t block, size;
	unsigned char *buf;
	int fd, ret, count;

	if (argc != 4)
		errx(2, "usage: discard-ranges DEVICE BLOCK COUNT");
	block = strtoul(argv[2], NULL, 0);
	count = atoi(argv[3]);
	size = 2 * block * count;
	buf = aligned_alloc(4096, size);
	fd = open(argv[1], O_RDWR | O_DIRECT);
	if (!buf || fd < 0)
		err(1, "%s", argv[1]);
	memset(buf, 0xab, size);
	if (pwrite(fd, buf, size, 0) != (ssize_t)size)
		err(1, "write");

	ret = io_uring_queue_init(count, &ring, 0);
	if (ret)
		errx(1, "io_uring: %s", strerror(-ret));
	for (int i = 0; i < count; i++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

		io_uring_prep_rw(IORING_OP_URING_CMD, sqe, fd, NULL, 0, 0);
		sqe->cmd_op = BLOCK_URING_CMD_DISCARD;
		sqe->addr = 2 * block * i;
		sqe->addr3 = block;
	}
	if (io_uring_submit(&ring) != count)
		errx(1, "not all were submitted");
	for (int i = 0; i < count; i++) {
		struct io_uring_cqe *cqe;

		ret = io_uring_wait_cqe(&ring, &cqe);
		if (ret || cqe->res)
			errx(1, "discard: %s", strerror(ret ? -ret : -cqe->res));
		io_uring_cqe_seen(&ring, cqe);
	}

	if (pread(fd, buf, size, 0) != (ssize_t)size)
		err(1, "read");
	for (size_t i = 0; i < size; i++)
		if (buf[i] != (i / block % 2 ? 0xab : 0))
			errx(1, "byte %zu is %#x", i, buf[i]);
	return 0;
}
