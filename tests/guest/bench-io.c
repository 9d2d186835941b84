// SPDX-License-Identifier: GPL-2.0
/*
 * bench-io DEVICE COUNT PAIRS SHAPE DEPTH SIZE[,SIZE]... MODE[,MODE]...: direct requests of SIZE
 * bytes at random places, DEPTH of them at a time, for the plugin that counts what the kernel does.
 *
 * After some requests that fill caches there are PAIRS of windows, of COUNT requests and of twice
 * as many: the difference is of requests only. Of more than 64 KiB there are fewer, with as many
 * bytes, but at least 256. For each window there is a line on standard output:
 *
 *   window MODE SIZE SHAPE DEPTH REQUESTS
 *
 * MODE is "read" or "write". SHAPE is where the memory is:
 *
 *  contiguous   a buffer is one run of pages
 *  scattered    no page of a buffer follows the one before it
 *  gaps         as scattered, with pieces of half a page that begin and end amid of theirs
 *  registered   in a dma-buf of scattered pages that is mapped before; DEVICE is the character
 *               device of a rust_nvme namespace
 *  memory       as scattered, and mapped before by its address, for such a device
 *  fixed        as scattered, a buffer that is registered with the ring, for pass-through commands
 *               of NVMe's own interface; DEVICE is the character device of a namespace
 *
 * bench-io -q DEVICE SHAPE DEPTH SIZE: reads without end, and without windows.
 *
 * bench-io -h DEVICE SHAPE COUNT SIZE: the bytes that are held for a request while COUNT of them
 * are in flight, in slabs and in the DMA pools of devices.  For a disk that takes seconds for each.
 *
 * bench-io -f DEVICE SHAPE COUNT SIZE: the KiB of memory that are free meanwhile.
 */

#define _GNU_SOURCE
#include <glob.h>
#include <linux/fs.h>
#include <linux/nvme_ioctl.h>

#include "mark.h"
#include "nvme-buf.h"

#define POOL 49152UL /* pages */
#define MAX_DEPTH 32
#define MAX_PIECES 1024
/* Pages of a buffer for commands: requests of 512 KiB. */
#define ALL (MAX_DEPTH * 128UL)
#define PIECE (PAGE / 2)
#define WARM 256
/* COUNT is for requests of this size; there are this many at the least. */
#define COUNT_SIZE 65536UL
#define MIN_COUNT 256UL

struct page {
	unsigned long frame;
	char *at;
};

static struct page pages[POOL];
static struct iovec iov[MAX_DEPTH][MAX_PIECES];
static struct io_uring ring;
static int fd;
static unsigned long long device;
static unsigned long long seed = 1;

/* Whether requests are commands on the one buffer "all": rust_nvme's own, or NVMe's. */
static bool registered, fixed;
static char *all;
static __u32 block_size, handle, nsid;

static int by_frame(const void *a, const void *b)
{
	const struct page *x = a, *y = b;

	return x->frame < y->frame ? -1 : x->frame > y->frame;
}

