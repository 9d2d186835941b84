// SPDX-License-Identifier: GPL-2.0

//! Mappings that own their memory, ended with one flush of the IOTLB.

use super::{
    mapping::Mapping,
    state::{
        Slot,
        State, //
    },
    unmap_batch::{
        IotlbGather,
        Unmapping, //
    }, //
};
use crate::{
    mapper::Mapper,
    memory::Memory, //
};
use core::pin::pin;
use kernel::prelude::*;

/// Ends all of `mappings`, and gives the memory back in their order. The device must be done with
/// it.
///
/// The IOTLB is flushed once for all that are next to each other and of one mapper, before the
/// first memory is given back. Where they cannot be flushed together each ends by itself, as
/// [`Mapping::unmap`].
///
/// Context: as [`Mapping::unmap`].
///
/// # Examples
///
/// ```
/// use kernel::prelude::*;
/// use phyr::{mapping::Mapping, memory::Pages, unmap_all, DataDirection, Mapper};
///
/// /// Receives into `nr` buffers, which the device fills as `start` says.
/// fn receive<'m>(
///     mapper: &Mapper<'m>,
///     nr: usize,
///     start: impl Fn(&Mapping<'m, Pages>),
/// ) -> Result<KVVec<Pages>> {
///     let mut mappings = KVVec::new();
///     for _ in 0..nr {
///         let pages = Pages::zeroed(4096, GFP_KERNEL)?;
///         let mapping = mapper.map(pages, DataDirection::FromDevice, GFP_KERNEL)?;
///         start(&mapping);
///         mappings.push(mapping, GFP_KERNEL)?;
///     }
///     // ... wait for the device ...
///     let mut received = KVVec::new();
///     for pages in unmap_all(mappings) {
///         received.push(pages, GFP_KERNEL)?;
///     }
///     Ok(received)
/// }
/// ```
pub fn unmap_all<'bound, M: Memory>(
    mut mappings: KVVec<Mapping<'bound, M>>,
) -> impl Iterator<Item = M> + use<'bound, M> {
    for alike in mappings.chunk_by_mut(|a, b| a.mapper().is_same(b.mapper())) {
        unmap(alike);
    }
    // Nothing is left for any of them to end.
    mappings.into_iter().map(Mapping::unmap)
}

/// Ends mappings by one mapper, all but for their memory.
fn unmap<M: Memory>(mappings: &mut [Mapping<'_, M>]) {
    let Some(first) = mappings.first() else {
        return;
    };
    let (mapper, gather) = (first.mapper().clone(), pin!(IotlbGather::new()));
    let Some(mut unmapping) = Unmapping::new(&mapper, gather) else {
        // Each ends by itself, as the caller takes its memory.
        return;
    };
    for mapping in &mut *mappings {
        let (state, slots) = mapping.state_mut();
        // SAFETY: by the invariants of the mapping they are those of a mapping by this mapper. The
        // memory stays with the mapping, and the slots as they are; that the device is done is the
        // driver's part.
        let _ = unsafe { unmapping.unmap(state, || slots) };
    }
    let flushed = unmapping.flush();
    for mapping in mappings {
        let (state, slots) = mapping.state_mut();
        // SAFETY: it was unmapped so, just above.
        unsafe { flushed.free(state, || slots) };
    }
}

impl<'bound, M: Memory> Mapping<'bound, M> {
    fn mapper(&self) -> &Mapper<'bound> {
        &self.mapped.mapper
    }

    fn state_mut(&mut self) -> (&mut State, &[Slot]) {
        (&mut self.mapped.state, &self.mapped.slots)
    }
}
