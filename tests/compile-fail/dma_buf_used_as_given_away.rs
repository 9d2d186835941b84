// SPDX-License-Identifier: GPL-2.0

//! A buffer is used when its reference has become a file descriptor.

use kernel::prelude::*;
use phyr_dma_buf::Exported;

pub fn given<E: Send + Sync>(exported: Exported<E>) -> Result<i32> {
    let fd = exported.into_fd(0)?;
    #[cfg(misuse)]
    exported.revoke()?;
    //~^ error[E0382]: borrow of moved value: `exported`
    Ok(fd)
}