/* Pages in the order in which they are in memory. */
static void pages_get(void)
{
	char *area = mmap(NULL, POOL * PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	int pagemap = open("/proc/self/pagemap", O_RDONLY);

	if (area == MAP_FAILED || pagemap < 0)
		die("no memory");
	for (unsigned long i = 0; i < POOL; i++) {
		unsigned long entry;

		if (pread(pagemap, &entry, 8, (unsigned long)(area + i * PAGE) / PAGE * 8) != 8)
			die("pagemap is not to be read");
		pages[i].at = area + i * PAGE;
		pages[i].frame = entry & ((1UL << 55) - 1);
		if (!pages[i].frame)
			die("pagemap tells of no frame");
	}
	close(pagemap);
	qsort(pages, POOL, sizeof(*pages), by_frame);
}

/* A buffer of these pages, one after the other. */
static char *buffer(struct page **list, unsigned long count)
{
	char *area = mmap(NULL, count * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (area == MAP_FAILED)
		die("no room");
	for (unsigned long i = 0; i < count; i++) {
		if (mremap(list[i]->at, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
			   area + i * PAGE) == MAP_FAILED)
			die("a page cannot be moved");
		list[i]->at = area + i * PAGE;
	}
	return area;
}

/* A run of so many pages from *next on. */
static void contiguous(struct page **list, unsigned long count, unsigned long *next)
{
	unsigned long have = 0;

	while (have < count) {
		if (*next == POOL)
			die("no run of %lu pages", count);
		if (have && pages[*next].frame != pages[*next - 1].frame + 1)
			have = 0;
		list[have++] = &pages[(*next)++];
	}
}

/* So many pages no two of which are neighbours, from the top down. */
static void scattered(struct page **list, unsigned long count, unsigned long *next)
{
	if (*next + 2 * count > POOL)
		die("not enough pages");
	for (unsigned long i = 0; i < count; i++)
		list[count - 1 - i] = &pages[*next + 2 * i];
	*next += 2 * count;
}

/* The buffers for requests of that size; returns the pieces of each. */
static unsigned int shape(const char *name, unsigned long size, unsigned int depth)
{
	static struct page *list[MAX_PIECES];
	unsigned long count = (size + PAGE - 1) / PAGE, next = 0;
	unsigned int pieces = 1;

	if (!strcmp(name, "gaps")) {
		pieces = size / PIECE;
		count = pieces;
	}
	if (count > MAX_PIECES)
		die("a request of %lu bytes is too large", size);
	if (registered || fixed)
		return 1;
	for (unsigned int i = 0; i < depth; i++) {
		if (!strcmp(name, "contiguous"))
			contiguous(list, count, &next);
		else if (!strcmp(name, "scattered") || pieces > 1)
			scattered(list, count, &next);
		else
			die("SHAPE is none: %s", name);
		if (pieces == 1) {
			iov[i][0] = (struct iovec){ buffer(list, count), size };
			continue;
		}
		for (unsigned int j = 0; j < pieces; j++)
			iov[i][j] = (struct iovec){ list[j]->at + PIECE / 2, PIECE };
	}
	return pieces;
}

static unsigned long long place(unsigned long size)
{
	seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (seed >> 33) % (device / size) * size;
}

static void prep_fixed(unsigned int i, bool write, unsigned long size, unsigned long long at)
{
	struct nvme_uring_cmd cmd = {
		.opcode = write ? 1 : 2, .nsid = nsid, .addr = (__u64)all + i * size,
		.data_len = size, .cdw10 = at / block_size, .cdw11 = at / block_size >> 32,
		.cdw12 = size / block_size - 1,
	};
	struct io_uring_sqe *sqe = ring_prep_cmd(&ring, fd, NVME_URING_CMD_IO, &cmd, sizeof(cmd));

	sqe->uring_cmd_flags = IORING_URING_CMD_FIXED;
	sqe->buf_index = 0;
}

static void prep(unsigned int i, bool write, unsigned long size, unsigned int pieces)
{
	unsigned long long at = place(size);
	struct io_uring_sqe *sqe;

	if (fixed) {
		prep_fixed(i, write, size, at);
		return;
	}
	if (registered) {
		struct rnvme_cmd cmd = {
			.offset = i * size, .slba = at / block_size, .len = size,
			.handle = handle,
		};

		ring_prep(&ring, fd, write ? RNVME_CMD_WRITE : RNVME_CMD_READ, &cmd, 0);
		return;
	}
	sqe = io_uring_get_sqe(&ring);
	if (pieces > 1 && write)
		io_uring_prep_writev(sqe, fd, iov[i], pieces, at);
	else if (pieces > 1)
		io_uring_prep_readv(sqe, fd, iov[i], pieces, at);
	else if (write)
		io_uring_prep_write(sqe, fd, iov[i]->iov_base, size, at);
	else
		io_uring_prep_read(sqe, fd, iov[i]->iov_base, size, at);
}

static void reap(unsigned int depth, unsigned long size)
{
	struct io_uring_cqe *cqe;
	unsigned int head, seen = 0;
	/* Those of NVMe's own interface end with the status. */
	int expected = fixed ? 0 : size;

	io_uring_for_each_cqe(&ring, head, cqe) {
		seen++;
		if (cqe->res != expected)
			die("a request ended with %d", cqe->res);
	}
	if (seen != depth)
		die("%u of %u requests ended", seen, depth);
	io_uring_cq_advance(&ring, seen);
}

static void run(unsigned long count, bool write, unsigned long size, unsigned int pieces,
		unsigned int depth)
{
	for (unsigned long done = 0; done < count; done += depth) {
		for (unsigned int i = 0; i < depth; i++)
			prep(i, write, size, pieces);
		if (io_uring_submit_and_wait(&ring, depth) != (int)depth)
			die("not all was submitted");
		reap(depth, size);
	}
}

/* Returns how many requests of "size" move as many bytes as "count" of COUNT_SIZE. */
static unsigned long scaled(unsigned long count, unsigned long size)
{
	if (size <= COUNT_SIZE || count <= MIN_COUNT)
		return count;
	count /= size / COUNT_SIZE;
	return count < MIN_COUNT ? MIN_COUNT : count / MAX_DEPTH * MAX_DEPTH;
}

static void cell(const char *mode, unsigned long size, const char *name, unsigned int depth,
		 unsigned long count, int pairs)
{
	unsigned int pieces = shape(name, size, depth);
	bool write = !strcmp(mode, "write");

	count = scaled(count, size);
	run(WARM, write, size, pieces, depth);
	for (int i = 0; i < 2 * pairs; i++) {
		phyr_mark(PHYR_MARK_BEGIN);
		run((i % 2 + 1) * count, write, size, pieces, depth);
		phyr_mark(PHYR_MARK_END);
		printf("window %s %lu %s %u %lu\n", mode, size, name, depth, (i % 2 + 1) * count);
	}
	fflush(stdout);
}

/* What the kernel holds in slabs, and in use of DMA pools, in bytes. */
static unsigned long held(void)
{
	unsigned long bytes = 0, kib, active, size;
	FILE *file = fopen("/proc/meminfo", "r");
	char line[256];
	glob_t pools = { 0 };

	if (!file)
		die("no meminfo");
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "Slab: %lu", &kib) == 1)
			bytes = kib * 1024;
	fclose(file);
	/* Of devices that have some. */
	glob("/sys/bus/pci/devices/*/pools", 0, NULL, &pools);
	for (size_t i = 0; i < pools.gl_pathc; i++) {
		file = fopen(pools.gl_pathv[i], "r");
		if (!file)
			die("no pools");
		/* Behind a name with spaces: how many are active, and are there, their size. */
		while (fgets(line, sizeof(line), file)) {
			char *at = line + strcspn(line, "0123456789");

			if (sscanf(at, "%lu %*u %lu", &active, &size) == 2)
				bytes += active * size;
		}
		fclose(file);
	}
	globfree(&pools);
	return bytes;
}

