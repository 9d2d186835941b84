// SPDX-License-Identifier: GPL-2.0
/*
 * nvme-lies tell PCI-CONFIG WORDS: words for the mailbox of tests/devices/nvme.py
 * nvme-lies ask PCI-CONFIG NUMBER...: counters of it
 * nvme-lies load DISK SEED OPERATIONS [PCI-CONFIG]: random reads and writes from some threads, each
 *   in a region of its own, and what was wrong with their data; the model is told as each returns.
 *   Their number is $THREADS
 * nvme-lies use DISK ROUNDS: a short load again and again, until SIGTERM, with a line for each;
 *   ROUNDS is a file with their number; the next one begins after a second, or now by SIGUSR1
 * nvme-lies canary MIB LOOKS: memory that nobody else may change, until SIGTERM; LOOKS is a file
 *   with the number of times that all of it was looked at: each second, and now by SIGUSR1.
 *   Prints its address first
 *
 * Each 512 bytes on the disk tell their place and the write that they are from, and a buffer has
 * pages on both sides that must stay as they are.  Errors are allowed, as is old data after a
 * write that has failed, but not:
 *
 *  empty	a read that succeeds leaves the buffer as it was
 *  foreign	it has the data of another place
 *  stale	it has the data of an earlier write than the last one that succeeded
 *  late	it has what the device writes too late
 *  beside	a page beside those of the buffer has changed: an IOMMU maps whole pages
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/types.h>

#include "nvme-model.h"

#define SECTOR 512
#define PAGE 4096
/* Of a buffer: longer than the longest transfer of a small controller, so that it is split. */
#define LONGEST 0x40000
#define REGION NVME_MODEL_REGION
#define THREADS 4
#define MAGIC 0x7365696c79687021ull
/* A buffer before a read, the pages beside it, and late data (LATE in the model). */
#define POISON 0xa5
#define BESIDE 0x5a
#define LATE 0xee
/* So many errors in a row end a thread: the disk is dead. */
#define ENOUGH 20

struct stamp {
	__u64 magic, at, seq, words[SECTOR / 8 - 3];
};

struct worker {
	pthread_t thread;
	__u64 base, random;
	unsigned char *map, *buffer;
	/* The last write of each sector that succeeded, and the last one that was tried. */
	__u64 good[REGION / SECTOR], tried[REGION / SECTOR];
};

static const char *disk;
/* The model's configuration space, or -1. */
static int model = -1;
static unsigned long operations;
static struct worker workers[THREADS];
static unsigned long ops, errors, empty, foreign, stale, late, beside;

static void die(const char *what)
{
	fprintf(stderr, "nvme-lies: %s: %s\n", what, strerror(errno));
	exit(2);
}

static void count(unsigned long *what)
{
	__atomic_add_fetch(what, 1, __ATOMIC_RELAXED);
}

static __u64 below(struct worker *w, __u64 n)
{
	/* xorshift64 */
	w->random ^= w->random << 13;
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return w->random % n;
}

static void fill(struct stamp *s, __u64 at, __u64 seq)
{
	size_t i;

	s->magic = MAGIC;
	s->at = at;
	s->seq = seq;
	for (i = 0; i < sizeof(s->words) / 8; i++)
		s->words[i] = at * 31 + seq + i;
}

static bool all(const void *data, int byte, size_t size)
{
	const unsigned char *p = data;

	return p[0] == byte && !memcmp(p, p + 1, size - 1);
}

static void check_sector(struct worker *w, const struct stamp *s, __u64 sector)
{
	__u64 at = w->base / SECTOR + sector;
	struct stamp want;

	if (all(s, POISON, SECTOR))
		return count(&empty);
	if (all(s, LATE, SECTOR))
		return count(&late);
	if (s->magic == MAGIC && s->at != at)
		return count(&foreign);
	/* Nothing is known of it. */
	if (!w->good[sector] && s->magic != MAGIC)
		return;
	fill(&want, at, s->seq);
	if (memcmp(s, &want, SECTOR) ||
	    (w->good[sector] && (s->seq < w->good[sector] || s->seq > w->tried[sector])))
		count(&stale);
}

