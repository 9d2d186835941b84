/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Declarations for phyr_blk that the kernel's own bindings do not carry: the functions of helpers.c
 * and inline.c, which wrap static inline functions and macros, the flags of io_uring commands, and
 * types that they only have by name.
 */
#ifndef _PHYR_BLK_BINDINGS_H
#define _PHYR_BLK_BINDINGS_H

#include <linux/blk-mq.h>
#include <linux/hdreg.h>
#include <linux/io_uring/cmd.h>
#include <linux/workqueue.h>

/* What a command needs at its end, in the part of it that is for its driver. */
struct phyr_blk_uring_end {
	struct bio *bio;
	u64 extra;
	s32 result;
	bool has_extra;
};

void phyr_blk_helper_init_delayed_work(struct delayed_work *work, work_func_t func);

bool phyr_blk_helper_is_sys_admin(void);

struct file *phyr_blk_helper_uring_cmd_file(const struct io_uring_cmd *cmd);
u32 phyr_blk_helper_uring_cmd_op(const struct io_uring_cmd *cmd);
u32 phyr_blk_helper_uring_cmd_flags(const struct io_uring_cmd *cmd);
const u64 *phyr_blk_helper_uring_cmd_area(const struct io_uring_cmd *cmd);
int phyr_blk_helper_uring_cmd_import(struct io_uring_cmd *cmd, u64 addr, size_t len, int dir,
				     struct iov_iter *iter, unsigned int flags);
int phyr_blk_helper_uring_cmd_import_vec(struct io_uring_cmd *cmd, const struct iovec __user *vecs,
					 size_t len, int dir, struct iov_iter *iter,
					 unsigned int flags);
void phyr_blk_helper_uring_cmd_keep(struct io_uring_cmd *cmd, struct bio *bio);
void phyr_blk_helper_uring_cmd_complete(struct io_uring_cmd *cmd, s32 result, u64 extra,
					bool has_extra);

bool phyr_blk_helper_add_to_batch(struct request *rq, struct io_comp_batch *iob);

#endif /* _PHYR_BLK_BINDINGS_H */
