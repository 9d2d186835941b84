// SPDX-License-Identifier: GPL-2.0
/*
 * nvme-user-life NG CTRL DISK TEST...: the end of memory of a program for which there are NVMe
 * commands in flight (nvme-user.h):
 *
 *  limit       registrations beyond the limit of locked memory, beside commands on those within
 *  truncate N  N registrations of a file while it is truncated
 *  events      memory that is unmapped, unregistered, or whose file is closed, with commands in
 *              flight; with SLOW=1 in the environment some must have been
 *  held        the same, and a process that is killed, while the controller holds the commands: no
 *              page is unpinned before the driver has stopped it.  MODEL in the environment is the
 *              configuration space of a tests/devices/nvme.py, which holds the next four
 *  load EVENT  commands of each kind without end, until EVENT: somebody else unbinds or removes the
 *              controller (unbind), or takes it out (unplug), or ends the program (none)
 *  hold N      N times 1,000 registrations, until something ends the program
 *
 * Each command ends once.  After each test but the last two all pins are given back.
 */

#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "nvme-model.h"
#include "nvme-user.h"

/* Of a command, and those in flight at once. */
#define LEN	PAGE
#define DEPTH	32

static void over_the_limit(void)
{
	struct rlimit limit = { 64 << 10, 64 << 10 };
	unsigned char *bytes = pages(MIB);
	__u32 first, second;

	check(!setrlimit(RLIMIT_MEMLOCK, &limit));
	check(register_memory(bytes, MIB, RNVME_BUF_READ, &first) == -EDQUOT);
	check(register_memory(bytes, (64 << 10) + 4, RNVME_BUF_READ, &first) == -EDQUOT);
	first = registered(bytes, 32 << 10, RNVME_BUF_READ);
	second = registered(bytes, 32 << 10, RNVME_BUF_READ);
	check(register_memory(bytes, 4, RNVME_BUF_READ, &first) == -EDQUOT);
	check(!ng_unregister(ng, second));
	second = registered(bytes, 32 << 10, RNVME_BUF_READ);
	check(!ng_unregister(ng, second) && !ng_unregister(ng, first));
}

/* Commands on a registration, until it ends. */
struct traffic {
	pthread_t thread;
	__u32 handle;
	atomic_ulong done;
};

static void *read_on(void *arg)
{
	struct traffic *traffic = arg;
	struct io_uring own;
	unsigned int flying = 0, ended = 0;

	ring_init(&own, 8);
	while (flying || !ended) {
		struct rnvme_cmd cmd = { .len = LEN, .handle = traffic->handle };
		int ret;

		for (; flying < 8 && !ended; flying++)
			ring_prep(&own, ng, RNVME_CMD_READ, &cmd, 0);
		check(io_uring_submit(&own) >= 0);
		ret = ring_reap(&own, NULL);
		flying--;
		if (ret == -ENOENT)
			ended = 1;
		else if (ret != (int)LEN)
			die("a command at the limit: %d", ret);
		traffic->done++;
	}
	io_uring_queue_exit(&own);
	return NULL;
}

static void one_more_page(void)
{
	unsigned char *bytes = pages(PAGE);
	struct iovec iov = { bytes, PAGE };
	struct io_uring other;
	__u32 handle;

	for (__u32 flags = RNVME_BUF_READ; flags <= (RNVME_BUF_READ | RNVME_BUF_WRITE); flags++) {
		int ret = register_memory(bytes, 4, flags, &handle);

		if (ret != -EDQUOT)
			die("a page beyond the limit: %d", ret);
	}
	/* The count is that of io_uring, too. */
	ring_init(&other, 1);
	check(io_uring_register_buffers(&other, &iov, 1) == -ENOMEM);
	io_uring_queue_exit(&other);
	munmap(bytes, PAGE);
}