/* Returns what "measure" says while COUNT requests are in flight. */
static unsigned long with(unsigned int count, unsigned long size, unsigned int pieces,
			  unsigned long (*measure)(void))
{
	struct io_uring_cqe *cqe;
	unsigned long during;

	for (unsigned int i = 0; i < count; i++)
		prep(i % MAX_DEPTH, false, size, pieces);
	if (io_uring_submit(&ring) != (int)count)
		die("not all was submitted");
	during = measure();
	/* What has ended is told of by then. */
	check(!io_uring_get_events(&ring));
	if (!io_uring_peek_cqe(&ring, &cqe))
		die("the disk is too fast: not all are in flight");
	if (io_uring_wait_cqe_nr(&ring, &cqe, count))
		die("not all end");
	reap(count, size);
	return during;
}

/* Two rounds that fill caches, and one that counts. */
static void hold(const char *name, unsigned int count, unsigned long size)
{
	unsigned int pieces = shape(name, size, MAX_DEPTH);

	if (!count)
		die("no requests");
	for (int round = 0; round < 3; round++) {
		unsigned long before = held();
		unsigned long during = with(count, size, pieces, held);

		if (round == 2)
			printf("disk held-%s-%lu %ld\n", name, size,
			       (long)(during - before) / count);
	}
}

/* Free memory, as soon as all requests that had to wait for some have come to the disk. */
static unsigned long mem_free(void)
{
	unsigned long pages = 0, count;
	char line[256];
	FILE *file;

	sleep(1);
	file = fopen("/proc/zoneinfo", "r");
	if (!file)
		die("no zoneinfo");
	/* With those that the processors have aside. */
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, " nr_free_pages %lu", &count) == 1 ||
		    sscanf(line, " count: %lu", &count) == 1)
			pages += count;
	fclose(file);
	return pages * PAGE / 1024;
}

/* The size of the namespace, and of its blocks, as any driver tells it. */
static void identify(void)
{
	static unsigned char id[4096];
	struct nvme_passthru_cmd cmd = { .opcode = 6, .addr = (__u64)id, .data_len = sizeof(id) };

	nsid = must(ioctl(fd, NVME_IOCTL_ID), "namespace");
	cmd.nsid = nsid;
	check(!ioctl(fd, NVME_IOCTL_ADMIN_CMD, &cmd));
	/* The format in use is one of 16, each of 4 bytes, of which the third is a logarithm. */
	block_size = 1U << id[128 + 4 * (id[26] & 15) + 2];
	memcpy(&device, id, sizeof(device));
	device *= block_size;
}

