// SPDX-License-Identifier: GPL-2.0
/*
 * count.so: a TCG plugin for QEMU that counts how often each instruction of the guest's kernel is
 * executed, between marks that the guest sets.
 *
 *   -plugin .../count.so,out=FILE[,lines=FILE]
 *
 * A mark is an instruction that does nothing, a nop with MARK and a kind in its displacement; it
 * may be in a program as well as in the kernel (tests/guest/mark.h). What is between BEGIN and END
 * is a window. For each window FILE gets a record, in the order of the windows:
 *
 *   u64 number of entries, then for each of them u64 address, u64 count
 *
 * Counts are of each instruction by itself, not of blocks: a block of translated code is left
 * amid of it when a page fault or a device's register interrupts it.
 *
 * With lines=, for each window that FILE gets the cache lines that more than one of the guest's
 * processors accessed and that one of them wrote:
 *
 *   u64 number of entries, then for each of them u64 line, u64 address of the instruction, and
 *   u64 reads, u64 writes of each of eight processors
 *
 * Devices answer when the guest has nothing left to do, as slow devices would, and not whenever the
 * host gets to it (gate.c): which commands an interrupt completes depends on the guest alone.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gate.h"
#include "qemu_plugin.h"
#include "../../guest/mark.h"

/* One for each instruction of a kernel that was ever translated. */
#define SLOTS 4194304U
#define BUCKETS (SLOTS * 2)
#define ADD QEMU_PLUGIN_INLINE_ADD_U64
#define ACCESSES 1048576U
#define LINE 64
#define PROCESSORS 8
/* Addresses with the topmost bit are the kernel's. */
#define KERNEL 0x8000000000000000ULL

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct qemu_plugin_scoreboard *score;
static FILE *out;
/* The address of each slot, what it had at BEGIN, and where to find its number: 0 is none. */
static __u64 *address;
static __u64 *then;
static __u32 *bucket;
static __u32 slots = 1;

/* What instructions did to cache lines in this window. */
struct access {
	__u64 line;
	__u64 vaddr;
	__u64 count[PROCESSORS][2];
};

static FILE *lines;
static struct access *access_table;
static __u32 accesses;
static bool counting;
static qemu_plugin_id_t plugin;
/* The first mark has been met. */
static bool armed;

static void translate(struct qemu_plugin_tb *tb, void *data);

static void die(const char *why)
{
	fprintf(stderr, "count: %s\n", why);
	exit(1);
}

static void *table(size_t size)
{
	/* What is not touched takes no memory. */
	void *memory = calloc(size, 1);

	if (!memory)
		die("no memory");
	return memory;
}

static __u64 hash(__u64 key)
{
	return (key * 0x9e3779b97f4a7c15ULL) >> 32;
}

static __u32 slot_of(__u64 vaddr)
{
	__u64 at = hash(vaddr);

	for (;; at++) {
		__u32 slot = bucket[at %= BUCKETS];

		if (!slot)
			break;
		if (address[slot] == vaddr)
			return slot;
	}
	if (slots == SLOTS)
		die("more instructions than expected");
	address[slots] = vaddr;
	bucket[at] = slots;
	return slots++;
}

static __u64 now(__u32 slot)
{
	__u64 sum = 0;

	for (int vcpu = 0; vcpu < qemu_plugin_num_vcpus(); vcpu++)
		sum += ((__u64 *)qemu_plugin_scoreboard_find(score, vcpu))[slot];
	return sum;
}

static struct access *access_of(__u64 line, __u64 vaddr)
{
	for (__u64 at = hash(line ^ vaddr << 20);; at++) {
		struct access *access = &access_table[at % ACCESSES];

		if (access->line == line && access->vaddr == vaddr)
			return access;
		if (!access->line) {
			if (++accesses == ACCESSES)
				die("more accesses than expected");
			access->line = line;
			access->vaddr = vaddr;
			return access;
		}
	}
}

