// SPDX-License-Identifier: GPL-2.0

//! Memory: memory that is shared, and that nobody writes.

use super::traits::Memory;
use crate::{
    access::Access,
    attrs::MemoryKind, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

// SAFETY: the memory stays where it is as long as any of the references is there, and no safe code
// gets at it but through one of them, none of which writes. A shared reference gives out no
// reference to the bytes, as `M` promises, so a device may write them.
unsafe impl<M: Memory + Sync> Memory for Arc<M> {
    const KIND: MemoryKind = M::KIND;

    type Direction = M::Direction;

    type Phyrs<'a> = M::Phyrs<'a>;

    fn phyrs(&self) -> M::Phyrs<'_> {
        M::phyrs(self)
    }

    fn len(&self) -> usize {
        M::len(self)
    }

    fn access(&self) -> Access {
        M::access(self)
    }

    fn read(&self, offset: usize, to: &mut [u8]) -> Result {
        M::read(self, offset, to)
    }

    /// # Errors
    ///
    /// - `EBUSY`: always; the memory is shared.
    fn write(&mut self, _offset: usize, _from: &[u8]) -> Result {
        Err(EBUSY)
    }
}