/* At the limit, with commands in flight all the time: what is refused costs them nothing. */
static void at_the_limit(void)
{
	struct rlimit limit = { 64 << 10, 64 << 10 };
	unsigned char *bytes = pages(64 << 10);
	struct traffic traffic = { 0 };
	__u32 second, third;
	int status;
	pid_t child;

	check(!setrlimit(RLIMIT_MEMLOCK, &limit));
	traffic.handle = registered(bytes, 32 << 10, RNVME_BUF_WRITE);
	second = registered(bytes + (32 << 10), 32 << 10, RNVME_BUF_READ | RNVME_BUF_WRITE);
	check(!pthread_create(&traffic.thread, NULL, read_on, &traffic));
	for (int i = 0; i < 50; i++) {
		unsigned long before = traffic.done;

		one_more_page();
		if (i % 10 == 0) {
			/* What is given back can be had again, and no more. */
			check(!ng_unregister(ng, second));
			check(register_memory(bytes, (32 << 10) + 4, RNVME_BUF_WRITE, &third) ==
			      -EDQUOT);
			second = registered(bytes, 32 << 10, RNVME_BUF_WRITE);
		}
		while (traffic.done == before)
			usleep(1000);
	}
	/* It is the user's, whichever process asks. */
	child = fork();
	if (!child) {
		one_more_page();
		_exit(0);
	}
	check(waitpid(child, &status, 0) == child && !status);
	/* The count comes back with a registration that is in use to the end. */
	check(!ng_unregister(ng, traffic.handle));
	check(!pthread_join(traffic.thread, NULL));
	third = registered(bytes, 32 << 10, RNVME_BUF_READ);
	one_more_page();
	check(!ng_unregister(ng, second) && !ng_unregister(ng, third));
	check(!ng_unregister(ng, registered(bytes, 64 << 10, RNVME_BUF_READ)));
}

static void test_limit(void)
{
	as_nobody(over_the_limit);
	as_nobody(at_the_limit);
	/* Nothing is left over of those. */
	as_nobody(over_the_limit);
}

static atomic_bool stop;

static void *truncate_it(void *file)
{
	while (!stop)
		check(!ftruncate(*(int *)file, 0) && !ftruncate(*(int *)file, 16 * PAGE));
	return NULL;
}

static void test_truncate(int rounds)
{
	int fd = memfd_create("nvme-user", 0), taken = 0, refused = 0;
	unsigned char *bytes;
	pthread_t thread;
	__u32 handle = 0;

	check(fd >= 0 && !ftruncate(fd, 16 * PAGE));
	bytes = map_file(fd, 16 * PAGE, MAP_SHARED);
	stop = false;
	check(!pthread_create(&thread, NULL, truncate_it, &fd));
	for (int i = 0; i < rounds || (i < 100 * rounds && !(taken && refused)); i++) {
		int ret = register_memory(bytes, 16 * PAGE, RNVME_BUF_READ | RNVME_BUF_WRITE,
					  &handle);

		if (ret == -EFAULT) {
			refused++;
			continue;
		}
		if (ret)
			die("registered as it is truncated: %d", ret);
		taken++;
		check(run(RNVME_CMD_READ, handle, 0, 16 * PAGE, 0) == 16 * PAGE);
		check(!ng_unregister(ng, handle));
	}
	stop = true;
	check(!pthread_join(thread, NULL));
	printf("truncate: %d registered, %d refused\n", taken, refused);
	check(taken && refused);
	munmap(bytes, 16 * PAGE);
	close(fd);
}

/* Commands in flight, each with a page of its own of each area, by the way that its number has. */
enum { BY_ADDRESS, BY_BUFFER, BY_HANDLE, TO_DISK, WAYS };

static struct flight {
	unsigned char *address, *buffer, *handle;
	__u32 registered;
	bool flying[DEPTH];
	unsigned int count;
} flight;

static void areas(void)
{
	struct iovec iov;

	flight.address = pages(DEPTH * LEN);
	flight.buffer = pages(DEPTH * LEN);
	flight.handle = pages(DEPTH * LEN);
	iov = (struct iovec) { flight.buffer, DEPTH * LEN };
	check(!io_uring_register_buffers(&ring, &iov, 1));
	flight.registered = registered(flight.handle, DEPTH * LEN,
				       RNVME_BUF_READ | RNVME_BUF_WRITE);
}

static void unmap_areas(void)
{
	munmap(flight.address, DEPTH * LEN);
	munmap(flight.buffer, DEPTH * LEN);
	munmap(flight.handle, DEPTH * LEN);
}

/* Where commands go: to the end of the disk, which is nobody's. */
static __u64 place_of(unsigned int slot)
{
	return info.blocks * info.block_size - (DEPTH - slot) * LEN;
}

