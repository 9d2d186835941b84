// SPDX-License-Identifier: GPL-2.0

//! An exporter keeps the device of an importer for longer than that is attached.

use kernel::{device::Device, prelude::*, sync::aref::ARef};
use phyr_dma_buf::AttachmentRef;

fn keep_for_ever<T: 'static>(_: T) {}

pub fn attach(importer: &AttachmentRef<'_>) {
    keep_for_ever(ARef::<Device>::from(importer.device()));
    #[cfg(compile_fail)]
    keep_for_ever(importer.device());
    //~^ error[E0521]: borrowed data escapes outside of function
}
