// SPDX-License-Identifier: GPL-2.0
/*
 * heap-fuzz SECONDS [SEED]: calls with random arguments to a heap and its buffers, by several
 * threads that share their file descriptors. What a call returns does not matter, only that some of
 * each kind succeed: the kernel must live, and nothing may be left of them when the program has
 * ended.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <sys/wait.h>
#include <time.h>

#include "heap-drm.h"

#define THREADS 4
#define ENOUGH 500 /* calls of a kind, for one at least to succeed */
#define SHARED 24 /* file descriptors that the threads share */
#define LEAST 1000 /* calls for a run to count */

static int files[SHARED];
static int drm[2] = { -1, -1 };
static int foreign; /* another heap */
static bool stop;
static unsigned char *area; /* pages: writable, absent, constant */

struct fuzzer {
	__u64 state;
	int heap;
	unsigned long good[16], bad[16];
};

static __u64 below(struct fuzzer *f, __u64 end)
{
	return rnd(&f->state) % end;
}

static bool once_in(struct fuzzer *f, unsigned int n)
{
	return !below(f, n);
}

/* A number at which things change, or near it. */
static __u64 number(struct fuzzer *f)
{
	static const __u64 edges[] = {
		0, 1, PAGE, 2 * PAGE, MIB, 1ULL << 31, 1ULL << 32, 1ULL << 63, -PAGE, -1,
	};

	switch (below(f, 4)) {
	case 0:
		return edges[below(f, ARRAY_SIZE(edges))] + below(f, 3) - 1;
	case 1:
		return 1ULL << below(f, 64);
	case 2:
		return below(f, 64);
	default:
		return rnd(&f->state);
	}
}

static int a_file(struct fuzzer *f)
{
	if (once_in(f, 20))
		return number(f) | 1 << 20;
	return __atomic_load_n(&files[below(f, SHARED)], __ATOMIC_RELAXED);
}

/* Others may be using the file that is closed for the new one. */
static void share(struct fuzzer *f, int fd)
{
	int old = __atomic_exchange_n(&files[below(f, SHARED)], fd, __ATOMIC_RELAXED);

	if (old >= 0)
		close(old);
}

/* Somewhere to pass @len bytes, mostly in memory. */
static void *argument(struct fuzzer *f, const void *data, size_t len)
{
	unsigned char *mine = area + 3 * PAGE * (f->state % THREADS);
	size_t left = below(f, len + 1);

	switch (below(f, 12)) {
	case 0:
		return NULL;
	case 1:
		return (void *)number(f);
	case 2: /* ends amid it */
		return memcpy(mine + PAGE - left, data, left);
	case 3: /* constant */
		return mine + 2 * PAGE + below(f, PAGE - len);
	default:
		return memcpy(mine + below(f, PAGE - len), data, len);
	}
}

/*
 * Only the first byte of a page may be written by others: who has just taken a file descriptor
 * from the list may find that it stands for another buffer now.
 */
static bool is_new(const unsigned char *at, size_t len)
{
	for (size_t i = 0; i < len; i += PAGE)
		if (!is_zero(at + i + 1, PAGE - 1))
			return false;
	return true;
}

static bool alloc(struct fuzzer *f)
{
	struct dma_heap_allocation_data data = {
		.len = once_in(f, 4) ? number(f) : below(f, once_in(f, 8) ? 16 * MIB : MIB / 4),
		.fd = once_in(f, 20) ? number(f) : 0,
		.fd_flags = once_in(f, 8) ? number(f) : O_RDWR | O_CLOEXEC,
		.heap_flags = once_in(f, 20) ? number(f) : 0,
	};
	unsigned char *at;

	/* What could be had, but not for all of them. */
	if (data.len > 16 * MIB && data.len < 2048 * MIB)
		data.len %= 16 * MIB;
	if (ioctl(f->heap, DMA_HEAP_IOCTL_ALLOC, &data))
		return false;
	at = mmap(NULL, data.len, PROT_READ | PROT_WRITE, MAP_SHARED, data.fd, 0);
	if (at != MAP_FAILED) {
		if (!is_new(at, data.len))
			die("a new buffer of %llu bytes is not zero", data.len);
		memset(at, 0xa5, data.len);
		munmap(at, data.len);
	}
	share(f, data.fd);
	return true;
}

/* An allocation by a structure of any size, anywhere. */
static bool alloc_odd(struct fuzzer *f)
{
	struct dma_heap_allocation_data data = { .len = PAGE, .fd_flags = O_RDWR };
	unsigned int size = once_in(f, 4) ? below(f, 16384) : below(f, 64);
	unsigned int dir = once_in(f, 4) ? below(f, 4) : _IOC_READ | _IOC_WRITE;
	struct dma_heap_allocation_data *at = argument(f, &data, sizeof(data));

	bool answered = dir & _IOC_READ && size >= 12;

	/* What is not told of cannot be closed: not too often. */
	if (!answered && !once_in(f, 50))
		return false;
	if (ioctl(f->heap, _IOC(dir, 'H', 0, size), at))
		return false;
	if (answered)
		share(f, at->fd);
	return true;
}

