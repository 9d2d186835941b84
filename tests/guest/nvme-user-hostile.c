// SPDX-License-Identifier: GPL-2.0
/*
 * nvme-user-hostile FILE TEST: commands of a program that wants others to pay for them.  FILE is
 * the character device of a controller or a namespace, open for reading only but by "copy".
 *
 *  endless   as nobody, an admin command that may take 49 days, and is not answered
 *  short     as nobody, commands that may take a millisecond, from 8 threads for 5 seconds
 *  copy      a command that says more than the data that it has: Copy, with 64 ranges in 32 bytes
 */

#define _GNU_SOURCE
#include <linux/nvme_ioctl.h>
#include <pthread.h>
#include <time.h>

#include "nvme-buf.h"

#define THREADS	8
/* Longer than a disk with a latency of 20 ms takes for all threads: some time out, if they can. */
#define SECONDS	5

static int file;
static int failed;

static void *page(void)
{
	void *page = aligned_alloc(PAGE, PAGE);

	check(page);
	return memset(page, 0, PAGE);
}

static int endless(void)
{
	struct nvme_passthru_cmd identify = {
		.opcode = 6, .addr = (__u64)page(), .data_len = PAGE, .cdw10 = 1, .timeout_ms = ~0U,
	};

	become_nobody();
	printf("identify: %d\n", ioctl(file, NVME_IOCTL_ADMIN_CMD, &identify));
	return 0;
}

static void *reads(void *unused)
{
	time_t end = time(NULL) + SECONDS;
	void *data = page();

	(void)unused;
	while (time(NULL) < end) {
		struct nvme_passthru_cmd read = {
			.opcode = 2, .nsid = 1, .addr = (__u64)data, .data_len = PAGE,
			.cdw12 = PAGE / 512 - 1, .timeout_ms = 1,
		};

		if (ioctl(file, NVME_IOCTL_IO_CMD, &read))
			__atomic_add_fetch(&failed, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static int short_timeouts(void)
{
	pthread_t threads[THREADS];

	become_nobody();
	for (int i = 0; i < THREADS; i++)
		check(!pthread_create(&threads[i], NULL, reads, NULL));
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	printf("short: %d commands failed\n", failed);
	return failed != 0;
}

static int too_long(void)
{
	/* At the end of a page, so that PRPs would go on to nothing. */
	unsigned char *ranges = (unsigned char *)page() + PAGE - 32;
	struct nvme_passthru_cmd copy = {
		.opcode = 0x19, .nsid = 1, .addr = (__u64)ranges, .data_len = 32,
		.cdw10 = 4096, .cdw12 = 63,
	};
	int status = ioctl(file, NVME_IOCTL_IO_CMD, &copy);

	printf("copy: NVMe status %#x\n", status);
	/* Data SGL Length Invalid, and whatever else is set. */
	return (status & 0x7ff) != 0x00f;
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: nvme-user-hostile FILE endless|short|copy\n");
		return 2;
	}
	file = must(open(argv[1], strcmp(argv[2], "copy") ? O_RDONLY : O_RDWR), argv[1]);
	if (!strcmp(argv[2], "endless"))
		return endless();
	if (!strcmp(argv[2], "short"))
		return short_timeouts();
	return too_long();
}
