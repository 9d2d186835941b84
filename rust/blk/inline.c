// SPDX-License-Identifier: GPL-2.0

/* As rust/phyr/inline.c: what is short and often called. */

#include <linux/export.h>

#include "bindings.h"

#ifndef __phyr_helper
#define __phyr_helper
#endif

/* Of a request that ends well. Who ends the batch does so by himself: no function is named. */
__phyr_helper bool phyr_blk_helper_add_to_batch(struct request *rq, struct io_comp_batch *iob)
{
	return blk_mq_add_to_batch(rq, iob, false, NULL);
}
EXPORT_SYMBOL_GPL(phyr_blk_helper_add_to_batch);