static bool pattern(struct fuzzer *f)
{
	struct rust_dma_buf_set_pattern set = {
		.order = once_in(f, 8) ? number(f) : below(f, 10),
		.pattern = once_in(f, 8) ? number(f) : below(f, 4),
		.arg = once_in(f, 2) ? number(f) : 0,
	};

	return !ioctl(f->heap, RUST_DMA_BUF_IOCTL_SET_PATTERN, argument(f, &set, sizeof(set)));
}

static bool revocation(struct fuzzer *f)
{
	int fd = a_file(f);

	/* With a revoked buffer not much can be done. */
	if (!once_in(f, 4))
		return false;
	return !ioctl(f->heap, RUST_DMA_BUF_IOCTL_REVOKE, argument(f, &fd, sizeof(fd)));
}

static bool info(struct fuzzer *f)
{
	struct rust_dma_buf_info info = { .fd = a_file(f) };

	return !ioctl(f->heap, RUST_DMA_BUF_IOCTL_INFO, argument(f, &info, sizeof(info)));
}

/* A command with any number and size, of the heap or a buffer, or almost one that there is. */
static bool command(struct fuzzer *f)
{
	static const unsigned int known[] = {
		RUST_DMA_BUF_IOCTL_SET_PATTERN, RUST_DMA_BUF_IOCTL_REVOKE,
		RUST_DMA_BUF_IOCTL_INFO, DMA_BUF_IOCTL_SYNC, DMA_BUF_SET_NAME_B,
	};
	static const char types[] = { 'H', 'b', 'd', 'T', 'X' };
	char data[64];
	int fd = once_in(f, 2) ? f->heap : a_file(f);
	unsigned int nr = once_in(f, 2) ? below(f, 256) : once_in(f, 2) ? below(f, 4) :
			  0x80 + below(f, 4);

	bool zero = once_in(f, 2);

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = zero || once_in(f, 2) ? 0 : below(f, 256);
	if (once_in(f, 2))
		return !ioctl(fd, known[below(f, ARRAY_SIZE(known))] ^
			      (once_in(f, 2) ? 1U << below(f, 32) : 0),
			      argument(f, data, sizeof(data)));
	/* An allocation is not made here: nobody would close it. */
	if (!nr)
		return false;
	return !ioctl(fd, _IOC(below(f, 4), types[below(f, 5)], nr, below(f, 64)),
		      argument(f, data, sizeof(data)));
}

static bool sync_cpu(struct fuzzer *f)
{
	struct dma_buf_sync sync = { .flags = once_in(f, 8) ? number(f) : below(f, 8) };

	return !ioctl(a_file(f), DMA_BUF_IOCTL_SYNC, argument(f, &sync, sizeof(sync)));
}

static bool fences(struct fuzzer *f)
{
	struct dma_buf_export_sync_file fence = { .flags = below(f, 4) };
	int fd = a_file(f);
	bool good;

	if (ioctl(fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &fence))
		return false;
	good = !ioctl(a_file(f), DMA_BUF_IOCTL_IMPORT_SYNC_FILE, &fence);
	close(fence.fd);
	return good;
}

static bool partly_map(struct fuzzer *f)
{
	size_t len = once_in(f, 8) ? number(f) : (1 + below(f, 80)) * PAGE;
	off_t offset = once_in(f, 8) ? number(f) & -PAGE : below(f, 8) * PAGE;
	int prot = once_in(f, 8) ? below(f, 8) : PROT_READ | PROT_WRITE;
	int flags = once_in(f, 8) ? MAP_PRIVATE : MAP_SHARED;
	unsigned char *at = mmap(NULL, len, prot, flags, a_file(f), offset);
	size_t half;

	if (at == MAP_FAILED)
		return false;
	if (prot & PROT_WRITE)
		for (size_t i = 0; i < len; i += (1 + below(f, 16)) * PAGE)
			at[i]++;
	mprotect(at, PAGE, below(f, 8));
	madvise(at, len, below(f, 26));
	/* In two pieces, if it has as many. */
	half = (1 + below(f, 4)) * PAGE;
	if (len > half)
		munmap(at + half, len - half);
	munmap(at, len > half ? half : len);
	return true;
}

static bool files_too(struct fuzzer *f)
{
	int fd = a_file(f), other;
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN | POLLOUT };
	char byte = 0;

	switch (below(f, 6)) {
	case 0:
		return lseek(fd, number(f), below(f, 5)) >= 0;
	case 1:
		return poll(&poll_fd, 1, 0) >= 0;
	case 2:
		return read(fd, &byte, 1) >= 0 || write(fd, &byte, 1) >= 0;
	case 3:
		return !ioctl(fd, DMA_BUF_SET_NAME_B, argument(f, "fuzz", 5));
	case 4:
		other = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		break;
	default:
		other = open(heap_path(), O_RDWR | O_CLOEXEC);
		break;
	}
	if (other < 0)
		return false;
	share(f, other);
	return true;
}

