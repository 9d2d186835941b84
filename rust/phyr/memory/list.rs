// SPDX-License-Identifier: GPL-2.0

//! Memory: several pieces of memory, one after the other.

use super::traits::{
    check_range,
    Memory, //
};
use crate::{
    access::{
        Access,
        Direction, //
    },
    attrs::MemoryKind,
    types::Phyr, //
};
use kernel::prelude::*;

// SAFETY: each element keeps its own memory in place, as its own implementation promises; moving
// the vector does not even move the elements.
unsafe impl<M: Memory> Memory for KVVec<M> {
    const KIND: MemoryKind = M::KIND;

    type Direction = M::Direction;

    type Phyrs<'a> = Chain<'a, M>;

    fn phyrs(&self) -> Chain<'_, M> {
        Chain {
            elements: self.iter(),
            current: None,
        }
    }

    // Memory can be in it more than once, by an `Arc`, so that the sum is not bounded by what there
    // is of it. A list that is cut off here cannot be mapped: adding it up, `map` fails with
    // `EOVERFLOW`.
    fn len(&self) -> usize {
        self.iter()
            .fold(0, |sum, element| sum.saturating_add(element.len()))
    }

    fn access(&self) -> Access {
        self.iter().fold(M::Direction::ACCESS, |access, element| {
            access.common(element.access())
        })
    }

    fn read(&self, mut offset: usize, mut to: &mut [u8]) -> Result {
        check_range(offset, to.len(), Memory::len(self))?;
        for element in self {
            let nr = element.len().saturating_sub(offset).min(to.len());
            let (head, tail) = to.split_at_mut_checked(nr).ok_or(EINVAL)?;
            if nr != 0 {
                element.read(offset, head)?;
            }
            to = tail;
            offset = offset.saturating_sub(element.len());
        }
        Ok(())
    }

    fn write(&mut self, mut offset: usize, mut from: &[u8]) -> Result {
        check_range(offset, from.len(), Memory::len(self))?;
        for element in self {
            let nr = element.len().saturating_sub(offset).min(from.len());
            let (head, tail) = from.split_at_checked(nr).ok_or(EINVAL)?;
            if nr != 0 {
                element.write(offset, head)?;
            }
            from = tail;
            offset = offset.saturating_sub(element.len());
        }
        Ok(())
    }
}

/// The pieces of several [`Memory`]s, one after the other.
pub struct Chain<'a, M: Memory> {
    elements: core::slice::Iter<'a, M>,
    current: Option<M::Phyrs<'a>>,
}

impl<M: Memory> Clone for Chain<'_, M> {
    fn clone(&self) -> Self {
        Self {
            elements: self.elements.clone(),
            current: self.current.clone(),
        }
    }
}

impl<M: Memory> Iterator for Chain<'_, M> {
    type Item = Result<Phyr>;

    fn next(&mut self) -> Option<Result<Phyr>> {
        loop {
            if let Some(phyr) = self.current.as_mut().and_then(Iterator::next) {
                return Some(phyr);
            }
            self.current = Some(self.elements.next()?.phyrs());
        }
    }
}
