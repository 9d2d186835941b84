// SPDX-License-Identifier: GPL-2.0

/*
 * Exports the Rust symbols of the crate in this folder to the modules that use it. The list is
 * generated from the compiled crate; the kernel's build has no support of its own for it yet.
 */

#include <linux/export.h>

#define EXPORT_SYMBOL_RUST_GPL(sym) extern int sym; EXPORT_SYMBOL_GPL(sym)

#include "exports_generated.h"
