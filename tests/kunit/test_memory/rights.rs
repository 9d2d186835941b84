// SPDX-License-Identifier: GPL-2.0

//! Rights of a device to memory, which are known at run time only.

use crate::{
    check::Outcome,
    fixture::{
        piece,
        with_dma_api, //
    }, //
};
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    sync::Arc, //
};
use phyr::{
    batch::Capacity,
    memory::{
        Memory,
        PagePieces,
        Pages, //
    },
    Access,
    DataDirection,
    Mapper, //
};
use phyr_iommu::Domain;

/// Pages to which a device has the given rights.
struct Limited(Pages, Access);

// SAFETY: it is the memory of the value that this owns, which moves with it, with fewer rights.
unsafe impl Memory for Limited {
    type Direction = DataDirection;

    type Phyrs<'a> = PagePieces<'a>;

    fn phyrs(&self) -> PagePieces<'_> {
        self.0.phyrs()
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn access(&self) -> Access {
        self.1
    }

    fn read(&self, offset: usize, to: &mut [u8]) -> Result {
        self.0.read(offset, to)
    }

    fn write(&mut self, offset: usize, from: &[u8]) -> Result {
        self.0.write(offset, from)
    }
}

const DIRECTIONS: [DataDirection; 3] = [
    DataDirection::ToDevice,
    DataDirection::FromDevice,
    DataDirection::Bidirectional,
];

/// Rights, and whether each of [`DIRECTIONS`] is among them.
const RIGHTS: [(Access, [bool; 3]); 3] = [
    (Access::READ, [true, false, false]),
    (Access::WRITE, [false, true, false]),
    (Access::READ_WRITE, [true, true, true]),
];

/// Checks that memory with each of [`RIGHTS`] is mapped by `map` in the directions that are among
/// them, and in no other.
#[track_caller]
fn check_rights<M>(map: impl Fn(Limited, DataDirection) -> Result<M>) -> Outcome {
    for (access, allowed) in RIGHTS {
        for (dir, allowed) in Iterator::zip(DIRECTIONS.into_iter(), allowed) {
            let result = map(Limited(piece(0, PAGE_SIZE)?, access), dir).map(drop);
            let expected = if allowed { Ok(()) } else { Err(EACCES) };
            check_eq!(result, expected, "{access:?} in the direction {dir:?}");
        }
    }
    Ok(())
}

/// Each way to map memory by the DMA API.
pub(crate) fn by_mapper(mapper: &Mapper<'_>) -> Outcome {
    check_rights(|memory, dir| Ok(mapper.map(memory, dir, GFP_KERNEL)?))?;
    check_rights(|memory, dir| {
        let room = Capacity {
            pieces: 1,
            segments: 1,
            bytes: PAGE_SIZE,
        };
        let mut batch = mapper.batch(room, dir, GFP_KERNEL)?;
        batch.add(memory)?;
        batch.finalise()
    })?;
    check_rights(|memory, dir| Ok(mapper.linear_copy(memory, dir)?))?;
    // Nothing is linear where all is copied.
    if crate::is_bounced() {
        return Ok(());
    }
    check_rights(|memory, dir| Ok(mapper.linear(memory, dir)?))
}

/// Memory that consists of other memory has the rights to all of it.
pub(crate) fn of_others(mapper: &Mapper<'_>) -> Outcome {
    check_rights(|memory, dir| {
        let shared = Arc::new(memory, GFP_KERNEL)?;
        Ok(mapper.map(shared, dir, GFP_KERNEL)?)
    })?;
    check_rights(|memory, dir| {
        let mut list = KVVec::new();
        list.push(
            Limited(piece(0, PAGE_SIZE)?, Access::READ_WRITE),
            GFP_KERNEL,
        )?;
        list.push(memory, GFP_KERNEL)?;
        Ok(mapper.map(list, dir, GFP_KERNEL)?)
    })?;
    let mut both = KVVec::new();
    both.push(Limited(piece(0, PAGE_SIZE)?, Access::READ), GFP_KERNEL)?;
    both.push(Limited(piece(0, PAGE_SIZE)?, Access::WRITE), GFP_KERNEL)?;
    for dir in DIRECTIONS {
        let refused = mapper.map(both, dir, GFP_KERNEL);
        both = check_err!(refused, EACCES).value;
    }
    Ok(())
}

/// A domain of the driver's own.
pub(crate) fn in_a_domain() -> Outcome {
    with_dma_api(|pdev, mapper| {
        if mapper.granule().is_none() {
            return Ok(());
        }
        let domain = Domain::attach(pdev.as_ref(), None)?;
        check_rights(|memory, dir| Ok(domain.map(memory, Access::of(dir))?))
    })
}
