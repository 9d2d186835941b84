// SPDX-License-Identifier: GPL-2.0

//! An importer that cannot be told to let go says that it can.

use kernel::{
    device::{Bound, Device},
    prelude::*,
    sync::{aref::ARef, Arc},
};
use phyr_dma_buf::{Attachment, DmaBuf, Invalidate, Static};

pub fn told<I: Invalidate>(
    dev: &Device<Bound>,
    buf: ARef<DmaBuf>,
    importer: Arc<I>,
    none: Arc<Static>,
) -> Result {
    Attachment::dynamic(dev, buf.clone(), false, importer)?;
    #[cfg(compile_fail)]
    Attachment::<Static>::dynamic(dev, buf, false, none)?;
    //~^ error[E0599]: the function or associated item `dynamic` exists for struct
    Ok(())
}
