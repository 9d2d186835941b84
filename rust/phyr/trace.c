// SPDX-License-Identifier: GPL-2.0

/* Makes the tracepoints of trace.h, and the functions by which Rust fires them. */

#include <linux/export.h>
#include <linux/module.h>

#define CREATE_TRACE_POINTS
#define CREATE_RUST_TRACE_POINTS
#include "trace.h"

#ifdef CONFIG_TRACEPOINTS
EXPORT_TRACEPOINT_SYMBOL_GPL(phyr_map);
EXPORT_TRACEPOINT_SYMBOL_GPL(phyr_descriptors);
EXPORT_SYMBOL_GPL(rust_do_trace_phyr_map);
EXPORT_SYMBOL_GPL(rust_do_trace_phyr_descriptors);
#endif
