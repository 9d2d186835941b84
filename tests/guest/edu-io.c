// SPDX-License-Identifier: GPL-2.0
/*
 * edu-io FOLDER MODE...: data through the device of a rust_edu folder.  Bytes that
 * are written in one way are read in each; then the edges.  With -e ERRNO FOLDER
 * MODE: both fail so.  With -l FOLDER MODE: until the device is gone, whatever the
 * bytes are, as others may use it, too; "going" on standard output tells that it has
 * begun.  A device model (tests/devices/edu.py) is told when a mapping has ended, and tries it.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What the device holds. */
#define CHUNK 4096
#define PLACES 8

/* Of the kernel, and 16 of them, which is what a mapping is of. */
static off_t page, buffer;

/*
 * None begins at the last byte of a page: to translate that QEMU's virtio-iommu looks for what is
 * mapped there or at the next byte, and may find the next page.
 */
static const struct place {
	int pages, bytes;
	size_t len;
} places[PLACES] = {
	{ 0, 0, CHUNK }, { 0, 1, 1 }, { 1, -2, 3 }, { 1, -7, CHUNK }, { 5, 123, 3001 },
	{ 16, -CHUNK, CHUNK }, { 16, -2, 2 }, { 15, -96, 300 },
};

static off_t offset_of(const struct place *place)
{
	return place->pages * page + place->bytes;
}

/* No memory of the program; the compiler is not to know. */
static uintptr_t nowhere;

static int failed(const char *what, const char *mode, off_t offset, size_t len)
{
	int error = errno;

	fprintf(stderr, "%s: %s, %zu bytes at %lld: %s\n", mode, what, len, (long long)offset,
		strerror(error));
	errno = error;
	return 1;
}

static int open_file(const char *folder, const char *mode)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", folder, mode);
	fd = open(path, O_RDWR);
	if (fd < 0) {
		perror(path);
		exit(1);
	}
	return fd;
}

static int shared;

/* The mailbox of a device model in the configuration space. */
#define MAGIC 0x64
#define COMMAND 0x68
#define FOUND 0x6c
#define ENDED 1

/* Its file, or -1 if the device has none. */
static int model = -1;

static unsigned int config(off_t offset)
{
	unsigned int value = 0;

	if (pread(model, &value, sizeof(value), offset) != sizeof(value))
		return 0;
	return value;
}

static void find_model(const char *folder)
{
	const char *device = strstr(folder, "rust_edu-");
	char path[256];

	if (!device)
		return;
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/config",
		 device + strlen("rust_edu-"));
	model = open(path, O_RDWR);
	if (config(MAGIC) != ('o' | 'r' << 8 | 'a' << 16 | 'c' << 24)) {
		close(model);
		model = -1;
	}
}

/* No mapping is left: the model must reach none. */
static int tried(const char *mode)
{
	unsigned int command = ENDED, found;

	if (model < 0 || shared)
		return 0;
	if (pwrite(model, &command, sizeof(command), COMMAND) != sizeof(command))
		return failed("mailbox", mode, COMMAND, sizeof(command));
	while (config(COMMAND))
		;
	found = config(FOUND);
	if (found)
		fprintf(stderr, "%s: %u accesses after the mapping has ended\n", mode, found);
	return !!found;
}

/* What is written at one place is read at another. */
static int copy(int from, int to, const char *mode, int nr)
{
	unsigned char in[CHUNK], out[CHUNK];
	off_t offset = offset_of(&places[nr]);
	size_t len = places[nr].len;
	off_t at = offset_of(&places[(nr + 3) % PLACES]);

	if ((size_t)(buffer - at) < len)
		at = buffer - len;
	for (size_t i = 0; i < len; i++)
		in[i] = random();
	errno = 0;
	if (pwrite(from, in, len, offset) != (ssize_t)len)
		return failed("write", mode, offset, len);
	if (tried(mode))
		return 1;
	memset(out, 0xaa, sizeof(out));
	if (pread(to, out, len, at) != (ssize_t)len)
		return failed("read", mode, at, len);
	if (tried(mode))
		return 1;
	for (size_t i = 0; i < len && !shared; i++) {
		if (in[i] != out[i]) {
			fprintf(stderr, "%s: %zu bytes at %lld, read at %lld: %02x for %02x, %zu\n",
				mode, len, (long long)offset, (long long)at, out[i],
				in[i], i);
			return 1;
		}
	}
	return 0;
}

