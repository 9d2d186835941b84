// SPDX-License-Identifier: GPL-2.0
/*
 * nvme-dma-load NG KIND EVENT [SECONDS]: commands without end on one buffer, from a thread for
 * each CPU, until EVENT, with hundreds of them in flight:
 *
 *  unregister, revoke  the buffer: when that returns, no device writes it any more
 *  close               all files, and leave the ring to the kernel
 *  exit                without a word
 *  unbind              somebody else unbinds the controller: all fails with ENODEV, in good order
 *  unplug              somebody takes it out: they may fail with EIO before
 *  none                go on for SECONDS
 *
 * With MAY_FAIL in its environment they may fail with EIO before in any case.
 *
 * "going" on standard output tells that they are under way.  Then it waits for the file
 * WAIT_FOR, if that is in its environment.  A controller of tests/devices/nvme.py, with the
 * configuration space MODEL, is told when the buffer is the CPU's alone.
 */

#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "nvme-buf.h"
#include "nvme-model.h"

#define DEPTH 64
#define LEN (16 * PAGE)

static int ng;
static __u32 handle;
static struct rnvme_info info;
static atomic_ulong done;
static atomic_bool stop;
static atomic_int ended;
/* The error that ends it, if any. */
static int expected;
/* Whether a command may fail before that: the controller is unplugged, or may die. */
static bool may_fail;

static void prep(struct io_uring *ring, unsigned int i)
{
	struct rnvme_cmd cmd = {
		.offset = i % 16 * LEN, .slba = i % 64 * LEN / info.block_size, .len = LEN,
		.handle = handle,
	};

	ring_prep(ring, ng, i % 4 ? RNVME_CMD_READ : RNVME_CMD_WRITE, &cmd, 0);
}

static void *submitter(void *arg)
{
	unsigned int next = (uintptr_t)arg * 7, flying = 0;
	struct io_uring ring;
	int failed = 0;

	ring_init(&ring, DEPTH);
	while (flying || !(failed || stop)) {
		int ret;

		for (; flying < DEPTH && !failed && !stop; flying++)
			prep(&ring, next++);
		check(io_uring_submit(&ring) >= 0);
		ret = ring_reap(&ring, NULL);
		flying--;
		if (ret == (int)LEN)
			done++;
		else if (expected && ret == -expected)
			failed = 1;
		else if (!may_fail || ret != -EIO)
			die("a command ended with %d, not %d", ret, -expected);
	}
	/* Not one more comes through. */
	if (failed) {
		for (int i = 0; i < 4; i++)
			prep(&ring, i);
		check(io_uring_submit(&ring) == 4);
		for (int i = 0; i < 4; i++) {
			int ret = ring_reap(&ring, NULL);

			if (ret != -expected)
				die("after the end: %d, not %d", ret, -expected);
		}
		ended++;
	}
	io_uring_queue_exit(&ring);
	return NULL;
}

/*
 * The buffer is the CPU's alone: what it writes stays, for much longer than a command takes on the
 * slowest disk of the tests (20 ms, with all that are in flight before it).
 */
static void check_quiet(struct buf *buf)
{
	for (int turn = 0; turn < 3; turn++) {
		for (size_t i = 0; i < buf->size; i++)
			buf->bytes[i] = pattern(turn, i);
		usleep(600000);
		for (size_t i = 0; i < buf->size; i++)
			if (buf->bytes[i] != pattern(turn, i))
				die("byte %zu was written by a device", i);
	}
}

static void take_away(struct buf *buf)
{
	int heap = open(RUST_DMA_BUF_DEVICE, O_RDONLY);
	__u32 other;

	check(heap >= 0);
	check(!heap_revoke(heap, buf->fd));
	check(ng_register(ng, buf->fd, RNVME_BUF_READ, &other) == -ENODEV);
	close(heap);
}

/* No command is under way any more for what prep() reads and writes. */
static void tell_model(void)
{
	const char *path = getenv("MODEL");
	int config = path ? open(path, O_WRONLY) : -1;

	for (__u32 region = 0; region < 64 * LEN / NVME_MODEL_REGION; region++)
		nvme_model_returned(config, region);
	close(config);
}

/* A file that is open yet, of a device that is not there any more. */
static void check_gone(struct buf *buf)
{
	struct rnvme_info args = { 0 };
	__u32 other;

	check(ng_register(ng, buf->fd, RNVME_BUF_READ, &other) == -ENODEV);
	check(ioctl(ng, RNVME_IOC_INFO, &args) == -1 && errno == ENODEV);
	/* What is left of it can be given up. */
	check(!ng_unregister(ng, handle));
	check(ng_unregister(ng, handle) == -ENOENT);
}

int main(int argc, char **argv)
{
	unsigned int count = sysconf(_SC_NPROCESSORS_ONLN);
	pthread_t threads[16];
	const char *event;
	struct buf buf;

	if (argc < 4) {
		fprintf(stderr, "usage: nvme-dma-load NG KIND EVENT [SECONDS]\n");
		return 2;
	}
	event = argv[3];
	if (!strcmp(event, "unregister"))
		expected = ENOENT;
	else if (!strcmp(event, "revoke"))
		expected = EOWNERDEAD;
	else if (!strcmp(event, "close"))
		expected = EBADF;
	else if (!strcmp(event, "unbind") || !strcmp(event, "unplug"))
		expected = ENODEV;
	may_fail = !strcmp(event, "unplug") || getenv("MAY_FAIL");

	ng = open(argv[1], O_RDWR);
	if (ng < 0)
		die("%s: %m", argv[1]);
	info = ng_info(ng, 0);
	buf = buf_alloc(argv[2], 1 << 20);
	check(!ng_register(ng, buf.fd, RNVME_BUF_READ | RNVME_BUF_WRITE, &handle));
	if (count > 16)
		count = 16;
	for (unsigned int i = 0; i < count; i++)
		check(!pthread_create(&threads[i], NULL, submitter, (void *)(uintptr_t)i));
	while (done < 100)
		usleep(1000);
	printf("going\n");
	fflush(stdout);
	while (getenv("WAIT_FOR") && access(getenv("WAIT_FOR"), F_OK))
		usleep(1000);

	if (!strcmp(event, "unregister")) {
		check(!ng_unregister(ng, handle));
		tell_model();
		check_quiet(&buf);
	} else if (!strcmp(event, "revoke")) {
		take_away(&buf);
		tell_model();
		check_quiet(&buf);
	} else if (!strcmp(event, "close")) {
		buf_free(&buf);
		close(ng);
		exit(0);
	} else if (!strcmp(event, "exit")) {
		_exit(0);
	} else if (!strcmp(event, "none")) {
		sleep(argc > 4 ? atoi(argv[4]) : 1000);
		stop = true;
	}
	for (unsigned int i = 0; i < count; i++)
		check(!pthread_join(threads[i], NULL));
	if (expected)
		check(ended == (int)count);
	if (!strcmp(event, "revoke"))
		check(!ng_unregister(ng, handle));
	if (expected == ENODEV)
		check_gone(&buf);
	printf("%s: %lu commands\n", event, done);
	return 0;
}
