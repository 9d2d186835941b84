// SPDX-License-Identifier: GPL-2.0

//! The data of a disk is used when the disk is gone.

use phyr_blk::{GenDisk, Operations};

pub fn outlived<'bound, T: Operations>(
    disk: GenDisk<'bound, T>,
    look: impl Fn(&T::DiskData<'bound>),
) {
    let data = disk.data();
    #[cfg(compile_fail)]
    drop(disk);
    //~^ error[E0505]: cannot move out of `disk` because it is borrowed
    look(data);
}