static void accessed(unsigned int vcpu, qemu_plugin_meminfo_t info, __u64 at, void *vaddr)
{
	struct qemu_plugin_hwaddr *where;

	if (!counting || vcpu >= PROCESSORS || !(at & KERNEL))
		return;
	/* Registers of devices are in no cache. */
	where = qemu_plugin_get_hwaddr(info, at);
	if (where && qemu_plugin_hwaddr_is_io(where))
		return;
	pthread_mutex_lock(&lock);
	access_of(at / LINE * LINE, (__u64)vaddr)->count[vcpu][qemu_plugin_mem_is_store(info)]++;
	pthread_mutex_unlock(&lock);
}

static void put(FILE *file, __u64 value)
{
	if (fwrite(&value, sizeof(value), 1, file) != 1)
		die("cannot write");
}

static int by_line(const void *a, const void *b)
{
	const struct access *x = a, *y = b;

	return x->line < y->line ? -1 : x->line > y->line;
}

/* The accesses to the line of this one, and whether they are of several processors, and writes. */
static size_t of_line(const struct access *access, const struct access *end, bool *shared)
{
	bool by[PROCESSORS] = { false }, written = false;
	int processors = 0;
	const struct access *one = access;

	for (; one < end && one->line == access->line; one++) {
		for (int vcpu = 0; vcpu < PROCESSORS; vcpu++) {
			by[vcpu] |= one->count[vcpu][0] || one->count[vcpu][1];
			written |= one->count[vcpu][1];
		}
	}
	for (int vcpu = 0; vcpu < PROCESSORS; vcpu++)
		processors += by[vcpu];
	*shared = processors > 1 && written;
	return one - access;
}

static void put_lines(void)
{
	struct access *end = access_table + ACCESSES;
	__u64 entries = 0;
	bool shared;
	size_t nr;

	qsort(access_table, ACCESSES, sizeof(*access_table), by_line);
	for (int pass = 0; pass < 2; pass++) {
		for (struct access *access = access_table; access < end; access += nr) {
			nr = of_line(access, end, &shared);
			if (!access->line || !shared)
				continue;
			if (pass == 0)
				entries += nr;
			else if (fwrite(access, sizeof(*access), nr, lines) != nr)
				die("cannot write");
		}
		if (pass == 0)
			put(lines, entries);
	}
	if (fflush(lines))
		die("cannot write");
	memset(access_table, 0, ACCESSES * sizeof(*access_table));
	accesses = 0;
}

static void begin(unsigned int vcpu, void *data)
{
	pthread_mutex_lock(&lock);
	if (qemu_plugin_num_vcpus() == 1)
		memcpy(then, qemu_plugin_scoreboard_find(score, 0), slots * sizeof(*then));
	else
		for (__u32 slot = 1; slot < slots; slot++)
			then[slot] = now(slot);
	counting = true;
	pthread_mutex_unlock(&lock);
}

static void end(unsigned int vcpu, void *data)
{
	__u64 entries = 0;

	pthread_mutex_lock(&lock);
	counting = false;
	for (__u32 slot = 1; slot < slots; slot++)
		entries += now(slot) != then[slot];
	put(out, entries);
	for (__u32 slot = 1; slot < slots; slot++) {
		__u64 count = now(slot) - then[slot];

		if (count) {
			put(out, address[slot]);
			put(out, count);
		}
	}
	if (fflush(out))
		die("cannot write");
	if (lines)
		put_lines();
	pthread_mutex_unlock(&lock);
}

/* It is about to. */
static void halted(unsigned int vcpu, void *data)
{
	gate_running(vcpu, false);
}

static void interrupted(unsigned int vcpu, enum qemu_plugin_discon_type type, __u64 from,
			__u64 to, void *data)
{
	gate_running(vcpu, true);
}

/*
 * A guest boots much faster as long as nothing is counted: all code is translated anew for it.
 */
