// SPDX-License-Identifier: GPL-2.0

//! dma-buf on a device: what an importer of the library gets of an exporter of the library, by the
//! bytes that the device moves.

use crate::{
    buffers::{
        dynamic,
        fill,
        find,
        fixed,
        holds,
        ranges,
        Fixture,
        Outcome,
        BOTH, //
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
    DataDirection,
    Limits,
    Mapper, //
};
use phyr_dma_buf::{
    Access,
    Attachment,
    NotLinear, //
};

/// The device copies a page within the buffer; the CPU sees it, while it is mapped and afterwards.
fn carry<I>(
    fixture: &Fixture,
    attachment: &Attachment<I>,
    engine: &Engine<'_>,
    mapper: &Mapper<'_>,
) -> Outcome {
    let buf = fixture.buf.dma_buf();
    let (from, to) = (2 * PAGE_SIZE, 9 * PAGE_SIZE);
    fill(buf, from, BUFFER, 1)?;

    attachment.map(BOTH).map_err(|_| "not mapped")?;
    let vecs = ranges(attachment)?;
    if vecs.iter().map(|vec| vec.len()).sum::<usize>() != buf.size() {
        return Err("not as long as the buffer");
    }
    table::check(mapper, vecs.iter().copied(), fixture.phyrs.iter().copied())?;

    let (vec, at) = find(&vecs, from)?;
    engine.read(vec, at, BUFFER).map_err(|_| "no read")?;
    let (vec, at) = find(&vecs, to)?;
    engine.write(vec, at, BUFFER).map_err(|_| "no write")?;
    holds(buf, to, BUFFER, 1)?;

    // The other way: what the CPU writes meanwhile, the device reads.
    fill(buf, from, BUFFER, 2)?;
    let (vec, at) = find(&vecs, from)?;
    engine.read(vec, at, BUFFER).map_err(|_| "no read")?;
    let (vec, at) = find(&vecs, 0)?;
    engine.write(vec, at, BUFFER).map_err(|_| "no write")?;

    attachment.unmap();
    table::check_gone(mapper, vecs.iter().copied())?;
    holds(buf, to, BUFFER, 1)?;
    holds(buf, 0, BUFFER, 2)
}

/// All of the segments are one range, as they must be behind an IOMMU; or else there is a gap where
/// the first one begins that does not adjoin the one before.
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
        Ok::<usize, &'static str>(vecs.iter().take(nr).map(|vec| vec.len()).sum())
    };
    match (attachment.linear(), gap) {
        (Ok(vec), None) if vec.len() == attachment.len() => Ok(()),
        (Err(NotLinear::Gap { segment, offset }), Some(nr)) if mapper.granule().is_none() => {
            if segment != nr || before(nr)? != offset {
                return Err("the gap is elsewhere");
            }
            Ok(())
        }
        _ => Err("not as expected"),
    }
}

#[kunit_tests(phyr_device_dma_buf)]
mod tests {
    use super::*;

