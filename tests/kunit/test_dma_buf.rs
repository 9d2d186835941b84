// SPDX-License-Identifier: GPL-2.0

//! dma-buf on a device: an importer and an exporter of the library, by bytes that the device moves.

use crate::{
    buffers::{
        dynamic,
        fill,
        find,
        fixed,
        holds,
        ranges,
        Fixture,
        BOTH, //
    },
    check::{
        Failure,
        Outcome, //
    },
    edu::{
        Engine,
        BUFFER, //
    },
    fixture::with_dma_api,
    table, //
};
use core::sync::atomic::Ordering::Relaxed;
use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};
use phyr::{
    linear::LinearError,
    DataDirection,
    Limits,
    Mapper, //
};
use phyr_dma_buf::{
    AccessMode,
    Attachment, //
};

/// Copies a page within the buffer by the device; the CPU sees it while it is mapped, and later.
fn carry<I>(
    fixture: &Fixture,
    attachment: &Attachment<I>,
    engine: &Engine<'_>,
    mapper: &Mapper<'_>,
) -> Outcome {
    let buf = fixture.buf.dma_buf();
    let (from, to) = (2 * PAGE_SIZE, 9 * PAGE_SIZE);
    fill(buf, from, BUFFER, 1)?;

    attachment.map(BOTH)?;
    let vecs = ranges(attachment)?;
    check_eq!(vecs.iter().map(|vec| vec.len()).sum::<usize>(), buf.size());
    table::check(mapper, vecs.iter().copied(), fixture.phyrs.iter().copied())?;

    let (vec, at) = find(&vecs, from)?;
    engine.read(vec, at, BUFFER)?;
    let (vec, at) = find(&vecs, to)?;
    engine.write(vec, at, BUFFER)?;
    holds(buf, to, BUFFER, 1)?;

    // The other way: what the CPU writes meanwhile, the device reads.
    fill(buf, from, BUFFER, 2)?;
    let (vec, at) = find(&vecs, from)?;
    engine.read(vec, at, BUFFER)?;
    let (vec, at) = find(&vecs, 0)?;
    engine.write(vec, at, BUFFER)?;

    attachment.unmap();
    table::check_gone(mapper, vecs.iter().copied())?;
    holds(buf, to, BUFFER, 1)?;
    holds(buf, 0, BUFFER, 2)
}

/// Checks that all segments are one range, as they must be behind an IOMMU, or that the gap before
/// the first segment that does not adjoin is found.
fn linear(mapper: &Mapper<'_>, attachment: &Attachment<phyr_dma_buf::Static>) -> Outcome {
    let (mut end, mut gap) = (None, None);
    for (nr, vec) in ranges(attachment)?.iter().enumerate() {
        let start = vec.addr().into_raw();
        if end.is_some_and(|end| end != start) {
            gap = gap.or(Some(nr));
        }
        // CAST: a `usize` is at most 64 bits wide.
        end = Some(start + vec.len() as u64);
    }
    let before = |nr| {
        let vecs = ranges(attachment)?;
        Ok::<usize, Failure>(vecs.iter().take(nr).map(|vec| vec.len()).sum())
    };
    let Some(phyr) = gap else {
        check_eq!(attachment.linear()?.len(), attachment.dma_buf().size());
        return Ok(());
    };
    check!(mapper.granule().is_none(), "a gap before segment {phyr}");
    // CAST: the tests run on 64 bits.
    let offset = before(phyr)? as u64;
    check_eq!(attachment.linear(), Err(LinearError::Gap { phyr, offset }));
    Ok(())
}

#[kunit_tests(phyr_device_dma_buf)]
mod tests {
    use super::*;

    #[test]
    fn bytes_both_ways_static() -> Outcome {
        with_dma_api(|pdev, mapper| {
            let fixture = Fixture::new(40)?;
            let engine = Engine::new(pdev)?;
            let attachment = fixed(pdev.as_ref(), &fixture)?;
            carry(&fixture, &attachment, &engine, mapper)?;
            // And again: an attachment can be mapped many times.
            carry(&fixture, &attachment, &engine, mapper)?;
            drop(attachment);
            fixture.end()
        })
    }

