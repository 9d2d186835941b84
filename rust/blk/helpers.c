// SPDX-License-Identifier: GPL-2.0

/*
 * Functions for Rust that wrap static inline functions and macros of the kernel, and the layout of
 * an io_uring command. No logic of phyr_blk's own lives here.
 */

#include <linux/export.h>
#include <linux/workqueue.h>

#include "bindings.h"

/* One class for lockdep: the work items are alike. */
void phyr_blk_helper_init_delayed_work(struct delayed_work *work, work_func_t func)
{
	INIT_DELAYED_WORK(work, func);
}
EXPORT_SYMBOL_GPL(phyr_blk_helper_init_delayed_work);

struct file *phyr_blk_helper_uring_cmd_file(const struct io_uring_cmd *cmd)
{
	return cmd->file;
}
EXPORT_SYMBOL_GPL(phyr_blk_helper_uring_cmd_file);

u32 phyr_blk_helper_uring_cmd_op(const struct io_uring_cmd *cmd)
{
	return cmd->cmd_op;
}
EXPORT_SYMBOL_GPL(phyr_blk_helper_uring_cmd_op);

u32 phyr_blk_helper_uring_cmd_flags(const struct io_uring_cmd *cmd)
{
	return cmd->flags & IORING_URING_CMD_MASK;
}
EXPORT_SYMBOL_GPL(phyr_blk_helper_uring_cmd_flags);

/* Reads each word of the command area once: user space can write it at the same time. */
void phyr_blk_helper_uring_cmd_read(const struct io_uring_cmd *cmd, u64 *to, size_t words)
{
	const u64 *from = (const u64 *)cmd->sqe->cmd;

	while (words--)
		*to++ = READ_ONCE(*from++);
}
EXPORT_SYMBOL_GPL(phyr_blk_helper_uring_cmd_read);

static void phyr_blk_uring_cmd_done(struct io_tw_req tw_req, io_tw_token_t tw)
{
	struct io_uring_cmd *cmd = io_uring_cmd_from_tw(tw_req);

	io_uring_cmd_done(cmd, *io_uring_cmd_to_pdu(cmd, s32),
			  IO_URING_CMD_TASK_WORK_ISSUE_FLAGS);
}

/* The command ends in the context of the task that it came from: nothing waits, so any context. */
void phyr_blk_helper_uring_cmd_complete(struct io_uring_cmd *cmd, s32 result)
{
	*io_uring_cmd_to_pdu(cmd, s32) = result;
	io_uring_cmd_do_in_task_lazy(cmd, phyr_blk_uring_cmd_done);
}
EXPORT_SYMBOL_GPL(phyr_blk_helper_uring_cmd_complete);
