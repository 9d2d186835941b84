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

__phyr_helper struct file *phyr_blk_helper_uring_cmd_file(const struct io_uring_cmd *cmd)
{
	return cmd->file;
}
EXPORT_SYMBOL_GPL(phyr_blk_helper_uring_cmd_file);

__phyr_helper u32 phyr_blk_helper_uring_cmd_op(const struct io_uring_cmd *cmd)
{
	return cmd->cmd_op;
}
EXPORT_SYMBOL_GPL(phyr_blk_helper_uring_cmd_op);

__phyr_helper u32 phyr_blk_helper_uring_cmd_flags(const struct io_uring_cmd *cmd)
{
	return cmd->flags & IORING_URING_CMD_MASK;
}
EXPORT_SYMBOL_GPL(phyr_blk_helper_uring_cmd_flags);

/* User space can write it at any time. */
__phyr_helper const u64 *phyr_blk_helper_uring_cmd_area(const struct io_uring_cmd *cmd)
{
	return (const u64 *)cmd->sqe->cmd;
}
EXPORT_SYMBOL_GPL(phyr_blk_helper_uring_cmd_area);

/* BIO is of memory of user space, or NULL: the command unmaps it before it ends. */
__phyr_helper void phyr_blk_helper_uring_cmd_keep(struct io_uring_cmd *cmd, struct bio *bio)
{
	io_uring_cmd_to_pdu(cmd, struct phyr_blk_uring_end)->bio = bio;
}
EXPORT_SYMBOL_GPL(phyr_blk_helper_uring_cmd_keep);
