// SPDX-License-Identifier: GPL-2.0
/*
 * range discard|zero DEVICE OFFSET LENGTH: the block layer's discard or write zeroes on a part of
 * a block device, which busybox has no command for.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	__u64 range[2];
	unsigned long what;
	int fd;

	if (argc != 5) {
		fprintf(stderr, "usage: range discard|zero DEVICE OFFSET LENGTH\n");
		return 2;
	}
	what = strcmp(argv[1], "discard") ? BLKZEROOUT : BLKDISCARD;
	range[0] = strtoull(argv[3], NULL, 0);
	range[1] = strtoull(argv[4], NULL, 0);
	fd = open(argv[2], O_RDWR);
	if (fd < 0 || ioctl(fd, what, range)) {
		fprintf(stderr, "range: %s: %s\n", argv[2], strerror(errno));
		return 1;
	}
	return close(fd) ? 1 : 0;
}