    #[test]
    fn bytes_both_ways_dynamic() -> Outcome {
        with_dma_api(|pdev, mapper| {
            let fixture = Fixture::new(40)?;
            let engine = Engine::new(pdev)?;
            let (attachment, told) = dynamic(pdev.as_ref(), &fixture)?;
            carry(&fixture, &attachment, &engine, mapper)?;
            drop(attachment);
            check_eq!(told.0.load(Relaxed), 0);
            fixture.end()
        })
    }

    #[test]
    fn mapped_once_an_attachment_but_by_many() -> Outcome {
        with_dma_api(|pdev, _| {
            let fixture = Fixture::new(4)?;
            let one = fixed(pdev.as_ref(), &fixture)?;
            let (two, _) = dynamic(pdev.as_ref(), &fixture)?;
            check_err!(one.dma_vecs(|_| ()), ENXIO);
            one.map(BOTH)?;
            check_err!(one.map(BOTH), EBUSY);
            two.map(BOTH)?;
            check_eq!(fixture.buf.counts(), (2, 2));
            one.unmap();
            one.unmap();
            check_eq!(fixture.buf.counts(), (2, 1));
            check!(one.dma_vecs(|_| ()).is_err());
            check!(two.dma_vecs(|_| ()).is_ok());
            // Dropped while it is mapped.
            drop((one, two));
            fixture.end()
        })
    }

    #[test]
    fn linear_looks_at_every_segment() -> Outcome {
        with_dma_api(|pdev, mapper| {
            let fixture = Fixture::new(40)?;
            let attachment = fixed(pdev.as_ref(), &fixture)?;
            check_eq!(attachment.linear(), Err(LinearError::Failed(ENXIO)));
            attachment.map(BOTH)?;
            linear(mapper, &attachment)?;
            drop(attachment);
            fixture.end()
        })
    }

    #[test]
    fn entries_are_cut_for_the_device() -> Outcome {
        with_dma_api(|pdev, mapper| {
            let fixture = Fixture::new(40)?;
            let attachment = fixed(pdev.as_ref(), &fixture)?;
            attachment.map(BOTH)?;
            let vecs = ranges(&attachment)?;
            let limits = Limits::of_device(pdev.as_ref());
            for vec in &vecs {
                // CAST: a `usize` is at most 64 bits wide.
                check_cmp!(vec.len() as u64, <=, limits.max_len_at(vec.addr().into_raw()));
            }
            if mapper.granule().is_some() {
                check_eq!(vecs.len(), (40 * PAGE_SIZE).div_ceil(0x10000));
            }
            drop(attachment);
            fixture.end()
        })
    }

    #[test]
    fn a_file_for_reading_is_not_written() -> Outcome {
        use DataDirection::{
            FromDevice,
            ToDevice, //
        };
        with_dma_api(|pdev, _| {
            for (access, dir, expected) in [
                (AccessMode::ReadOnly, ToDevice, Ok(())),
                (AccessMode::ReadOnly, FromDevice, Err(EACCES)),
                (AccessMode::ReadOnly, BOTH, Err(EACCES)),
                (AccessMode::WriteOnly, FromDevice, Ok(())),
                (AccessMode::WriteOnly, ToDevice, Err(EACCES)),
                (AccessMode::WriteOnly, BOTH, Err(EACCES)),
                (AccessMode::ReadWrite, BOTH, Ok(())),
                (AccessMode::ReadWrite, DataDirection::None, Err(EINVAL)),
            ] {
                let fixture = Fixture::with(2, access, None)?;
                let attachment = fixed(pdev.as_ref(), &fixture)?;
                check_eq!(attachment.map(dir), expected, "{access:?}, {dir:?}");
                drop(attachment);
                fixture.end()?;
            }
            Ok(())
        })
    }

    #[test]
    fn the_cpu_keeps_to_the_file_and_the_bounds() -> Outcome {
        let fixture = Fixture::with(2, AccessMode::ReadOnly, None)?;
        let buf = fixture.buf.dma_buf();
        check!(buf.cpu(DataDirection::ToDevice).is_err());
        check!(buf.cpu(BOTH).is_err());
        let mut cpu = buf.cpu(DataDirection::FromDevice)?;
        let (size, mut bytes) = (buf.size(), [1; 2]);
        check_err!(cpu.write(0, &bytes), EACCES);
        check!(cpu.read(size - 1, &mut bytes).is_err());
        check!(cpu.read(usize::MAX, &mut bytes).is_err());
        cpu.read(size - 2, &mut bytes)?;
        check_eq!(bytes, [0; 2]);
        drop(cpu);
        fixture.end()
    }
}
