// SPDX-License-Identifier: GPL-2.0

//! dma-buf: refused imports and exports, leaked values, tables of C exporters (`foreign`).

use crate::{
    buffers::{
        dynamic,
        fill,
        fixed,
        holds,
        ranges,
        settle,
        Counting,
        Fixture,
        BOTH, //
    },
    check::Outcome,
    fixture::{
        self,
        another_device,
        bound,
        with_dma_api, //
    },
    foreign, //
};
use core::{
    mem::ManuallyDrop,
    sync::atomic::Ordering::Relaxed, //
};
use kernel::{
    faux,
    page::PAGE_SIZE,
    prelude::*, //
};
use phyr::{
    linear::LinearError,
    memory::{
        Chunks,
        Pages, //
    },
    DmaAddr,
    DmaVec, //
};
use phyr_dma_buf::{
    AccessMode,
    Attachment,
    DeviceOnly,
    Exported,
    Exporter,
    MmapVmap, //
};

/// Another exporter of the same type of memory.
struct Other;

impl Exporter for Other {
    type Module = crate::LocalModule;
    type Memory = Chunks;
    type CpuMapping = MmapVmap;
}

/// An exporter of pieces, which user space cannot map.
struct Pieces;

impl Exporter for Pieces {
    type Module = crate::LocalModule;
    type Memory = KVVec<Pages>;
    type CpuMapping = DeviceOnly;
}

#[kunit_tests(phyr_device_dma_buf_life)]
mod tests {
    use super::*;

    #[test]
    fn refused_by_the_exporter() -> Outcome {
        with_dma_api(|pdev, _| {
            let fixture = Fixture::with(1, AccessMode::ReadWrite, Some(EOPNOTSUPP))?;
            check_err!(fixed(pdev.as_ref(), &fixture), EOPNOTSUPP);
            fixture.end()
        })
    }

    /// The kernel warns of a device without a DMA mask as it maps for it.
    #[test]
    fn a_device_that_does_no_dma_is_refused() -> Outcome {
        let fixture = Fixture::new(1)?;
        let device = faux::Registration::new(c"phyr_test", None)?;
        check_err!(fixed(bound(&device), &fixture), EINVAL);
        check_err!(dynamic(bound(&device), &fixture), EINVAL);
        drop(device);
        fixture.end()
    }

    /// The device goes away with an attachment that was leaked while it is mapped.
    #[test]
    fn a_leaked_attachment_ends_with_the_binding() -> Outcome {
        let fixture = Fixture::new(8)?;
        let device = another_device()?;
        let (attachment, told) = dynamic(bound(&device), &fixture)?;
        attachment.map(BOTH)?;
        // As good as forgotten, but that the memory checker is not to find it at the end.
        let mut leaked = ManuallyDrop::new(attachment);
        drop(device);
        check_eq!(told.0.load(Relaxed), 1);
        check_eq!(fixture.buf.counts(), (0, 0));
        check_err!(leaked.map(BOTH), ENODEV);
        check_err!(leaked.dma_vecs(|_| ()), ENODEV);
        check_eq!(leaked.linear(), Err(LinearError::Failed(ENODEV)));
        leaked.unmap();
        // SAFETY: it is dropped once, here.
        unsafe { ManuallyDrop::drop(&mut leaked) };
        fixture.end()
    }

    /// A buffer of which a reference was leaked stays, and keeps its memory.
    #[test]
    fn a_leaked_buffer_keeps_its_memory() -> Outcome {
        let fixture = Fixture::new(2)?;
        let mut leaked = ManuallyDrop::new(fixture.buf.clone());
        let calls = fixture.calls.clone();
        drop(fixture);
        settle();
        check_eq!(calls.released.load(Relaxed), 0);
        fill(leaked.dma_buf(), 0, 16, 1)?;
        holds(leaked.dma_buf(), 0, 16, 1)?;
        // SAFETY: it is dropped once, here.
        unsafe { ManuallyDrop::drop(&mut leaked) };
        settle();
        check_eq!(calls.released.load(Relaxed), 1);
        Ok(())
    }

    #[test]
    fn an_exporter_knows_its_own() -> Outcome {
        let result = (|| {
            let fixture = Fixture::new(1)?;
            check!(Exported::<Other>::of(fixture.dma_buf()).is_err());
            let same = Exported::<Counting>::of(fixture.dma_buf())?;
            check!(core::ptr::eq(same.exporter(), fixture.buf.exporter()));
            drop(same);
            let fake =
                foreign::exported(PAGE_SIZE, &[DmaVec::new(DmaAddr::from_raw(0), PAGE_SIZE)])?;
            check!(Exported::<Counting>::of(fake).is_err());
            fixture.end()
        })();
        settle();
        result
    }

    #[test]
    fn only_whole_pages_are_exported() -> Outcome {
        let export = |memory: KVVec<Pages>| -> Result {
            phyr_dma_buf::export(memory, Pieces, AccessMode::ReadWrite).map(drop)
        };
        let pieces = |shape: &[(usize, usize)]| -> Result<KVVec<Pages>> {
            let mut all = KVVec::new();
            for &(offset, len) in shape {
                all.push(fixture::piece(offset, len)?, GFP_KERNEL)?;
            }
            Ok(all)
        };
        let try_export = |shape: &[(usize, usize)]| pieces(shape).and_then(export);
        let shapes: [(&[(usize, usize)], Result); 4] = [
            (&[], Err(EINVAL)),
            (&[(0, PAGE_SIZE - 1)], Err(EINVAL)),
            (&[(0, PAGE_SIZE), (16, PAGE_SIZE - 16)], Err(EINVAL)),
            (&[(0, PAGE_SIZE), (0, PAGE_SIZE)], Ok(())),
        ];
        for (shape, expected) in shapes {
            check_eq!(try_export(shape), expected, "{shape:?}");
        }
        settle();
        Ok(())
    }

    /// Tables of a C exporter: longer than the buffer, with a gap, and too short.
    #[test]
    fn tables_of_others() -> Outcome {
        with_dma_api(|pdev, _| {
            // CAST: the tests run on 64 bits.
            let page = PAGE_SIZE as u64;
            let vec =
                |at: u64, nr: usize| DmaVec::new(DmaAddr::from_raw(at * page), nr * PAGE_SIZE);
            let import = |size: usize, table: &[DmaVec]| {
                let buf = foreign::exported(size * PAGE_SIZE, table)?;
                Attachment::static_importer(pdev.as_ref(), buf)
            };
            // One run in three segments, of which the buffer ends in the second.
            let table = [vec(16, 2), vec(18, 4), vec(22, 1)];
            let attachment = import(5, &table)?;
            attachment.map(BOTH)?;
            check_eq!(attachment.linear(), Ok(vec(16, 5)));
            check_eq!(ranges(&attachment)?[..], [vec(16, 2), vec(18, 3)]);
            drop(attachment);
            // As long as it says, but in two runs; the last segment leaves the gap.
            let table = [vec(16, 2), vec(18, 4), vec(23, 1)];
            let attachment = import(7, &table)?;
            attachment.map(BOTH)?;
            let gap = LinearError::Gap {
                phyr: 2,
                // CAST: the tests run on 64 bits.
                offset: 6 * PAGE_SIZE as u64,
            };
            check_eq!(attachment.linear(), Err(gap));
            drop(attachment);
            // A page too short: nothing stays mapped.
            let attachment = import(8, &table)?;
            check_err!(attachment.map(BOTH), EIO);
            check!(attachment.dma_vecs(|_| ()).is_err());
            drop(attachment);
            settle();
            check_eq!(foreign::mapped(), 0);
            Ok(())
        })
    }
}
