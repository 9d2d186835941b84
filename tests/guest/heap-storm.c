// SPDX-License-Identifier: GPL-2.0
/*
 * heap-storm SECONDS [SEED]: 64 buffers at a time, in four processes of 16 threads. Each is filled,
 * imported if there are DRM devices, revoked now and then by its thread or another, and let go of
 * in a random order. Meanwhile processes are killed, and others take their places.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "heap-drm.h"

#define PROCESSES 4
#define THREADS 16
#define CALM 2 /* rounds that a process may go on for when all is to end */

/* What the processes have in common. */
static struct shared {
	pthread_barrier_t all;
	__u64 seed;
	bool stop;
	unsigned int rounds, imports, refusals, revocations, busy;
} *shared;

static const char *const drivers[] = { "vgem", "virtio_gpu" };
static int importers[ARRAY_SIZE(drivers)];
static int buffers[THREADS];

static void count(unsigned int *counter)
{
	__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

static void import_by(int drm, int buf)
{
	__u32 handle;

	if (drm < 0)
		return;
	handle = drm_import(drm, buf);
	if (handle) {
		count(&shared->imports);
		must(drm_close(drm, handle), "GEM_CLOSE");
	} else if (errno == ENODEV) {
		/* It is revoked, or the driver imports nothing, which it finds out last. */
		count(&shared->refusals);
	} else {
		die("import: %s", strerror(errno));
	}
}

static void take_away(int heap, int buf, bool own)
{
	if (!heap_revoke(heap, buf))
		count(&shared->revocations);
	else if (errno == EBUSY)
		count(&shared->busy);
	/* Another thread may have closed its buffer, and have opened something else. */
	else if (own || (errno != EBADF && errno != EINVAL))
		die("REVOKE: %s", strerror(errno));
}

static void a_round(int heap, int me, __u64 *state, bool first)
{
	size_t size = (1 + rnd(state) % 64) * PAGE;
	__u64 seed = rnd(state);
	unsigned char *one, *two;
	int buf, same, other, left = 0xf;

	heap_pattern(heap, rnd(state) % 5, RUST_DMA_BUF_SHUFFLED, seed);
	buf = heap_alloc(heap, size);
	one = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, buf, 0);
	if (one == MAP_FAILED) {
		/* Revoked by who had the same number in mind for another buffer. */
		refused(-1, ENODEV, "mmap");
		close(buf);
		return;
	}
	if (!is_zero(one, size))
		die("a new buffer is not zero");
	fill(one, size, seed);
	same = must(dup(buf), "dup");
	two = mmap(NULL, size, PROT_READ, MAP_SHARED, same, 0);
	__atomic_store_n(&buffers[me], buf, __ATOMIC_RELAXED);
	if (first)
		pthread_barrier_wait(&shared->all);

	for (int i = rnd(state) % 4; i > 0; i--)
		import_by(importers[rnd(state) % ARRAY_SIZE(drivers)], buf);
	if (heap_is_ours() && rnd(state) % 4 == 0)
		take_away(heap, buf, true);
	other = __atomic_load_n(&buffers[rnd(state) % THREADS], __ATOMIC_RELAXED);
	if (heap_is_ours() && rnd(state) % 4 == 0)
		take_away(heap, other, false);

	if (!is_filled(one, size, seed) || (two != MAP_FAILED && !is_filled(two, size, seed)))
		die("a buffer has other bytes than those written to it");
	while (left) {
		int which = rnd(state) % 4;

		if (!(left & 1 << which))
			continue;
		left &= ~(1 << which);
		if (which == 0)
			close(buf);
		else if (which == 1)
			close(same);
		else if (which == 2)
			munmap(one, size);
		else if (two != MAP_FAILED)
			munmap(two, size);
	}
	count(&shared->rounds);
}

static void *thread(void *data)
{
	int me = (intptr_t)data % THREADS, heap = heap_open();
	bool first = (intptr_t)data < PROCESSES * THREADS;
	__u64 state = shared->seed + (intptr_t)data * 7919;

	for (int calm = 0; calm < CALM; calm += __atomic_load_n(&shared->stop, __ATOMIC_RELAXED)) {
		a_round(heap, me, &state, first);
		first = false;
	}
	close(heap);
	return NULL;
}

static pid_t process(int number)
{
	pthread_t threads[THREADS];
	pid_t pid = must(fork(), "fork");

	if (pid)
		return pid;
	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++)
		importers[i] = drm_open(drivers[i]);
	memset(buffers, -1, sizeof(buffers));
	for (intptr_t i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, thread, (void *)(number * THREADS + i)))
			die("no thread");
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	exit(0);
}

/* Waits for a process, which must have succeeded, or have been killed by us. */
static void gone(pid_t pid, int signal)
{
	int status;

	must(waitpid(pid, &status, 0), "waitpid");
	if (status != signal)
		exit(1);
}

int main(int argc, char **argv)
{
	pid_t pids[PROCESSES];
	pthread_barrierattr_t attr;
	int number = 0, kills = 0;
	time_t end;

	if (argc < 2)
		die("usage: heap-storm SECONDS [SEED]");
	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		die("no memory");
	shared->seed = argc > 2 ? strtoull(argv[2], NULL, 0) : (__u64)time(NULL);
	printf("seed %llu\n", shared->seed);
	fflush(stdout);
	pthread_barrierattr_init(&attr);
	pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_barrier_init(&shared->all, &attr, PROCESSES * THREADS + 1);

	for (int i = 0; i < PROCESSES; i++)
		pids[i] = process(number++);
	pthread_barrier_wait(&shared->all);
	end = time(NULL) + atoi(argv[1]);
	while (time(NULL) < end) {
		struct timespec wait = { .tv_nsec = rnd(&shared->seed) % 500000000 };
		int victim = rnd(&shared->seed) % PROCESSES;

		nanosleep(&wait, NULL);
		kill(pids[victim], SIGKILL);
		gone(pids[victim], SIGKILL);
		kills++;
		pids[victim] = process(number++);
	}
	shared->stop = true;
	for (int i = 0; i < PROCESSES; i++)
		gone(pids[i], 0);
	printf("%u buffers, %u imports, %u refused, %u revocations, %u busy, %d processes killed\n",
	       shared->rounds, shared->imports, shared->refusals, shared->revocations,
	       shared->busy, kills);
	return shared->rounds < PROCESSES * THREADS;
}
