// SPDX-License-Identifier: GPL-2.0

//! The exporter is used when the reference that keeps it is gone.

use kernel::prelude::*;
use phyr_dma_buf::{Exported, Exporter};

pub fn outlived<E: Exporter>(exported: Exported<E>, look: impl Fn(&E)) {
    let exporter = exported.exporter();
    #[cfg(compile_fail)]
    drop(exported);
    //~^ error[E0505]: cannot move out of `exported` because it is borrowed
    look(exporter);
}