static void start(unsigned int slot, unsigned int way)
{
	struct rnvme_cmd own = { .offset = slot * LEN, .len = LEN, .handle = flight.registered };
	struct nvme_passthru_cmd cmd;
	struct io_uring_sqe *sqe;

	own.slba = place_of(slot) / info.block_size;
	cmd = io(READ_CMD, flight.address + slot * LEN, LEN, place_of(slot));
	if (way == BY_BUFFER)
		cmd.addr = (__u64)flight.buffer + slot * LEN;
	cmd.result = 0;
	if (way == BY_HANDLE || way == TO_DISK)
		sqe = ring_prep_cmd(&ring, ng, way == TO_DISK ? RNVME_CMD_WRITE : RNVME_CMD_READ,
				    &own, sizeof(own));
	else
		sqe = ring_prep_cmd(&ring, ng, NVME_URING_CMD_IO, &cmd, sizeof(cmd));
	if (way == BY_BUFFER)
		sqe->uring_cmd_flags = IORING_URING_CMD_FIXED;
	io_uring_sqe_set_data64(sqe, slot);
	check(!flight.flying[slot]);
	flight.flying[slot] = true;
	flight.count++;
}

static void start_all(void)
{
	unsigned int started = 0;

	for (unsigned int slot = 0; slot < DEPTH; slot++)
		if (!flight.flying[slot]) {
			start(slot, slot % WAYS);
			started++;
		}
	check(io_uring_submit(&ring) == (int)started);
}

/* Waits for one, which must be in flight.  Its error, or 0; where it was. */
static int end_of_one(unsigned int *slot)
{
	__u64 data;
	int ret = ring_reap(&ring, &data);

	check(data < DEPTH);
	if (!flight.flying[data])
		die("command %u has ended twice", (unsigned int)data);
	flight.flying[data] = false;
	flight.count--;
	*slot = data;
	if (data % WAYS >= BY_HANDLE && ret == (int)LEN)
		return 0;
	return ret;
}

static void no_more(void)
{
	check(!flight.count);
	usleep(50000);
	check(!io_uring_cq_ready(&ring) && !io_uring_cq_has_overflow(&ring));
}

static void event(unsigned int kind)
{
	int own = ng;
	unsigned int slot;
	bool flying;

	ng = open(ng_path, O_RDWR);
	check(ng >= 0);
	areas();
	start_all();
	switch (kind) {
	case 0:
		unmap_areas();
		break;
	case 1:
		check(!io_uring_unregister_buffers(&ring));
		break;
	case 2:
		close(ng);
		break;
	case 3:
		/* Waits for those that need it. */
		check(!ng_unregister(ng, flight.registered));
		break;
	}
	flying = io_uring_cq_ready(&ring) < DEPTH;
	while (flight.count) {
		int ret = end_of_one(&slot);

		if (ret)
			die("the %uth way to end: command %u: %d", kind, slot, ret);
	}
	no_more();
	if (kind != 0)
		unmap_areas();
	if (kind != 1)
		check(!io_uring_unregister_buffers(&ring));
	if (kind != 2)
		close(ng);
	ng = own;
	check_no_pins("event");
	/* Those of a registration have ended as it has. */
	check(kind == 3 || flying || !getenv("SLOW"));
}

static void test_events(void)
{
	for (unsigned int kind = 0; kind < 4; kind++)
		for (int i = 0; i < 5; i++)
			event(kind);
}

/* A number of the model's: 1 of commands that it has held, 6 of those that are in flight. */
static __u32 ask(int config, int number)
{
	__u32 value;

	check(pread(config, &value, 4, NVME_MODEL_MAILBOX + 4 * number) == 4);
	return value;
}

/* Two of the four that are held, of a process that is killed. */
static void to_be_killed(int ready)
{
	ng = open(ng_path, O_RDWR);
	check(ng >= 0);
	ring_setup(&ring, 4, IORING_SETUP_CQE32);
	areas();
	start(BY_BUFFER, BY_BUFFER);
	start(TO_DISK, TO_DISK);
	check(io_uring_submit(&ring) == 2);
	check(write(ready, "", 1) == 1);
	pause();
}

