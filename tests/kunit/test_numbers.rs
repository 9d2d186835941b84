// SPDX-License-Identifier: GPL-2.0

//! Every number that safe code can pass to the library, at its edges.
//!
//! A call with any of them returns an errno of a short list, or does what it says. A WARNING or a
//! panic fails the run of the guest. The suites of the pure code, beside it, do the same without a
//! device: `phyr_types`, `phyr_map_plan`, `phyr_dma_vec`.

use crate::{
    check::Outcome,
    fixture::{
        buffer,
        contiguous,
        with_device,
        with_dma_api, //
    },
    table,
    test_numbers::{
        memory::{
            chunks,
            pages,
            repeated, //
        },
        values::{
            flags,
            is_much,
            numbers,
            one_of,
            DIR,
            LIST, //
        }, //
    }, //
};
use kernel::{
    alloc::Flags,
    page::{
        Page,
        PAGE_SIZE, //
    },
    prelude::*,
    ptr::Alignment, //
};
use phyr::{
    batch::Capacity,
    memory::{
        Memory,
        Pages, //
    },
    raw,
    source::bvec::BioVec,
    DataDirection,
    DmaAddr,
    Limits,
    Mapper,
    Slot, //
};
use phyr_dma_buf::{
    AccessMode,
    DmaBuf, //
};
use phyr_driver::completion::Completion;
use phyr_iommu::Domain;

mod memory;
mod values;

/// Opens a batch of `capacity`, and adds a page to it, which fits or is refused.
fn batch(mapper: &Mapper<'_>, capacity: Capacity, flags: Flags, number: usize) -> Outcome {
    let errors = [EINVAL, ENOMEM, EOVERFLOW];
    let batch = mapper.batch(capacity, DIR, flags);
    let Some(mut batch) = one_of(number, batch, &errors)? else {
        return Ok(());
    };
    match batch.add(buffer(1)?) {
        Ok(()) => {
            batch.finalise()?;
        }
        refused => {
            let refused = check_err!(refused, E2BIG);
            check_eq!(refused.value.len(), PAGE_SIZE);
        }
    }
    Ok(())
}

fn batches(mapper: &Mapper<'_>) -> Outcome {
    let one = Capacity {
        pieces: 1,
        segments: 1,
        bytes: PAGE_SIZE,
    };
    for pieces in numbers(LIST / size_of::<Pages>()) {
        if !is_much(pieces.saturating_mul(size_of::<Pages>())) {
            batch(mapper, Capacity { pieces, ..one }, GFP_KERNEL, pieces)?;
        }
    }
    for segments in numbers(LIST / size_of::<Slot>()) {
        if !is_much(segments.saturating_mul(size_of::<Slot>())) {
            batch(mapper, Capacity { segments, ..one }, GFP_KERNEL, segments)?;
        }
    }
    // The longest range, and the most that the device can tell.
    for limit in [PAGE_SIZE, 1 << 39, 1 << 48, 1 << 62] {
        for bytes in numbers(limit) {
            batch(mapper, Capacity { bytes, ..one }, GFP_KERNEL, bytes)?;
        }
    }
    for (nr, flags) in flags().into_iter().enumerate() {
        batch(mapper, one, flags, nr)?;
    }
    Ok(())
}

/// Returns whether `addr` is a multiple of that power of two.
fn is_aligned(addr: DmaAddr, shift: u32) -> bool {
    addr.into_raw().trailing_zeros() >= shift
}

/// Maps at a multiple of each power of two.
fn alignments(mapper: &Mapper<'_>) -> Outcome {
    let memory = || contiguous(1);
    macro_rules! at {
        ($($shift:literal)*) => {$({
            let align = Alignment::new::<{ 1 << $shift }>();
            if let Ok(linear) = mapper.linear_aligned(memory()?, DIR, align) {
                let addr = linear.dma_vec().addr();
                check!(is_aligned(addr, $shift), "{addr:?}, {align:?}");
            }
        })*};
    }
    at!(0 1 11 12 13 20 30 31 32 33 38 39 40 47 48 49 51 52 61 62 63);
    Ok(())
}