static void count(qemu_plugin_id_t id, void *data)
{
	qemu_plugin_register_vcpu_tb_trans_cb(plugin, translate, NULL);
	qemu_plugin_register_vcpu_discon_cb(plugin, QEMU_PLUGIN_DISCON_INTERRUPT, interrupted,
					    NULL);
	gate_close();
}

static void first(unsigned int vcpu, void *data)
{
	if (!armed)
		qemu_plugin_reset(plugin, count, NULL);
	armed = true;
}

static bool is_halt(const struct qemu_plugin_insn *insn)
{
	unsigned char byte;

	return qemu_plugin_insn_size(insn) == 1 && qemu_plugin_insn_data(insn, &byte, 1) == 1 &&
	       byte == 0xf4;
}

/* The kind of mark that the instruction is, or 0. */
static unsigned int mark_of(const struct qemu_plugin_insn *insn)
{
	static const unsigned char nop[] = { 0x0f, 0x1f, 0x84, 0x00 };
	static const unsigned char mark[] = {
		PHYR_MARK >> 8 & 0xff, PHYR_MARK >> 16 & 0xff, PHYR_MARK >> 24,
	};
	unsigned char bytes[8];

	if (qemu_plugin_insn_size(insn) != sizeof(bytes))
		return 0;
	qemu_plugin_insn_data(insn, bytes, sizeof(bytes));
	if (memcmp(bytes, nop, sizeof(nop)) || memcmp(bytes + 5, mark, sizeof(mark)))
		return 0;
	return bytes[4];
}

static void translate(struct qemu_plugin_tb *tb, void *data)
{
	for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		__u64 vaddr = qemu_plugin_insn_vaddr(insn);
		qemu_plugin_vcpu_udata_t cb = NULL;

		switch (mark_of(insn)) {
		case PHYR_MARK_BEGIN:
			cb = begin;
			break;
		case PHYR_MARK_END:
			cb = end;
			break;
		case PHYR_MARK_FIRST:
			cb = first;
			break;
		}
		if (cb) {
			qemu_plugin_register_vcpu_insn_exec_cb(insn, cb, QEMU_PLUGIN_CB_NO_REGS,
							       NULL);
		} else if (armed && vaddr & KERNEL) {
			struct qemu_plugin_u64 entry = { .score = score };

			if (is_halt(insn))
				qemu_plugin_register_vcpu_insn_exec_cb(insn, halted,
								       QEMU_PLUGIN_CB_NO_REGS,
								       NULL);
			pthread_mutex_lock(&lock);
			entry.offset = slot_of(vaddr) * sizeof(__u64);
			pthread_mutex_unlock(&lock);
			qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(insn, ADD, entry, 1);
			if (lines)
				qemu_plugin_register_vcpu_mem_cb(insn, accessed,
								 QEMU_PLUGIN_CB_NO_REGS,
								 QEMU_PLUGIN_MEM_RW,
								 (void *)vaddr);
		}
	}
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const struct qemu_info_t *info,
					   int argc, char **argv)
{
	for (int i = 0; i < argc; i++) {
		if (!strncmp(argv[i], "out=", 4))
			out = fopen(argv[i] + 4, "w");
		else if (!strncmp(argv[i], "lines=", 6))
			lines = fopen(argv[i] + 6, "w");
	}
	if (!out)
		die("no file to write to");
	if (!gate_install())
		die("this QEMU's main loop cannot be had to wait");
	score = qemu_plugin_scoreboard_new(SLOTS * sizeof(__u64));
	address = table(SLOTS * sizeof(*address));
	then = table(SLOTS * sizeof(*then));
	bucket = table(BUCKETS * sizeof(*bucket));
	access_table = lines ? table(ACCESSES * sizeof(*access_table)) : NULL;
	plugin = id;
	qemu_plugin_register_vcpu_tb_trans_cb(id, translate, NULL);
	return 0;
}
