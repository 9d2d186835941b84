// SPDX-License-Identifier: GPL-2.0
/*
 * heap-unload: rust_dma_buf cannot be unloaded while any trace of its use is left, and can be right
 * after.
 */
#define _GNU_SOURCE
#include <sys/syscall.h>

#include "heap.h"

static int unload(void)
{
	return syscall(SYS_delete_module, "rust_dma_buf", O_NONBLOCK);
}

int main(void)
{
	int heap = heap_open(), buf, other;
	unsigned char *at;

	refused(unload(), EAGAIN, "unloading under an open heap");
	buf = heap_alloc(heap, MIB);
	close(heap);
	refused(unload(), EAGAIN, "unloading under a buffer");
	other = must(dup(buf), "dup");
	close(buf);
	refused(unload(), EAGAIN, "unloading under another file of a buffer");
	at = buf_map(other, MIB);
	close(other);
	refused(unload(), EAGAIN, "unloading under a mapped buffer");
	fill(at, MIB, 1);
	munmap(at, MIB / 2);
	refused(unload(), EAGAIN, "unloading under half a mapped buffer");
	munmap(at + MIB / 2, MIB / 2);
	must(unload(), "unloading");
	refused(open(heap_path(), O_RDWR), ENOENT, "opening the heap of an unloaded module");
	return 0;
}
