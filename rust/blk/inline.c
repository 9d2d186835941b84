// SPDX-License-Identifier: GPL-2.0

/* Short helpers that are called often: see rust/phyr/inline.c. */

#include <linux/export.h>

#include "bindings.h"

#ifndef __phyr_helper
#define __phyr_helper
#endif

/* For a request that ends well. The caller ends the batch, so that no function is named. */
__phyr_helper bool phyr_blk_helper_add_to_batch(struct request *rq, struct io_comp_batch *iob)
{
	return blk_mq_add_to_batch(rq, iob, false, NULL);
}
EXPORT_SYMBOL_GPL(phyr_blk_helper_add_to_batch);
