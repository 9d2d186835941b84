// SPDX-License-Identifier: GPL-2.0
/*
 * heap-bad: every command with every wrong argument has the errno that is documented, and
 * nothing is left behind.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <sys/resource.h>

#include "heap.h"

#define ALLOC_OF(size, dir) _IOC(dir, DMA_HEAP_IOC_MAGIC, 0, size)
#define BOTH (_IOC_READ | _IOC_WRITE)

static int heap, null;
/* Pages that nobody can read, and that nobody can write. */
static void *nothing, *constant;

static int open_files(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int nr = 0;

	while (readdir(dir))
		nr++;
	closedir(dir);
	return nr;
}

static int buffers(void)
{
	FILE *info = fopen("/sys/kernel/debug/dma_buf/bufinfo", "r");
	char line[512];
	int nr = -1;

	if (!info)
		die("no bufinfo: %s", strerror(errno));
	while (fgets(line, sizeof(line), info))
		sscanf(line, "Total %d objects", &nr);
	fclose(info);
	return nr;
}

static struct dma_heap_allocation_data good(void)
{
	return (struct dma_heap_allocation_data){ .len = PAGE, .fd_flags = O_RDWR | O_CLOEXEC };
}

static void call_refused(unsigned int command, const void *argument, int error,
			 const char *what)
{
	refused(ioctl(heap, command, argument), error, what);
}

/* How many pages the kernel has ever given out. */
static unsigned long long pages_allocated(void)
{
	FILE *stat = fopen("/proc/vmstat", "r");
	unsigned long long all = 0, nr;
	char line[128];

	if (!stat)
		die("no vmstat: %s", strerror(errno));
	while (fgets(line, sizeof(line), stat))
		if (sscanf(line, "pgalloc_%*s %llu", &nr) == 1)
			all += nr;
	fclose(stat);
	return all;
}

/* Refused, and at once: not after as many pages as there are. */
static void alloc_refused(struct dma_heap_allocation_data data, int error, const char *what)
{
	unsigned long long before = pages_allocated();

	refused(ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data), error, what);
	if (pages_allocated() - before > 16 * MIB / PAGE)
		die("%s: takes pages until there are none", what);
}

static void lengths(void)
{
	static const __u64 invalid[] = { 0, -1, -PAGE + 1 };
	struct dma_heap_allocation_data data = good();
	__u64 memory = sysconf(_SC_PHYS_PAGES) * PAGE;

	for (int i = 0; i < 3; i++) {
		data.len = invalid[i];
		alloc_refused(data, EINVAL, "an allocation of a bad length");
	}
	if (!heap_is_ours())
		return;
	const __u64 huge[] = {
		-PAGE, 1ULL << 63, 1ULL << 40, 2 * memory, memory, memory / 2 + MIB,
	};

	for (int i = 0; i < 6; i++) {
		data.len = huge[i];
		alloc_refused(data, ENOMEM, "a huge allocation");
	}
}

static void alloc_fields(void)
{
	struct dma_heap_allocation_data data = good();

	data.fd = 1;
	alloc_refused(data, EINVAL, "an allocation with a fd");
	for (int bit = 0; bit < 64; bit++) {
		data = good();
		data.heap_flags = 1ULL << bit;
		if (!heap_is_ours() || data.heap_flags != RUST_DMA_BUF_HEAP_REVOCABLE)
			alloc_refused(data, EINVAL, "an allocation with heap flags");
		data = good();
		data.fd_flags |= 1ULL << (bit % 32);
		if (data.fd_flags & ~(__u32)(O_CLOEXEC | O_ACCMODE))
			alloc_refused(data, EINVAL, "an allocation with bad fd flags");
	}
	if (heap_is_ours()) {
		data = good();
		data.fd_flags = O_ACCMODE;
		alloc_refused(data, EINVAL, "an allocation with an access mode that is none");
	}
}

