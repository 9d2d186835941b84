// SPDX-License-Identifier: GPL-2.0

//! A device attaches that no driver is bound to: nobody would detach it.

use kernel::{
    device::{Bound, Device},
    prelude::*,
    sync::aref::ARef,
};
use phyr_dma_buf::{Attachment, DmaBuf};

pub fn attached(bound: &Device<Bound>, dev: &Device, buf: &ARef<DmaBuf>) -> Result {
    Attachment::static_importer(bound, buf.clone())?;
    #[cfg(compile_fail)]
    Attachment::static_importer(dev, buf.clone())?;
    //~^ error[E0308]: mismatched types
    Ok(())
}
