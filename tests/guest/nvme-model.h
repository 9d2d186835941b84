/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The mailbox of tests/devices/nvme.py, in its configuration space.
 */
#ifndef NVME_MODEL_H
#define NVME_MODEL_H

#include <unistd.h>

#include <linux/types.h>

#define NVME_MODEL_MAILBOX 0x64
/* Bytes of a region of the medium (REGION in nvme_model/memory.py). */
#define NVME_MODEL_REGION 0x100000

/*
 * Tells the model that all I/O of this region has returned: the memory is the caller's, and the
 * controller must not access it any more.  It may be gone by now.
 */
static inline void nvme_model_returned(int config, __u32 region)
{
	ssize_t ignored = pwrite(config, &region, sizeof(region), NVME_MODEL_MAILBOX + 4);

	(void)ignored;
}

#endif /* NVME_MODEL_H */