static void alloc_pointers(void)
{
	struct dma_heap_allocation_data *edge = nothing - 16;

	call_refused(DMA_HEAP_IOCTL_ALLOC, NULL, EFAULT, "an allocation at NULL");
	call_refused(DMA_HEAP_IOCTL_ALLOC, nothing, EFAULT, "an allocation at no memory");
	call_refused(DMA_HEAP_IOCTL_ALLOC, (void *)-4096L, EFAULT, "an allocation in the kernel");
	edge->len = PAGE;
	call_refused(DMA_HEAP_IOCTL_ALLOC, edge, EFAULT, "an allocation half in memory");
	/* Here the buffer is made, and must go again. */
	call_refused(DMA_HEAP_IOCTL_ALLOC, constant, EFAULT, "an allocation in constant memory");
}

/* What is longer or shorter than the kernel's structure: zero is what is missing. */
static void alloc_sizes(void)
{
	struct {
		struct dma_heap_allocation_data data;
		__u64 more[100];
	} large = { .data = good(), .more = { 1, 2, 3 } };
	int fd;

	must(ioctl(heap, ALLOC_OF(sizeof(large), BOTH), &large), "a larger allocation");
	if (large.more[2] != 3)
		die("a larger structure is overwritten");
	close(large.data.fd);
	large.data = good();
	must(ioctl(heap, ALLOC_OF(16, BOTH), &large), "a smaller allocation");
	close(large.data.fd);
	large.data = good();
	call_refused(ALLOC_OF(0, BOTH), &large, EINVAL, "an empty allocation");
	call_refused(ALLOC_OF(24, _IOC_NONE), &large, EINVAL, "an allocation without input");
	call_refused(ALLOC_OF(24, _IOC_READ), &large, EINVAL, "an allocation that only reads");
	call_refused(ALLOC_OF(8, BOTH), nothing - 4, EFAULT, "a short one half in memory");
	call_refused(ALLOC_OF(64, BOTH), nothing - 24, EFAULT, "a large one half in memory");

	/* One that asks for no answer has a file that it does not know of: close it. */
	fd = must(dup(heap), "dup");
	close(fd);
	must(ioctl(heap, ALLOC_OF(24, _IOC_WRITE), &large), "an allocation without an answer");
	if (large.data.fd)
		die("an answer that was not asked for");
	must(close(fd), "closing the file of an allocation without an answer");
}

static void alloc_flags(void)
{
	static const int modes[] = { O_RDONLY, O_WRONLY, O_RDWR };

	for (int i = 0; i < 6; i++) {
		int mode = modes[i % 3], cloexec = i < 3 ? O_CLOEXEC : 0;
		int fd = must(heap_try(heap, PAGE, mode | cloexec), "an allocation");

		if ((fcntl(fd, F_GETFL) & O_ACCMODE) != mode)
			die("access mode %#o became %#o", mode, fcntl(fd, F_GETFL));
		if (!(fcntl(fd, F_GETFD) & FD_CLOEXEC) != !cloexec)
			die("close on exec is not as asked for");
		close(fd);
	}
}

static void no_descriptor(void)
{
	struct dma_heap_allocation_data data = good();
	struct rlimit old, none;
	int fd = must(dup(heap), "dup");

	close(fd);
	must(getrlimit(RLIMIT_NOFILE, &old), "getrlimit");
	none = (struct rlimit){ .rlim_cur = fd, .rlim_max = old.rlim_max };
	must(setrlimit(RLIMIT_NOFILE, &none), "setrlimit");
	/* Not alloc_refused(), which needs a descriptor itself. */
	call_refused(DMA_HEAP_IOCTL_ALLOC, &data, EMFILE,
		     "an allocation without a free descriptor");
	must(setrlimit(RLIMIT_NOFILE, &old), "setrlimit");
}

