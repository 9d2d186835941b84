// SPDX-License-Identifier: GPL-2.0

//! Attributes, geometry and name of a disk, as user space sees them.

use crate::{
    check::Outcome,
    test_blk::{
        device::{
            disk,
            tag_set,
            Device, //
        },
        file::{
            read,
            File, //
        }, //
    }, //
};
use core::sync::atomic::Ordering::Relaxed;
use kernel::prelude::*;
use phyr_driver::scope::Scope;

/// Attributes are there from the start of a disk to its end, and so is the data they show.
pub(crate) fn attributes(scope: Scope<'_>) -> Outcome {
    let device = Device::new()?;
    device.at_once.store(true, Relaxed);
    let set = tag_set::<false, false>(scope, &device, 1)?;
    for sectors in [0, 64] {
        let (disk, seen) = disk(&set, sectors)?;
        check_eq!(&*read(c"/sys/block/phyrtest0/serial")?, b"12345678\n");
        let slot = read(c"/sys/block/phyrtest0/slot");
        if sectors == 0 {
            check_err!(slot, ENOENT);
        } else {
            slot?;
        }
        check_err!(read(c"/sys/block/phyrtest0/error"), ENODATA);
        check_err!(read(c"/sys/block/phyrtest0/too_much"), EINVAL);
        let kept = File::open(c"/sys/block/phyrtest0/serial")?;
        drop(disk);
        check_eq!(seen.dropped.load(Relaxed), 1);
        check_err!(kept.read(&mut [0; 16]), ENODEV);
        check_err!(File::open(c"/sys/block/phyrtest0/serial"), ENOENT);
    }
    Ok(())
}

/// Asks for a geometry after the disk was removed.
pub(crate) fn geometry(scope: Scope<'_>) -> Outcome {
    let device = Device::new()?;
    device.at_once.store(true, Relaxed);
    let set = tag_set::<false, false>(scope, &device, 1)?;
    let (disk, _) = disk(&set, 3 * 2048 + 2047)?;
    let file = File::open(c"/dev/phyrtest0")?;
    check_eq!(file.geometry(), Ok((64, 32, 3)));
    drop(disk);
    drop(set);
    check_eq!(file.geometry(), Ok((64, 32, 0)));
    Ok(())
}

/// Checks that a number is free again when its disk was removed.
pub(crate) fn numbers(scope: Scope<'_>) -> Outcome {
    let device = Device::new()?;
    let set = tag_set::<false, false>(scope, &device, 1)?;
    let (first, _) = disk(&set, 0)?;
    let (_second, _) = disk(&set, 0)?;
    let is_there = |path| File::open(path).is_ok();
    check!(is_there(c"/sys/block/phyrtest0/size"));
    check!(is_there(c"/sys/block/phyrtest1/size"));
    drop(first);
    check!(!is_there(c"/sys/block/phyrtest0/size"));
    let (_third, _) = disk(&set, 0)?;
    check!(
        is_there(c"/sys/block/phyrtest0/size"),
        "the number was not free"
    );
    check!(
        !is_there(c"/sys/block/phyrtest2/size"),
        "the number was not free"
    );
    Ok(())
}
