/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Marks for the plugin that counts (tests/bench/plugin/count.c), for programs and for the kernel:
 * nopl 0x506879KK(%rax,%rax,1), which does nothing on any processor.
 */
#ifndef PHYR_MARK_H
#define PHYR_MARK_H

#define PHYR_MARK 0x50687900 /* "Phy" */
#define PHYR_MARK_BEGIN 1
#define PHYR_MARK_END 2
/* From now on all is counted, and devices wait for the guest, not the guest for devices. */
#define PHYR_MARK_FIRST 3

#ifdef __x86_64__
#define phyr_mark(kind) ({							\
	asm volatile(".byte 0x0f, 0x1f, 0x84, 0x00; .long %c0"			\
		     : : "i"(PHYR_MARK | (kind)) : "memory");			\
})
#else
#define phyr_mark(kind) ((void)(kind))
#endif

#endif /* PHYR_MARK_H */