static void commands(void)
{
	char argument[16384] = { 0 };

	for (int nr = 1; nr < 256; nr++) {
		if (heap_is_ours() && nr >= 0x80 && nr <= 0x82)
			continue;
		call_refused(_IOC(BOTH, 'H', nr, 24), argument, EINVAL, "an unknown command");
	}
	if (!heap_is_ours())
		return;
	for (int nr = 0x80; nr <= 0x82; nr++) {
		for (int size = 0; size < 64; size++) {
			unsigned int command = _IOC(nr == 0x82 ? BOTH : _IOC_WRITE, 'H', nr, size);

			if (command != RUST_DMA_BUF_IOCTL_SET_PATTERN &&
			    command != RUST_DMA_BUF_IOCTL_REVOKE &&
			    command != RUST_DMA_BUF_IOCTL_INFO)
				call_refused(command, argument, EINVAL, "another size");
		}
	}
	call_refused(_IOC(BOTH, 'X', 0, 24), argument, ENOTTY, "another device's command");
	call_refused(0x5401, argument, ENOTTY, "a terminal's command");
	refused(read(heap, argument, 1), EINVAL, "reading the heap");
	refused(write(heap, argument, 1), EINVAL, "writing the heap");
}

static void patterns(void)
{
	static const struct rust_dma_buf_set_pattern bad[] = {
		{ .order = 10 }, { .order = -1 }, { .pattern = 4 }, { .pattern = -1 },
		{ .pattern = RUST_DMA_BUF_DESCENDING, .arg = 1 },
		{ .pattern = RUST_DMA_BUF_ASCENDING, .arg = 1 },
		{ .pattern = RUST_DMA_BUF_STRIDED, .arg = 0 },
		{ .pattern = RUST_DMA_BUF_STRIDED, .arg = 1 },
	};
	static const struct rust_dma_buf_set_pattern extreme[] = {
		{ .pattern = RUST_DMA_BUF_STRIDED, .arg = -1 },
		{ .pattern = RUST_DMA_BUF_SHUFFLED, .arg = -1 },
		{ .pattern = RUST_DMA_BUF_SHUFFLED, .arg = 0 },
		{ .order = RUST_DMA_BUF_MAX_ORDER },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		call_refused(RUST_DMA_BUF_IOCTL_SET_PATTERN, bad + i, EINVAL, "a bad pattern");
	call_refused(RUST_DMA_BUF_IOCTL_SET_PATTERN, NULL, EFAULT, "a pattern at NULL");
	call_refused(RUST_DMA_BUF_IOCTL_SET_PATTERN, nothing - 8, EFAULT, "half a pattern");
	for (size_t i = 0; i < ARRAY_SIZE(extreme); i++) {
		must(ioctl(heap, RUST_DMA_BUF_IOCTL_SET_PATTERN, &extreme[i]), "an extreme one");
		close(heap_alloc(heap, 37 * PAGE));
	}
	heap_pattern(heap, 0, RUST_DMA_BUF_DESCENDING, 0);
}

static void buffer_of(int fd, int error, const char *what)
{
	struct rust_dma_buf_info info = { .fd = fd };

	refused(ioctl(heap, RUST_DMA_BUF_IOCTL_INFO, &info), error, what);
	refused(heap_revoke(heap, fd), error, what);
}

static void not_a_buffer(void)
{
	int buf = heap_alloc(heap, PAGE), system;
	struct rust_dma_buf_info info = { .fd = buf };

	buffer_of(-1, EBADF, "no descriptor");
	buffer_of(1000000, EBADF, "a large descriptor");
	buffer_of(INT32_MIN, EBADF, "a negative descriptor");
	buffer_of(null, EINVAL, "/dev/null");
	buffer_of(heap, EINVAL, "the heap itself");
	system = open("/dev/dma_heap/system", O_RDWR | O_CLOEXEC);
	if (system >= 0) {
		int theirs = heap_alloc(system, PAGE);

		buffer_of(theirs, EINVAL, "the system heap's buffer");
		close(theirs);
		close(system);
	}
	call_refused(RUST_DMA_BUF_IOCTL_INFO, NULL, EFAULT, "INFO at NULL");
	call_refused(RUST_DMA_BUF_IOCTL_INFO, nothing, EFAULT, "INFO at no memory");
	mprotect(constant, PAGE, PROT_READ | PROT_WRITE);
	*(struct rust_dma_buf_info *)constant = info;
	mprotect(constant, PAGE, PROT_READ);
	call_refused(RUST_DMA_BUF_IOCTL_INFO, constant, EFAULT, "INFO in constant memory");
	call_refused(RUST_DMA_BUF_IOCTL_REVOKE, NULL, EFAULT, "REVOKE at NULL");
	call_refused(RUST_DMA_BUF_IOCTL_REVOKE, nothing, EFAULT, "REVOKE at no memory");
	if (heap_info(heap, buf).revoked)
		die("a command that failed revoked a buffer");
	close(buf);
}

/* Who may not write a buffer may not take it from those who may. */
static void revocation_by_mode(void)
{
	static const int modes[] = { O_RDONLY, O_WRONLY, O_RDWR };

	for (int i = 0; i < 3; i++) {
		int buf = must(heap_try(heap, PAGE, modes[i] | O_CLOEXEC), "an allocation");

		bool writable = modes[i] != O_RDONLY;

		if (writable)
			must(heap_revoke(heap, buf), "REVOKE of a buffer for writing");
		else
			refused(heap_revoke(heap, buf), EACCES, "REVOKE of a read-only buffer");
		if (heap_info(heap, buf).revoked != writable)
			die("REVOKE does not do what it says");
		close(buf);
	}
}

static void buffer_calls(void)
{
	int buf = heap_alloc(heap, 2 * PAGE);
	static const __u64 flags[] = { 0, DMA_BUF_SYNC_END, 8, -1, 1ULL << 63 };
	struct dma_buf_sync sync;
	char byte;

	for (int i = 0; i < 5; i++) {
		sync.flags = flags[i];
		refused(ioctl(buf, DMA_BUF_IOCTL_SYNC, &sync), EINVAL, "SYNC with bad flags");
	}
	refused(ioctl(buf, DMA_BUF_IOCTL_SYNC, NULL), EFAULT, "SYNC at NULL");
	refused(ioctl(buf, _IO('b', 77), 0), ENOTTY, "an unknown command of a buffer");
	refused(read(buf, &byte, 1), EINVAL, "reading a buffer");
	refused(write(buf, "", 1), EINVAL, "writing a buffer");
	refused(ftruncate(buf, PAGE), EINVAL, "truncating a buffer");
	refused(lseek(buf, 1, SEEK_SET), EINVAL, "seeking into a buffer");
	refused(lseek(buf, 0, SEEK_CUR), EINVAL, "seeking in a buffer");
	refused(lseek(buf, -1, SEEK_END), EINVAL, "seeking from a buffer's end");
	close(buf);
}

int main(void)
{
	int files, before;
	char *area;

	heap = heap_open();
	null = must(open("/dev/null", O_RDWR | O_CLOEXEC), "/dev/null");
	area = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (area == MAP_FAILED)
		die("no memory");
	nothing = area + PAGE;
	constant = area + 2 * PAGE;
	*(struct dma_heap_allocation_data *)constant = good();
	must(mprotect(nothing, PAGE, PROT_NONE), "mprotect");
	must(mprotect(constant, PAGE, PROT_READ), "mprotect");

	files = open_files();
	before = buffers();
	lengths();
	alloc_fields();
	alloc_pointers();
	alloc_sizes();
	alloc_flags();
	no_descriptor();
	commands();
	if (heap_is_ours()) {
		patterns();
		not_a_buffer();
		revocation_by_mode();
	}
	buffer_calls();
	if (open_files() != files)
		die("%d files are open, not %d", open_files(), files);
	if (buffers() != before)
		die("%d buffers are left", buffers() - before);
	return 0;
}