/* Scattered pages, one buffer for requests of all sizes. */
static void all_get(void)
{
	static struct page *list[ALL];
	unsigned long next = 0;

	pages_get();
	scattered(list, ALL, &next);
	all = buffer(list, ALL);
}

/* A ring and a buffer for commands to a character device. */
static void ready_commands(const char *name, unsigned int flags)
{
	identify();
	ring_setup(&ring, MAX_DEPTH, flags | (fixed ? IORING_SETUP_CQE32 : 0));
	if (!strcmp(name, "registered")) {
		struct buf buf = buf_alloc("rust0", ALL * PAGE);

		check(!ng_register(fd, buf.fd, RNVME_BUF_READ | RNVME_BUF_WRITE, &handle));
		return;
	}
	all_get();
	if (fixed) {
		struct iovec one = { all, ALL * PAGE };

		check(!io_uring_register_buffers(&ring, &one, 1));
	} else {
		struct rnvme_register_memory args = {
			.addr = (__u64)all, .len = ALL * PAGE,
			.flags = RNVME_BUF_READ | RNVME_BUF_WRITE,
		};

		check(!ioctl(fd, RNVME_IOC_REGISTER_MEMORY, &args));
		handle = args.handle;
	}
}

static void ready(const char *path, const char *name, unsigned int entries)
{
	unsigned int flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;

	fixed = !strcmp(name, "fixed");
	registered = !strcmp(name, "registered") || !strcmp(name, "memory");
	fd = must(open(path, O_RDWR | (fixed || registered ? 0 : O_DIRECT)), path);
	if (fixed || registered) {
		ready_commands(name, flags);
		return;
	}
	must(ioctl(fd, BLKGETSIZE64, &device), path);
	check(!io_uring_queue_init(entries, &ring, flags));
	pages_get();
}

int main(int argc, char **argv)
{
	unsigned long count;
	unsigned int depth;
	int pairs;

	if (argc == 6 && !strcmp(argv[1], "-q")) {
		unsigned long size = strtoul(argv[5], NULL, 0);
		unsigned int pieces;

		ready(argv[2], argv[3], MAX_DEPTH);
		depth = strtoul(argv[4], NULL, 0);
		pieces = shape(argv[3], size, depth);
		for (;;)
			run(depth, false, size, pieces, depth);
	}
	if (argc == 6 && !strcmp(argv[1], "-h")) {
		ready(argv[2], argv[3], strtoul(argv[4], NULL, 0));
		hold(argv[3], strtoul(argv[4], NULL, 0), strtoul(argv[5], NULL, 0));
		return 0;
	}
	if (argc == 6 && !strcmp(argv[1], "-f")) {
		unsigned long size = strtoul(argv[5], NULL, 0);

		count = strtoul(argv[4], NULL, 0);
		ready(argv[2], argv[3], count);
		printf("%lu\n", with(count, size, shape(argv[3], size, MAX_DEPTH), mem_free));
		return 0;
	}
	if (argc != 8)
		die("usage: bench-io DEVICE COUNT PAIRS SHAPE DEPTH SIZE[,SIZE]... MODE[,MODE]...");
	count = strtoul(argv[2], NULL, 0);
	pairs = atoi(argv[3]);
	depth = strtoul(argv[5], NULL, 0);
	if (pairs < 1 || !depth || depth > MAX_DEPTH || WARM % depth)
		die("no pairs, or no such depth: %d, %u", pairs, depth);
	if (!count || count % depth)
		die("no %u at a time of %lu requests", depth, count);
	ready(argv[1], argv[4], MAX_DEPTH);
	phyr_mark(PHYR_MARK_FIRST);
	for (char *size = strtok(argv[6], ","); size; size = strtok(NULL, ",")) {
		char modes[64], *rest, *mode;

		snprintf(modes, sizeof(modes), "%s", argv[7]);
		for (mode = strtok_r(modes, ",", &rest); mode; mode = strtok_r(NULL, ",", &rest))
			cell(mode, strtoul(size, NULL, 0), argv[4], depth, count, pairs);
	}
	return 0;
}
