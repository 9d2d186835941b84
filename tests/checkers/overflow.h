/* SPDX-License-Identifier: GPL-2.0 */
/* Rust functions of phyr_broken. */
#ifndef PHYR_BROKEN_OVERFLOW_H
#define PHYR_BROKEN_OVERFLOW_H

#include <linux/types.h>

u32 phyr_broken_overflow(u32 by);
u8 phyr_broken_rust_uaf(void);

#endif /* PHYR_BROKEN_OVERFLOW_H */
