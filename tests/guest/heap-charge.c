// SPDX-License-Identifier: GPL-2.0
/*
 * heap-charge: the memory of a buffer is charged to the memory cgroup of who allocates it, until
 * the last reference is gone; over the limit there is no buffer, and nobody is killed for it.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "heap.h"

#define CGROUPS "/sys/fs/cgroup"
#define GROUP CGROUPS "/heap-charge"

static void put(const char *file, const char *value)
{
	int fd = must(open(file, O_WRONLY), file);

	must(write(fd, value, strlen(value)), file);
	close(fd);
}

/* What the kernel holds on behalf of the group, in bytes. */
static long long charged(void)
{
	FILE *stat = fopen(GROUP "/memory.stat", "r");
	long long bytes = -1;
	char line[128];

	if (!stat)
		die("no memory.stat: %s", strerror(errno));
	while (fgets(line, sizeof(line), stat))
		sscanf(line, "kernel %lld", &bytes);
	fclose(stat);
	return bytes;
}

/*
 * What the kernel keeps for each buffer, file and mapping is charged, too: 32 pages at most, of
 * which 16 are the list of a buffer's pages and the page tables. The counter is up to date within
 * two seconds; until then it lacks up to 64 pages of each processor.
 */
static void expect_charge(long long before, long long bytes, const char *when)
{
	long long slack = 32 * PAGE, now = 0;

	for (int tries = 0; tries < 1000; tries++) {
		now = charged() - before;
		if (now >= bytes - slack && now <= bytes + slack)
			return;
		usleep(100000);
	}
	die("%s: %lld KiB are charged, not %lld", when, now / 1024, bytes / 1024);
}

/* Free pages, with those that each processor has at hand. */
static long long free_pages(void)
{
	FILE *zones = fopen("/proc/zoneinfo", "r");
	long long pages = 0, nr;
	char line[128];

	if (!zones)
		die("no zoneinfo: %s", strerror(errno));
	while (fgets(line, sizeof(line), zones))
		if (sscanf(line, " pages free %lld", &nr) == 1 ||
		    sscanf(line, " count: %lld", &nr) == 1)
			pages += nr;
	fclose(zones);
	return pages;
}

/* Killed amid an allocation, of which it takes about a second to make all pages. */
static void killed(int heap)
{
	unsigned int seed = 7;

	for (int i = 0; i < 6; i++) {
		struct timespec wait = { .tv_nsec = rand_r(&seed) % 300000000 };
		pid_t child = must(fork(), "fork");
		int status;

		if (!child) {
			for (;;)
				close(heap_try(heap, 300 * MIB, O_RDWR));
		}
		nanosleep(&wait, NULL);
		kill(child, SIGKILL);
		must(waitpid(child, &status, 0), "waitpid");
	}
}

int main(void)
{
	int heap, buf, other;
	unsigned char *at;
	long long before, free_before;

	if (access(CGROUPS "/cgroup.procs", F_OK))
		must(mount("none", CGROUPS, "cgroup2", 0, NULL), "mounting cgroup2");
	put(CGROUPS "/cgroup.subtree_control", "+memory");
	if (mkdir(GROUP, 0755) && errno != EEXIST)
		die("mkdir: %s", strerror(errno));
	put(GROUP "/cgroup.procs", "0");
	heap = heap_open();
	before = charged();

	buf = heap_alloc(heap, 16 * MIB);
	expect_charge(before, 16 * MIB, "with a buffer of 16 MiB");
	at = buf_map(buf, 16 * MIB);
	memset(at, 1, 16 * MIB);
	expect_charge(before, 16 * MIB, "with all of it mapped");
	heap_pattern(heap, RUST_DMA_BUF_MAX_ORDER, RUST_DMA_BUF_ASCENDING, 0);
	other = heap_alloc(heap, 4 * MIB);
	expect_charge(before, 20 * MIB, "with another of 4 MiB in large chunks");
	close(other);
	close(buf);
	expect_charge(before, 16 * MIB, "with the file closed");
	munmap(at, 16 * MIB);
	expect_charge(before, 0, "with all gone");

	put(GROUP "/memory.max", "32M");
	for (unsigned int order = 0; order <= RUST_DMA_BUF_MAX_ORDER; order += 3) {
		heap_pattern(heap, order, RUST_DMA_BUF_ASCENDING, 0);
		refused(heap_try(heap, 64 * MIB, O_RDWR), ENOMEM, "a buffer over the limit");
		close(heap_alloc(heap, 8 * MIB));
	}
	expect_charge(before, 0, "after those over the limit");

	put(GROUP "/memory.max", "max");
	heap_pattern(heap, 0, RUST_DMA_BUF_SHUFFLED, 1);
	free_before = free_pages();
	killed(heap);
	expect_charge(before, 0, "after those who were killed");
	if (free_pages() < free_before - 1024)
		die("%lld pages are lost with those who were killed", free_before - free_pages());
	return 0;
}
