// SPDX-License-Identifier: GPL-2.0

/*
 * Helpers that are short and often called: where the kernel takes its own helpers in line into
 * Rust (CONFIG_RUST_INLINE_HELPERS), so does Kbuild with these.
 */

#include <linux/export.h>
#include <linux/percpu-refcount.h>

#include "bindings.h"

#ifndef __phyr_helper
#define __phyr_helper
#endif

__phyr_helper bool phyr_driver_helper_percpu_ref_tryget_live(struct percpu_ref *ref)
{
	return percpu_ref_tryget_live(ref);
}
EXPORT_SYMBOL_GPL(phyr_driver_helper_percpu_ref_tryget_live);

/* In a read-side critical section of RCU. */
__phyr_helper bool phyr_driver_helper_percpu_ref_tryget_live_rcu(struct percpu_ref *ref)
{
	return percpu_ref_tryget_live_rcu(ref);
}
EXPORT_SYMBOL_GPL(phyr_driver_helper_percpu_ref_tryget_live_rcu);

__phyr_helper void phyr_driver_helper_percpu_ref_put(struct percpu_ref *ref)
{
	percpu_ref_put(ref);
}
EXPORT_SYMBOL_GPL(phyr_driver_helper_percpu_ref_put);
