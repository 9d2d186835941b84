// SPDX-License-Identifier: GPL-2.0
/*
 * heap-storm SECONDS IMPORTER...: 64 buffers at a time, in four processes of 16 threads. Each is
 * filled, imported, revoked now and then by its thread or another, and let go of in a random
 * order. Meanwhile processes are killed, and others take their places. Importers are
 *
 *  vgem            attaches, and maps nothing
 *  virtio_gpu      without blob resources: maps, and refuses then, so that none is kept
 *  /dev/rnvme-ng*  rust_nvme: the buffer is mapped for the controller for the whole round, unless
 *                  it is revoked meanwhile
 *
 * All of that must have happened in the end, with each of them. $SEED repeats a run.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "heap-drm.h"
#include "rust_nvme/rust_nvme.h"

#define PROCESSES 4
#define THREADS 16
#define CALM 2 /* rounds that a process may go on for when all is to end */

/* What the processes have in common. */
static struct shared {
	pthread_barrier_t all;
	__u64 seed;
	bool stop;
	unsigned int rounds, revocations, busy, registrations, ended;
	/* By the DRM devices. */
	unsigned int imports[2], refusals[2];
} *shared;

static const char *const drivers[] = { "vgem", "virtio_gpu" };
static bool wanted[ARRAY_SIZE(drivers)];
static int importers[ARRAY_SIZE(drivers)];
static const char *controller;
static int nvme = -1;
static int buffers[THREADS];

static void count(unsigned int *counter)
{
	__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

static void import_by(int i, int buf)
{
	__u32 handle;

	if (!wanted[i])
		return;
	handle = drm_import(importers[i], buf);
	if (handle) {
		count(&shared->imports[i]);
		must(drm_close(importers[i], handle), "GEM_CLOSE");
	} else if (errno == ENODEV) {
		/* It is revoked, or the driver imports nothing, which it finds out last. */
		count(&shared->refusals[i]);
	} else {
		die("import: %s", strerror(errno));
	}
}

/* A handle of the buffer, mapped for the controller; 0, which is none, if it is revoked. */
static __u32 nvme_map(int buf)
{
	struct rnvme_register args = { .fd = buf, .flags = RNVME_BUF_READ | RNVME_BUF_WRITE };

	if (nvme < 0)
		return 0;
	if (!ioctl(nvme, RNVME_IOC_REGISTER, &args)) {
		count(&shared->registrations);
		return args.handle;
	}
	refused(-1, ENODEV, "registration");
	return 0;
}

static bool nvme_ended(__u32 handle)
{
	struct rnvme_info info = { .handle = handle };

	if (!ioctl(nvme, RNVME_IOC_INFO, &info))
		return false;
	refused(-1, EOWNERDEAD, "INFO of a registration");
	return true;
}

static void nvme_unmap(__u32 handle)
{
	struct rnvme_unregister args = { .handle = handle };

	if (nvme_ended(handle))
		count(&shared->ended);
	must(ioctl(nvme, RNVME_IOC_UNREGISTER, &args), "UNREGISTER");
}

static bool take_away(int heap, int buf, bool own)
{
	if (!heap_revoke(heap, buf)) {
		count(&shared->revocations);
		return true;
	}
	/* virtio_gpu cannot be told, for as long as it has it mapped. */
	if (errno == EBUSY)
		count(&shared->busy);
	/* Another thread may have closed its buffer, and have opened something else. */
	else if (own || (errno != EBADF && errno != EINVAL))
		die("REVOKE: %s", strerror(errno));
	return false;
}

static void a_round(int heap, int me, __u64 *state, bool first)
{
	size_t size = (1 + rnd(state) % 64) * PAGE;
	__u64 seed = rnd(state);
	unsigned char *one, *two;
	int buf, same, other, left = 0xf;
	bool mine;
	__u32 handle;

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

	handle = nvme_map(buf);
	for (int i = rnd(state) % 4; i > 0; i--)
		import_by(rnd(state) % ARRAY_SIZE(drivers), buf);
	mine = heap_is_ours() && rnd(state) % 4 == 0 && take_away(heap, buf, true);
	other = __atomic_load_n(&buffers[rnd(state) % THREADS], __ATOMIC_RELAXED);
	if (heap_is_ours() && rnd(state) % 4 == 0)
		take_away(heap, other, false);
	if (handle && mine && !nvme_ended(handle))
		die("the controller has a buffer that is revoked");

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
	if (handle)
		nvme_unmap(handle);
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
		importers[i] = wanted[i] ? must(drm_open(drivers[i]), drivers[i]) : -1;
	if (controller)
		nvme = must(open(controller, O_RDWR | O_CLOEXEC), controller);
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

static void want(const char *importer)
{
	if (*importer == '/') {
		controller = importer;
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++) {
		if (!strcmp(importer, drivers[i])) {
			wanted[i] = true;
			return;
		}
	}
	die("no such importer: %s", importer);
}

/* That the storm was one. */
static void happened(unsigned int times, const char *what)
{
	printf("%7u %s\n", times, what);
	if (!times)
		die("no %s", what);
}

/* All of it was seen to happen: on a busy host that may take longer than it was asked to. */
static bool was_one(int kills)
{
	return kills && shared->rounds >= PROCESSES * THREADS &&
	       (!heap_is_ours() || shared->revocations) && (!wanted[0] || shared->imports[0]) &&
	       (!wanted[1] || shared->refusals[1]) &&
	       (!controller || (shared->registrations && shared->ended));
}

int main(int argc, char **argv)
{
	const char *seed = getenv("SEED");
	pid_t pids[PROCESSES];
	pthread_barrierattr_t attr;
	int number = 0, kills = 0;
	time_t end;

	if (argc < 2)
		die("usage: heap-storm SECONDS IMPORTER...");
	for (int i = 2; i < argc; i++)
		want(argv[i]);
	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		die("no memory");
	shared->seed = seed ? strtoull(seed, NULL, 0) : (__u64)time(NULL);
	printf("seed %llu\n", shared->seed);
	fflush(stdout);
	pthread_barrierattr_init(&attr);
	pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_barrier_init(&shared->all, &attr, PROCESSES * THREADS + 1);

	for (int i = 0; i < PROCESSES; i++)
		pids[i] = process(number++);
	pthread_barrier_wait(&shared->all);
	end = time(NULL) + atoi(argv[1]);
	while (time(NULL) < end || !was_one(kills)) {
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
	printf("%7u buffers, at least %d\n", shared->rounds, PROCESSES * THREADS);
	if (shared->rounds < PROCESSES * THREADS)
		die("too few");
	happened(kills, "processes killed");
	if (heap_is_ours())
		happened(shared->revocations, "revocations");
	if (wanted[0])
		happened(shared->imports[0], "imports by vgem");
	if (wanted[1])
		happened(shared->refusals[1], "refusals by virtio_gpu");
	if (controller) {
		happened(shared->registrations, "registrations with the controller");
		happened(shared->ended, "of which revocation ended");
	}
	printf("%7u revocations of busy buffers\n", shared->busy);
	return 0;
}
