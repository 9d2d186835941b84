// SPDX-License-Identifier: GPL-2.0
/*
 * Devices wait for the guest: QEMU's main loop, which is the devices, goes on only while all of the
 * guest's processors are halted.
 *
 * Where the main loop waits for something to do is ppoll(). No plugin is asked there, so the entry
 * of the program's own table of functions that says where ppoll() is gets another: after the real
 * one has returned it waits for the guest, too. The main loop holds no lock there.
 *
 * Before the first mark, and where the guest is busy for LIMIT seconds, nobody waits.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <link.h>
#include <linux/types.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "gate.h"

#define LIMIT 5

/* As <elf.h> has them. */
struct dynamic {
	__s64 tag;
	__u64 value;
};

struct relocation {
	__u64 offset;
	__u64 info;
	__s64 addend;
};

struct symbol {
	__u32 name;
	__u8 info;
	__u8 other;
	__u16 section;
	__u64 value;
	__u64 size;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t idle = PTHREAD_COND_INITIALIZER;
static unsigned int running;
static bool closed;
static pid_t main_loop;

void gate_close(void)
{
	pthread_mutex_lock(&lock);
	closed = true;
	pthread_mutex_unlock(&lock);
}

void gate_running(unsigned int vcpu, bool runs)
{
	pthread_mutex_lock(&lock);
	if (runs)
		running |= 1U << vcpu;
	else
		running &= ~(1U << vcpu);
	if (!running)
		pthread_cond_signal(&idle);
	pthread_mutex_unlock(&lock);
}

static int poll_then_wait(struct pollfd *fds, nfds_t nr, const struct timespec *timeout,
			  const sigset_t *mask)
{
	int ret = ppoll(fds, nr, timeout, mask), error = errno;
	struct timespec limit;

	if (gettid() == main_loop) {
		clock_gettime(CLOCK_REALTIME, &limit);
		limit.tv_sec += LIMIT;
		pthread_mutex_lock(&lock);
		while (closed && running)
			if (pthread_cond_timedwait(&idle, &lock, &limit))
				break;
		pthread_mutex_unlock(&lock);
	}
	errno = error;
	return ret;
}

/* Of the program itself, which comes first. */
static int patch(struct dl_phdr_info *info, size_t size, void *data)
{
	const struct relocation *relocations = NULL;
	const struct symbol *symbols = NULL;
	const char *names = NULL;
	size_t bytes = 0;

	for (int i = 0; i < info->dlpi_phnum; i++) {
		const struct dynamic *dyn = (void *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);

		if (info->dlpi_phdr[i].p_type != PT_DYNAMIC)
			continue;
		for (; dyn->tag != DT_NULL; dyn++) {
			if (dyn->tag == DT_JMPREL)
				relocations = (void *)dyn->value;
			else if (dyn->tag == DT_PLTRELSZ)
				bytes = dyn->value;
			else if (dyn->tag == DT_SYMTAB)
				symbols = (void *)dyn->value;
			else if (dyn->tag == DT_STRTAB)
				names = (void *)dyn->value;
		}
	}
	if (!relocations || !symbols || !names)
		return -1;
	for (size_t i = 0; i < bytes / sizeof(*relocations); i++) {
		const struct symbol *symbol = &symbols[relocations[i].info >> 32];
		unsigned long slot = info->dlpi_addr + relocations[i].offset;
		unsigned long page = slot & ~4095UL;

		if (strcmp(names + symbol->name, "ppoll"))
			continue;
		if (mprotect((void *)page, 4096, PROT_READ | PROT_WRITE))
			return -1;
		*(void **)slot = poll_then_wait;
		return mprotect((void *)page, 4096, PROT_READ) ? -1 : 1;
	}
	return -1;
}

bool gate_install(void)
{
	main_loop = gettid();
	return dl_iterate_phdr(patch, NULL) == 1;
}