static bool import(struct fuzzer *f)
{
	int card = drm[below(f, 2)];
	__u32 handle = card < 0 ? 0 : drm_import(card, a_file(f));

	/* Threads that import the same have the same handle, so that this fails for one. */
	return handle && !drm_close(card, handle);
}

static bool alloc_foreign(struct fuzzer *f)
{
	int fd = heap_try(foreign, below(f, 16) * PAGE, O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return false;
	share(f, fd);
	return true;
}

/* A process that ends with all of it in use. */
static bool child(struct fuzzer *f)
{
	pid_t pid;

	if (!once_in(f, 20))
		return false;
	pid = fork();
	if (!pid) {
		mmap(NULL, PAGE, PROT_READ, MAP_SHARED, a_file(f), 0);
		heap_try(f->heap, MIB, O_RDWR);
		_exit(0);
	}
	return pid > 0 && waitpid(pid, NULL, 0) == pid;
}

static const struct {
	const char *name;
	bool (*call)(struct fuzzer *f);
} calls[] = {
	{ "alloc", alloc }, { "odd alloc", alloc_odd }, { "pattern", pattern },
	{ "revoke", revocation }, { "info", info }, { "command", command },
	{ "sync", sync_cpu }, { "fences", fences }, { "mmap", partly_map },
	{ "file", files_too }, { "import", import }, { "foreign", alloc_foreign },
	{ "child", child },
};

/* What cannot, lacks somebody else. */
static bool can_succeed(bool (*call)(struct fuzzer *f))
{
	if (call == import)
		return drm[0] >= 0;
	if (call == alloc_foreign)
		return foreign >= 0;
	return heap_is_ours() || (call != pattern && call != revocation && call != info);
}

static void *thread(void *data)
{
	struct fuzzer *f = data;

	f->heap = heap_open();
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		size_t i = below(f, ARRAY_SIZE(calls));

		if (calls[i].call(f))
			f->good[i]++;
		else
			f->bad[i]++;
	}
	close(f->heap);
	return NULL;
}

static unsigned long called(const struct fuzzer *fuzzers)
{
	unsigned long sum = 0;

	for (int t = 0; t < THREADS; t++)
		for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
			sum += fuzzers[t].good[i] + fuzzers[t].bad[i];
	return sum;
}

int main(int argc, char **argv)
{
	static struct fuzzer fuzzers[THREADS];
	pthread_t threads[THREADS];
	unsigned long sum = 0;
	__u64 seed;

	if (argc < 2)
		die("usage: heap-fuzz SECONDS [SEED]");
	seed = argc > 2 ? strtoull(argv[2], NULL, 0) : (__u64)time(NULL);
	printf("seed %llu\n", seed);
	fflush(stdout);
	memset(files, -1, sizeof(files));
	drm[0] = drm_open("vgem");
	drm[1] = drm_open("virtio_gpu");
	/*
	 * The system heap syncs its mappings under a lock of its own, not the one under which they
	 * come and go: an importer that maps its buffers meanwhile, as virtio-gpu, gets a warning
	 * from the debugging of the DMA API.
	 */
	foreign = drm[1] < 0 ? open("/dev/dma_heap/system", O_RDWR | O_CLOEXEC) : -1;
	area = mmap(NULL, 3 * PAGE * THREADS, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (area == MAP_FAILED)
		die("no memory");
	for (int i = 0; i < THREADS; i++) {
		mprotect(area + (3 * i + 1) * PAGE, PAGE, PROT_NONE);
		mprotect(area + (3 * i + 2) * PAGE, PAGE, PROT_READ);
	}

	for (int i = 0; i < THREADS; i++) {
		fuzzers[i].state = seed + i * 7919;
		if (pthread_create(&threads[i], NULL, thread, &fuzzers[i]))
			die("no thread");
	}
	/* On a busy host that many calls may take longer than it was asked to. */
	for (int seconds = atoi(argv[1]); seconds > 0 || called(fuzzers) < LEAST; seconds--)
		sleep(1);
	stop = true;
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);

	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		unsigned long good = 0, bad = 0;

		for (int t = 0; t < THREADS; t++) {
			good += fuzzers[t].good[i];
			bad += fuzzers[t].bad[i];
		}
		printf("%-10s %7lu succeed %7lu fail\n", calls[i].name, good, bad);
		if (!good && good + bad > ENOUGH && can_succeed(calls[i].call))
			die("none of %lu calls succeed: %s", bad, calls[i].name);
		sum += good + bad;
	}
	printf("%lu calls\n", sum);
	return sum < LEAST;
}
