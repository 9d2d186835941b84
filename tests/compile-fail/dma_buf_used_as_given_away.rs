// SPDX-License-Identifier: GPL-2.0

//! A buffer is used when its reference has become a file descriptor's.

use kernel::{
    fs::File,
    prelude::*,
    sync::aref::ARef, //
};
use phyr_dma_buf::{
    DmaBuf,
    Exported, //
};

pub fn given<E: Send + Sync>(exported: Exported<E>) -> Result<ARef<File>> {
    let file = DmaBuf::into_file(exported.into_dma_buf())?;
    #[cfg(compile_fail)]
    exported.revoke()?;
    //~^ error[E0382]: borrow of moved value: `exported`
    Ok(file)
}
