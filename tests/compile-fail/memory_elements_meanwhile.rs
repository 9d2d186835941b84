// SPDX-License-Identifier: GPL-2.0

//! The elements of a vector are looked at while a device may write them.

use kernel::{prelude::*, sync::Arc};
use phyr::{memory::Bytes, DataDirection, Mapper};

pub fn first(mapper: &Mapper<'_>, vec: VVec<u32>) -> Result<Option<u32>> {
    let bytes = Arc::new(Bytes::new(vec)?, GFP_KERNEL)?;
    let mapping = mapper.map(bytes.clone(), DataDirection::FromDevice, GFP_KERNEL)?;
    #[cfg(compile_fail)]
    let _first = bytes.first().copied();
    //~^ error[E0599]: no method named `first` found for struct `Arc<
    drop((mapping, bytes));
    Ok(None)
}
