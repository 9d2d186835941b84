// SPDX-License-Identifier: GPL-2.0

//! Invariants of the design that only a test can check; Documentation/invariants.rst lists those
//! that the types keep.

use crate::{
    check::Outcome,
    fixture::{
        buffer,
        pattern,
        piece,
        with_device, //
    },
    table, //
};
use core::mem::ManuallyDrop;
use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};
use phyr::{
    memory::{
        Memory,
        Pages, //
    },
    DataDirection,
    State, //
};

#[kunit_tests(phyr_device_invariants)]
mod tests {
    use super::*;

    /// A leaked mapping keeps its page: the device reaches it, and it is not allocated again.
    #[test]
    fn a_leaked_mapping_keeps_its_memory() -> Outcome {
        with_device(|_, mapper| {
            let place = |memory: &Pages| {
                let mut phyrs = phyr::memory::segments(memory, *mapper.limits()).flatten();
                phyrs.next().map(|phyr| phyr.paddr())
            };
            let memory = piece(0, PAGE_SIZE)?;
            let ours = place(&memory);
            let mapping = mapper.map(memory, DataDirection::FromDevice, GFP_KERNEL)?;
            let vec = check_some!(mapping.dma_vecs().next());
            let addr = vec.addr().into_raw();
            let before = table::lookup(mapper.device(), addr);
            // As good as forgotten, but dropped in the end, for kmemleak.
            let mut leaked = ManuallyDrop::new(mapping);

            // Were the page free, one of these would be it.
            for _ in 0..64 {
                let other = piece(0, PAGE_SIZE)?;
                check_cmp!(place(&other), !=, ours);
            }
            check_eq!(table::lookup(mapper.device(), addr), before);
            // SAFETY: it is dropped once, here.
            unsafe { ManuallyDrop::drop(&mut leaked) };
            Ok(())
        })
    }

    /// The CPU's guard reads and writes the mapped memory, within its bounds.
    #[test]
    fn the_cpu_has_its_turn() -> Outcome {
        with_device(|_, mapper| {
            let mut mapping = mapper.map(buffer(3)?, DataDirection::Bidirectional, GFP_KERNEL)?;
            let at = PAGE_SIZE - 4;
            let bytes = core::array::from_fn::<u8, 8, _>(pattern);
            mapping.cpu().write(at, &bytes)?;

            let mut seen = [0; 8];
            mapping.cpu().read(at, &mut seen)?;
            check_eq!(seen, bytes);
            check!(mapping.cpu().read(3 * PAGE_SIZE - 7, &mut seen).is_err());
            check!(mapping.cpu().write(usize::MAX, &bytes).is_err());
            let memory = mapping.unmap();
            memory.read(at, &mut seen)?;
            check_eq!(seen, bytes);
            Ok(())
        })
    }

    /// Taking the unmap state leaves nothing to unmap.
    #[test]
    fn a_state_is_taken_once() -> Outcome {
        let mut state = State::UNMAPPED;
        check!(!state.is_mapped());
        check!(!state.take().is_mapped());
        check_eq!(core::mem::size_of::<State>(), 24);
        Ok(())
    }
}