fn limits(mapper: &Mapper<'_>) -> Outcome {
    let dev = mapper.device();
    let smallest = mapper.granule().map_or(1, |granule| granule.size());
    // CAST: a `usize` is at most 64 bits wide.
    let smallest = smallest.max(PAGE_SIZE as u64);
    for number in numbers(smallest as usize) {
        let number = number as u64;
        let all = [
            Limits::NONE.with_max_segment(number),
            Limits::NONE.with_boundary_mask(number),
        ];
        for (nr, limits) in all.into_iter().enumerate() {
            let Some(limits) = limits else {
                continue;
            };
            let enough = number >= smallest - (nr as u64);
            let expected = if enough { None } else { Some(EINVAL) };
            check_eq!(Mapper::new(dev, limits).err(), expected, "{limits:?}");
        }
    }
    Ok(())
}

/// Checks that a mapper with `limits` maps if they keep fewer bits of an address than `most` has,
/// and is refused else.
fn keeps(mapper: &Mapper<'_>, limits: Limits, most: u64) -> Outcome {
    let mask = limits.min_align_mask();
    let mapper = Mapper::new(mapper.device(), limits);
    if u64::from(mask) < most {
        mapper?.map(buffer(1)?, DIR, GFP_KERNEL)?;
    } else {
        check_eq!(mapper.err(), Some(EINVAL), "{mask:#x}");
    }
    Ok(())
}

/// Checks that a mapper refuses to keep more bits of an address than a granule of the IOMMU, or a
/// page, has.
fn kept(mapper: &Mapper<'_>) -> Outcome {
    let dev = raw::device(mapper.device());
    let most = mapper
        .granule()
        .map_or(PAGE_SIZE as u64, |granule| granule.size());
    // SAFETY: the device is bound, and nothing is mapped for it: the suites run one test at a time.
    let state = unsafe { &raw mut (*(*dev).dma_parms).min_align_mask };
    // SAFETY: it is the device's, and nobody else changes it.
    let before = unsafe { *state };
    let mut result = Ok(());
    for shift in 0..=32 {
        // CAST: up to 32 ones.
        let mask = ((1u64 << shift) - 1) as u32;
        // SAFETY: nothing is mapped.
        unsafe { *state = mask };
        let limits = check_some!(Limits::NONE.with_min_align_mask(mask));
        result = keeps(mapper, limits, most);
        if result.is_err() {
            break;
        }
    }
    // SAFETY: nothing is mapped any more.
    unsafe { *state = before };
    result
}

fn domain(mapper: &Mapper<'_>) -> Outcome {
    let dev = mapper.device();
    if table::domain_type(dev).is_none() {
        return Ok(());
    }
    let domain = Domain::attach(dev, None)?;
    // CAST: the size of a granule is that of a page of the IOMMU.
    let granule = domain.granule().size() as usize;
    for size in Iterator::chain(numbers(granule), numbers(1 << 39)) {
        let errors = [EINVAL, EOVERFLOW, ENOSPC, ENOMEM];
        let mapper = domain.mapper(Limits::NONE, size);
        if let Some(mapper) = one_of(size, mapper, &errors)? {
            let dir = DataDirection::ToDevice;
            let mapping = mapper.map(buffer(2)?, dir, GFP_KERNEL).map(drop);
            let error = mapping.err().map(|refused| refused.error);
            if size > PAGE_SIZE {
                check_eq!(error, None, "{size:#x}");
            } else {
                check_matches!(error, Some(ENOSPC | EFBIG));
            }
        }
    }
    let access = phyr_iommu::Access::READ;
    for iova in Iterator::chain(numbers(granule), numbers(1 << 39)) {
        // CAST: a `usize` is at most 64 bits wide.
        let at = DmaAddr::from_raw(iova as u64);
        let memory = buffer(2)?;
        let mapped = domain.map_at(memory, at, access);
        if mapped.is_err() {
            continue;
        }
        check!(table::lookup(dev, at.into_raw()).is_some(), "{at:?}");
        drop(mapped);
        check_eq!(table::lookup(dev, at.into_raw()), None, "{at:?}");
    }
    for capacity in numbers(LIST / size_of::<Pages>()) {
        if !is_much(capacity.saturating_mul(size_of::<Pages>())) {
            let gather = domain.gather::<Pages>(capacity);
            one_of(capacity, gather, &[ENOMEM])?;
        }
    }
    Ok(())
}