static int expect(const char *what, const char *mode, ssize_t result, int error)
{
	int got = result < 0 ? errno : 0;

	if (got == error && (error || !result))
		return 0;
	fprintf(stderr, "%s: %s: %zd, %s instead of %s\n", mode, what, result, strerror(got),
		strerror(error));
	return 1;
}

static int edges(int fd, const char *mode)
{
	char bytes[2 * CHUNK] = "";
	int bad = 0;

	bad |= expect("read at the end", mode, pread(fd, bytes, 1, buffer), 0);
	bad |= expect("write at the end", mode, pwrite(fd, bytes, 1, buffer), ENOSPC);
	bad |= expect("read past the end", mode, pread(fd, bytes, 1, buffer + 1), EINVAL);
	bad |= expect("write past the end", mode, pwrite(fd, bytes, 1, buffer + 1), EINVAL);
	bad |= expect("read far away", mode, pread(fd, bytes, 1, 1LL << 62), EINVAL);
	bad |= expect("read to nowhere", mode, pread(fd, (void *)nowhere, 1, 0), EFAULT);
	bad |= expect("write from nowhere", mode, pwrite(fd, (void *)nowhere, 1, 0), EFAULT);
	/* As much as fits in the device, and in the buffer. */
	bad |= expect("write too much", mode, pwrite(fd, bytes, sizeof(bytes), 0) - CHUNK, 0);
	bad |= expect("read too much", mode, pread(fd, bytes, sizeof(bytes), 0) - CHUNK, 0);
	bad |= expect("read across the end", mode, pread(fd, bytes, 9, buffer - 5) - 5, 0);
	return bad;
}

int main(int argc, char **argv)
{
	int bad = 0;

	nowhere = argc;
	page = sysconf(_SC_PAGESIZE);
	buffer = 16 * page;
	if (argc == 5 && !strcmp(argv[1], "-e")) {
		int fd = open_file(argv[3], argv[4]);
		char byte = 0;

		bad |= expect("write", argv[4], pwrite(fd, &byte, 1, 0), atoi(argv[2]));
		return bad | expect("read", argv[4], pread(fd, &byte, 1, 0), atoi(argv[2]));
	}
	if (argc == 4 && !strcmp(argv[1], "-l")) {
		int fd = open_file(argv[2], argv[3]);

		shared = 1;
		for (int turn = 0; !copy(fd, fd, argv[3], random() % PLACES); turn++) {
			if (!turn) {
				puts("going");
				fflush(stdout);
			}
		}
		/* ENODEV: in the driver; EIO: its files are gone. */
		return errno == ENODEV || errno == EIO ? 0 : 1;
	}
	if (argc < 3) {
		fprintf(stderr, "usage: edu-io [-e ERRNO | -l] FOLDER MODE...\n");
		return 2;
	}
	find_model(argv[1]);
	for (int from = 2; from < argc; from++) {
		int fd = open_file(argv[1], argv[from]);

		for (int nr = 0; nr < PLACES; nr++)
			bad |= copy(fd, fd, argv[from], nr);
		for (int to = 2; to < argc; to++) {
			int other = open_file(argv[1], argv[to]);

			if (copy(fd, other, argv[to], (from + to) % PLACES)) {
				fprintf(stderr, "... written by %s\n", argv[from]);
				bad = 1;
			}
			close(other);
		}
		bad |= edges(fd, argv[from]);
		close(fd);
	}
	return bad;
}
