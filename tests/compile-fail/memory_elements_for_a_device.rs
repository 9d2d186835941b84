// SPDX-License-Identifier: GPL-2.0

//! Elements that a device must not write, or must not read, are mapped for it.

use kernel::prelude::*;
use phyr::memory::Bytes;

#[derive(FromBytes)]
#[repr(C)]
pub struct Padded {
    byte: u8,
    word: u32,
}

pub fn numbers(vec: VVec<[u16; 3]>, flags: KVec<bool>) -> Result {
    Bytes::new(vec)?;
    Bytes::read_only(flags)?;
    Ok(())
}

#[cfg(compile_fail)]
pub fn others(flags: KVec<bool>, references: KBox<&'static u8>, padded: VBox<Padded>) -> Result {
    Bytes::new(flags)?;
    //~^ error[E0277]: the trait bound `bool: zerocopy::FromBytes` is not satisfied
    Bytes::read_only(references)?;
    //~^ error[E0277]: the trait bound `&u8: IntoBytes` is not satisfied
    Bytes::new(padded)?;
    //~^ error[E0277]: the trait bound `Padded: IntoBytes` is not satisfied
    Ok(())
}