#[kunit_tests(phyr_device_numbers)]
mod tests {
    use super::*;

    #[test]
    fn of_batches() -> Outcome {
        with_device(|_, mapper| batches(mapper))
    }

    #[test]
    fn of_pages() -> Outcome {
        with_device(|_, _| pages())
    }

    #[test]
    fn of_chunks() -> Outcome {
        with_device(|_, _| chunks())
    }

    #[test]
    fn of_memory_that_is_repeated() -> Outcome {
        with_device(|_, mapper| repeated(mapper))
    }

    #[test]
    fn of_linear_mappings() -> Outcome {
        with_device(|_, mapper| alignments(mapper))
    }

    #[test]
    fn of_limits() -> Outcome {
        with_dma_api(|_, mapper| limits(mapper))?;
        with_dma_api(|_, mapper| kept(mapper))
    }

    #[test]
    fn of_domains() -> Outcome {
        with_dma_api(|_, mapper| domain(mapper))
    }

    #[test]
    fn of_mappings() -> Outcome {
        with_device(|_, mapper| {
            for flags in flags() {
                let memory = buffer(5)?;
                drop(mapper.map(memory, DIR, flags)?);
            }
            let memory = contiguous(1)?;
            let mut mapping = mapper.map(memory, DIR, GFP_KERNEL)?;
            let (all, mut access) = (mapping.len(), mapping.cpu());
            let mut vmap = access.vmap()?;
            for offset in numbers(all) {
                let mut bytes = [0; 16];
                let expected = if offset.checked_add(16).is_some_and(|end| end <= all) {
                    Ok(())
                } else {
                    Err(EINVAL)
                };
                check_eq!(vmap.read(offset, &mut bytes), expected, "at {offset:#x}");
                check_eq!(vmap.write(offset, &bytes), expected, "at {offset:#x}");
            }
            Ok(())
        })
    }

    #[test]
    fn of_bio_vecs() -> Outcome {
        let page = Page::alloc_page(GFP_KERNEL)?;
        for offset in numbers(PAGE_SIZE) {
            for len in numbers(PAGE_SIZE) {
                let fits = len != 0 && offset.checked_add(len).is_some_and(|end| end <= PAGE_SIZE);
                let bio_vec = BioVec::new(&page, offset, len);
                check_eq!(bio_vec.is_ok(), fits, "{len:#x} at {offset:#x}");
            }
        }
        Ok(())
    }

    #[test]
    fn of_events() -> Outcome {
        let event = KBox::pin_init(Completion::new(), GFP_KERNEL)?;
        for timeout in [0, 1, i32::MAX as u32, 1 << 31, u32::MAX] {
            event.complete();
            check_eq!(event.wait_timeout(timeout), Ok(()), "{timeout}");
        }
        Ok(())
    }

    #[test]
    fn of_files() -> Outcome {
        for fd in [-1, i32::MIN, i32::MAX] {
            check_err!(DmaBuf::get(fd), EBADF);
        }
        for flags in numbers(3) {
            // CAST: the low bits are what is wanted.
            let flags = flags as u32;
            let access = AccessMode::from_flags(flags);
            check_eq!(access.is_some(), flags & 3 != 3, "{flags:#x}");
        }
        Ok(())
    }
}
