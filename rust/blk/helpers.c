// SPDX-License-Identifier: GPL-2.0

/*
 * Functions for Rust that wrap static inline functions and macros of the kernel, and the end of an
 * io_uring command. No logic of phyr_blk's own lives here.
 */

#include <linux/capability.h>
#include <linux/export.h>
#include <linux/workqueue.h>

#include "bindings.h"

/* One class for lockdep: the work items are alike. */
void phyr_blk_helper_init_delayed_work(struct delayed_work *work, work_func_t func)
{
	INIT_DELAYED_WORK(work, func);
}
EXPORT_SYMBOL_GPL(phyr_blk_helper_init_delayed_work);

/* A function only with CONFIG_MULTIUSER. */
bool phyr_blk_helper_is_sys_admin(void)
{
	return capable(CAP_SYS_ADMIN);
}
EXPORT_SYMBOL_GPL(phyr_blk_helper_is_sys_admin);

/* Without CONFIG_IO_URING there are no registered buffers. */
int phyr_blk_helper_uring_cmd_import(struct io_uring_cmd *cmd, u64 addr, size_t len, int dir,
				     struct iov_iter *iter, unsigned int flags)
{
	return io_uring_cmd_import_fixed(addr, len, dir, iter, cmd, flags);
}
EXPORT_SYMBOL_GPL(phyr_blk_helper_uring_cmd_import);

int phyr_blk_helper_uring_cmd_import_vec(struct io_uring_cmd *cmd, const struct iovec __user *vecs,
					 size_t len, int dir, struct iov_iter *iter,
					 unsigned int flags)
{
	return io_uring_cmd_import_fixed_vec(cmd, vecs, len, dir, iter, flags);
}
EXPORT_SYMBOL_GPL(phyr_blk_helper_uring_cmd_import_vec);

static void phyr_blk_uring_cmd_done(struct io_tw_req tw_req, io_tw_token_t tw)
{
	struct io_uring_cmd *cmd = io_uring_cmd_from_tw(tw_req);
	struct phyr_blk_uring_end *end = io_uring_cmd_to_pdu(cmd, struct phyr_blk_uring_end);

	if (end->bio) {
		/* What was copied for the device has to be copied back. */
		int ret = blk_rq_unmap_user(end->bio);

		if (ret && !end->result)
			end->result = ret;
	}
	if (end->has_extra)
		io_uring_cmd_done32(cmd, end->result, end->extra,
				    IO_URING_CMD_TASK_WORK_ISSUE_FLAGS);
	else
		io_uring_cmd_done(cmd, end->result, IO_URING_CMD_TASK_WORK_ISSUE_FLAGS);
}

/* The command ends in the context of the task that it came from: nothing waits, so any context. */
void phyr_blk_helper_uring_cmd_complete(struct io_uring_cmd *cmd, s32 result, u64 extra,
					bool has_extra)
{
	struct phyr_blk_uring_end *end = io_uring_cmd_to_pdu(cmd, struct phyr_blk_uring_end);

	end->result = result;
	end->extra = extra;
	end->has_extra = has_extra;
	io_uring_cmd_do_in_task_lazy(cmd, phyr_blk_uring_cmd_done);
}
EXPORT_SYMBOL_GPL(phyr_blk_helper_uring_cmd_complete);
