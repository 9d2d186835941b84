// SPDX-License-Identifier: GPL-2.0

//! A type is said to stay in place, without the word that vouches for it.

use kernel::prelude::*;
use phyr::{
    memory::{Memory, PagePieces, Pages},
    DataDirection,
};

struct Mine(Pages);

#[cfg(not(compile_fail))]
// SAFETY: it is its field's.
unsafe impl Memory for Mine {
    type Direction = DataDirection;

    type Phyrs<'a> = PagePieces<'a>;
    fn phyrs(&self) -> PagePieces<'_> {
        self.0.phyrs()
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    fn read(&self, offset: usize, to: &mut [u8]) -> Result {
        self.0.read(offset, to)
    }
    fn write(&mut self, offset: usize, from: &[u8]) -> Result {
        self.0.write(offset, from)
    }
}

#[cfg(compile_fail)]
impl Memory for Mine {
    //~^ error[E0200]: the trait `Memory` requires an `unsafe impl` declaration
    type Direction = DataDirection;

    type Phyrs<'a> = PagePieces<'a>;
    fn phyrs(&self) -> PagePieces<'_> {
        self.0.phyrs()
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    fn read(&self, offset: usize, to: &mut [u8]) -> Result {
        self.0.read(offset, to)
    }
    fn write(&mut self, offset: usize, from: &[u8]) -> Result {
        self.0.write(offset, from)
    }
}