static bool transfer(struct worker *w, int fd, __u64 seq)
{
	__u64 sectors = 1 + below(w, below(w, 4) ? 16 : LONGEST / SECTOR);
	__u64 first = below(w, REGION / SECTOR - sectors), i;
	bool write = below(w, 2);
	/* Buffers that begin anywhere in a page. */
	unsigned char *buffer = w->buffer + below(w, 8) * SECTOR;
	struct stamp *s = (void *)buffer;
	ssize_t size = sectors * SECTOR, rc;
	bool ok;

	memset(w->map, BESIDE, LONGEST + 3 * PAGE);
	memset(buffer, POISON, size);
	if (write) {
		for (i = 0; i < sectors; i++) {
			fill(&s[i], w->base / SECTOR + first + i, seq);
			w->tried[first + i] = seq;
		}
		rc = pwrite(fd, buffer, size, w->base + first * SECTOR);
	} else {
		rc = pread(fd, buffer, size, w->base + first * SECTOR);
	}
	ok = rc == size;
	nvme_model_returned(model, w->base / REGION);
	for (i = 0; ok && i < sectors; i++) {
		if (write)
			w->good[first + i] = seq;
		else
			check_sector(w, &s[i], first + i);
	}
	/* Whole pages, from map on. */
	size = (buffer + size - w->map + PAGE - 1) / PAGE * PAGE;
	if (!all(w->map, BESIDE, PAGE) ||
	    !all(w->map + size, BESIDE, LONGEST + 3 * PAGE - size))
		count(&beside);
	return ok;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	unsigned long n, failed = 0;
	int fd = open(disk, O_RDWR | O_DIRECT);

	if (fd < 0)
		return NULL;
	w->map = mmap(NULL, LONGEST + 3 * PAGE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (w->map == MAP_FAILED)
		die("mmap");
	w->buffer = w->map + PAGE;
	for (n = 1; n <= operations && failed < ENOUGH; n++) {
		count(&ops);
		if (transfer(w, fd, n)) {
			failed = 0;
		} else {
			failed++;
			count(&errors);
		}
	}
	close(fd);
	return NULL;
}

static int load(unsigned long seed)
{
	const char *some = getenv("THREADS");
	int i, threads = some ? atoi(some) : THREADS;

	if (threads > THREADS)
		threads = THREADS;
	for (i = 0; i < threads; i++) {
		workers[i].base = (__u64)i * REGION;
		workers[i].random = seed * THREADS + i + 1;
		pthread_create(&workers[i].thread, NULL, work, &workers[i]);
	}
	for (i = 0; i < threads; i++)
		pthread_join(workers[i].thread, NULL);
	printf("ops=%lu errors=%lu empty=%lu foreign=%lu stale=%lu late=%lu beside=%lu\n",
	       ops, errors, empty, foreign, stale, late, beside);
	return 0;
}

static atomic_bool ended;

static void end(int signal)
{
	(void)signal;
	ended = true;
}

static void go_on(int signal)
{
	(void)signal;
}

/* Something that goes on until SIGTERM: the number of its rounds is in a file. */
static int open_rounds(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT, 0644);

	if (fd < 0)
		die(path);
	signal(SIGTERM, end);
	signal(SIGUSR1, go_on);
	return fd;
}

/* A round takes an emulated processor some hundredths of a second, which the lies need, too. */
static void end_of_round(int fd, unsigned long rounds)
{
	/* It only grows. */
	lseek(fd, 0, SEEK_SET);
	dprintf(fd, "%lu\n", rounds);
	if (!ended)
		usleep(1000000);
}

static __u64 load_word(const __u64 *word)
{
	return __atomic_load_n(word, __ATOMIC_RELAXED);
}

/* The first word that is not its number; eight at a time, as branches are slow in emulation. */
static size_t first_change(const __u64 *words, size_t number)
{
	size_t i, j;
	__u64 changed;

	for (i = 0; i < number; i += 8) {
		changed = 0;
		for (j = i; j < i + 8; j++)
			changed |= load_word(&words[j]) ^ j ^ MAGIC;
		if (!changed)
			continue;
		for (j = i; j < i + 7 && load_word(&words[j]) == (j ^ MAGIC); j++)
			;
		return j;
	}
	return number;
}

static int canary(size_t size, const char *path)
{
	__u64 *words = mmap(NULL, size, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	int looks = open_rounds(path);
	size_t i, number = size / 8;
	unsigned long rounds = 0;

	if (words == MAP_FAILED)
		die("canary");
	for (i = 0; i < number; i++)
		words[i] = i ^ MAGIC;
	printf("%ju\n", (uintmax_t)(uintptr_t)words);
	fflush(stdout);
	while (!ended) {
		i = first_change(words, number);
		if (i < number) {
			printf("changed: byte %zu is %#jx, not %#jx\n", i * 8, (uintmax_t)words[i],
			       (uintmax_t)(i ^ MAGIC));
			return 1;
		}
		end_of_round(looks, ++rounds);
	}
	printf("unchanged in %lu looks\n", rounds);
	return 0;
}

static int use(const char *path)
{
	int fd = open_rounds(path), status;
	unsigned long rounds = 0;
	pid_t pid;

	while (!ended) {
		/* It closes the disk. */
		pid = fork();
		if (!pid)
			exit(load(rounds + 1));
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
			die("fork");
		end_of_round(fd, ++rounds);
	}
	return 0;
}

static int tell(const char *config, const char *words)
{
	size_t at, length = strlen(words) + 1;
	char part[4];
	int fd = open(config, O_RDWR);

	if (fd < 0)
		die(config);
	for (at = 0; at < length; at += 4) {
		memset(part, 0, 4);
		memcpy(part, words + at, length - at < 4 ? length - at : 4);
		if (pwrite(fd, part, 4, NVME_MODEL_MAILBOX) != 4)
			die(config);
	}
	return 0;
}

static int ask(const char *config, char **numbers)
{
	__u32 value;
	int fd = open(config, O_RDONLY);

	for (; *numbers; numbers++) {
		if (pread(fd, &value, 4, NVME_MODEL_MAILBOX + 4 * atoi(*numbers)) != 4)
			die(config);
		printf("%u%c", value, numbers[1] ? ' ' : '\n');
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "tell"))
		return tell(argv[2], argv[3]);
	if (argc >= 4 && !strcmp(argv[1], "ask"))
		return ask(argv[2], argv + 3);
	if (argc == 4 && !strcmp(argv[1], "canary"))
		return canary((size_t)atoi(argv[2]) << 20, argv[3]);
	if (argc == 4 && !strcmp(argv[1], "use")) {
		disk = argv[2];
		operations = 5;
		return use(argv[3]);
	}
	if (argc >= 5 && !strcmp(argv[1], "load")) {
		disk = argv[2];
		if (argc > 5)
			model = open(argv[5], O_WRONLY);
		operations = strtoul(argv[4], NULL, 0);
		return load(strtoul(argv[3], NULL, 0));
	}
	fprintf(stderr, "usage: nvme-lies tell|ask|load|use|canary ...\n");
	return 2;
}