static void test_held(void)
{
	/* One by address; the ring's buffer of the child, and a registration of each. */
	const long expected = 1 + 3 * DEPTH;
	int config = open(getenv("MODEL") ?: "", O_RDWR), pipes[2], status;
	unsigned int slot;
	char byte;
	pid_t child;

	check(config >= 0 && !pipe(pipes));
	child = fork();
	if (!child)
		to_be_killed(pipes[1]);
	check(read(pipes[0], &byte, 1) == 1);
	areas();
	start(BY_ADDRESS, BY_ADDRESS);
	start(BY_HANDLE, BY_HANDLE);
	check(io_uring_submit(&ring) == 2);
	for (int i = 0; ask(config, 1) < 4; i++) {
		if (i == 5000)
			die("the model holds %u commands", ask(config, 1));
		usleep(1000);
	}

	unmap_areas();
	check(!io_uring_unregister_buffers(&ring));
	close(ng);
	kill(child, SIGKILL);
	check(waitpid(child, &status, 0) == child && WIFSIGNALED(status));
	for (int i = 0; i < 10; i++) {
		long now = pins();

		if (ask(config, 6) < 4)
			die("the model holds its commands no more");
		if (now != expected)
			die("%ld pages are pinned beside commands in flight, not %ld", now,
			    expected);
		usleep(100000);
	}
	while (flight.count) {
		int ret = end_of_one(&slot);

		printf("held: command %u: %d\n", slot, ret);
		/* It is tried again on a registration. */
		check(slot == BY_HANDLE ? !ret : ret == -ETIMEDOUT || ret == -EIO);
	}
	no_more();
	check_no_pins("held");
	nvme_model_returned(config, place_of(0) / NVME_MODEL_REGION);
	close(config);
	ng = must(open(ng_path, O_RDWR), ng_path);
	check(send_io(READ_CMD, pages(PAGE), LEN, 0) == 0);
}

/* Until all fail with ENODEV. */
static void load(const char *event)
{
	bool may_fail = !strcmp(event, "unplug");
	unsigned long good = 0, failed = 0, gone = 0;
	unsigned int slot;
	__u32 handle;

	areas();
	start_all();
	while (flight.count) {
		int ret = end_of_one(&slot);

		if (!ret)
			good++;
		else if (ret == -ENODEV)
			gone++;
		else if (may_fail && (ret == -EIO || ret == -ETIMEDOUT))
			failed++;
		else
			die("%s: command %u: %d", event, slot, ret);
		if (good == 100) {
			printf("going\n");
			fflush(stdout);
		}
		if (!gone)
			start_all();
	}
	no_more();
	/* The queue goes a moment after the registrations; then not one more comes through. */
	for (unsigned int way = 0; way < WAYS; way++) {
		int ret = 0;

		for (int i = 0; i < 10000 && ret != -ENODEV; i++) {
			start(way, way);
			check(io_uring_submit(&ring) == 1);
			ret = end_of_one(&slot);
			if (ret && ret != -ENODEV && !may_fail)
				die("%s: command %u after the end: %d", event, way, ret);
		}
		check(ret == -ENODEV);
	}
	no_more();
	check(register_memory(flight.address, LEN, RNVME_BUF_READ, &handle) == -ENODEV);
	/* Only the ring's buffer is pinned, whatever the program still has. */
	for (int i = 0; i < 500 && pins() != DEPTH; i++)
		usleep(20000);
	if (pins() != DEPTH)
		die("%s: %ld pages are pinned", event, pins());
	check(!ng_unregister(ng, flight.registered));
	check(!io_uring_unregister_buffers(&ring));
	check_no_pins(event);
	printf("%s: %lu commands, %lu that failed, %lu that came too late\n", event, good, failed,
	       gone);
	exit(0);
}

static void hold(int files)
{
	int fds[files];

	register_many(pages(MIB), files, fds);
	printf("going\n");
	fflush(stdout);
	pause();
}

int main(int argc, char **argv)
{
	static const struct test tests[] = {
		{ "limit", test_limit, NULL }, { "truncate", NULL, test_truncate },
		{ "events", test_events, NULL }, { "held", test_held, NULL },
		{ "hold", NULL, hold },
	};

	check(argc > 4);
	open_files(argv + 1);
	if (argc == 6 && !strcmp(argv[4], "load"))
		load(argv[5]);
	run_tests(tests, ARRAY_SIZE(tests), argv + 4);
	return 0;
}