    #[test]
    fn bytes_both_ways_static() {
        let result = with_dma_api(|pdev, mapper| {
            let fixture = Fixture::new(40)?;
            let engine = Engine::new(pdev).map_err(|_| "no engine")?;
            let attachment = fixed(pdev.as_ref(), &fixture).map_err(|_| "not attached")?;
            carry(&fixture, &attachment, &engine, mapper)?;
            // And again: an attachment can be mapped many times.
            carry(&fixture, &attachment, &engine, mapper)?;
            drop(attachment);
            fixture.end()
        });
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn bytes_both_ways_dynamic() {
        let result = with_dma_api(|pdev, mapper| {
            let fixture = Fixture::new(40)?;
            let engine = Engine::new(pdev).map_err(|_| "no engine")?;
            let (attachment, told) = dynamic(pdev.as_ref(), &fixture)?;
            carry(&fixture, &attachment, &engine, mapper)?;
            drop(attachment);
            if told.0.load(Relaxed) != 0 {
                return Err("told, though not mapped");
            }
            fixture.end()
        });
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn mapped_once_an_attachment_but_by_many() {
        let result = with_dma_api(|pdev, _| {
            let fixture = Fixture::new(4)?;
            let one = fixed(pdev.as_ref(), &fixture).map_err(|_| "not attached")?;
            let (two, _) = dynamic(pdev.as_ref(), &fixture)?;
            if !matches!(one.dma_vecs(|_| ()), Err(e) if e == ENXIO) {
                return Err("ranges before it is mapped");
            }
            one.map(BOTH).map_err(|_| "not mapped")?;
            if one.map(BOTH) != Err(EBUSY) {
                return Err("mapped twice");
            }
            two.map(BOTH).map_err(|_| "not mapped by another")?;
            if fixture.buf.counts() != (2, 2) {
                return Err("miscounted");
            }
            one.unmap();
            one.unmap();
            if fixture.buf.counts() != (2, 1) || one.is_mapped() || !two.is_mapped() {
                return Err("miscounted after an unmap");
            }
            // Dropped while it is mapped.
            drop((one, two));
            fixture.end()
        });
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn linear_looks_at_every_segment() {
        let result = with_dma_api(|pdev, mapper| {
            let fixture = Fixture::new(40)?;
            let attachment = fixed(pdev.as_ref(), &fixture).map_err(|_| "not attached")?;
            if attachment.linear() != Err(NotLinear::Not(ENXIO)) {
                return Err("linear before it is mapped");
            }
            attachment.map(BOTH).map_err(|_| "not mapped")?;
            linear(mapper, &attachment)?;
            drop(attachment);
            fixture.end()
        });
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn entries_are_cut_for_the_device() {
        let result = with_dma_api(|pdev, mapper| {
            let fixture = Fixture::new(40)?;
            let attachment = fixed(pdev.as_ref(), &fixture).map_err(|_| "not attached")?;
            attachment.map(BOTH).map_err(|_| "not mapped")?;
            let vecs = ranges(&attachment)?;
            let limits = Limits::of_device(pdev.as_ref());
            for vec in &vecs {
                // CAST: a `usize` is at most 64 bits wide.
                if vec.len() as u64 > limits.room(vec.addr().into_raw()) {
                    return Err("an entry is over the limits");
                }
            }
            if mapper.granule().is_some() && vecs.len() != (40 * PAGE_SIZE).div_ceil(0x10000) {
                return Err("cut too often");
            }
            drop(attachment);
            fixture.end()
        });
        assert_eq!(result, Ok(()));
    }

    #[test]
    fn a_file_for_reading_is_not_written() {
        use DataDirection::{
            FromDevice,
            ToDevice, //
        };
        if crate::wants_domain() {
            return;
        }
        let refused = |access, dir| {
            let mut map = Err(EINVAL);
            with_dma_api(|pdev, _| {
                let fixture = Fixture::with(2, access, None).map_err(|_| "not exported")?;
                let attachment = fixed(pdev.as_ref(), &fixture).map_err(|_| "not attached")?;
                map = attachment.map(dir);
                drop(attachment);
                fixture.end()
            })
            .map(|()| map)
        };
        assert_eq!(refused(Access::ReadOnly, ToDevice), Ok(Ok(())));
        assert_eq!(refused(Access::ReadOnly, FromDevice), Ok(Err(EACCES)));
        assert_eq!(refused(Access::ReadOnly, BOTH), Ok(Err(EACCES)));
        assert_eq!(refused(Access::WriteOnly, FromDevice), Ok(Ok(())));
        assert_eq!(refused(Access::WriteOnly, ToDevice), Ok(Err(EACCES)));
        assert_eq!(refused(Access::WriteOnly, BOTH), Ok(Err(EACCES)));
        assert_eq!(refused(Access::ReadWrite, BOTH), Ok(Ok(())));
        assert_eq!(
            refused(Access::ReadWrite, DataDirection::None),
            Ok(Err(EINVAL))
        );
    }

    #[test]
    fn the_cpu_keeps_to_the_file_and_the_bounds() {
        let result = (|| {
            let fixture = Fixture::with(2, Access::ReadOnly, None).map_err(|_| "not exported")?;
            let buf = fixture.buf.dma_buf();
            if buf.cpu(DataDirection::ToDevice).is_ok() || buf.cpu(BOTH).is_ok() {
                return Err("access to write");
            }
            let mut cpu = buf
                .cpu(DataDirection::FromDevice)
                .map_err(|_| "no access to read")?;
            let (size, mut bytes) = (buf.size(), [1; 2]);
            if cpu.write(0, &bytes) != Err(EACCES) {
                return Err("written");
            }
            if cpu.read(size - 1, &mut bytes).is_ok() || cpu.read(usize::MAX, &mut bytes).is_ok() {
                return Err("read behind the end");
            }
            cpu.read(size - 2, &mut bytes).map_err(|_| "not read")?;
            if bytes != [0; 2] {
                return Err("not zeroed");
            }
            drop(cpu);
            fixture.end()
        })();
        assert_eq!(result, Ok(()));
    }
}
