// SPDX-License-Identifier: GPL-2.0

//! Attachments to dma-bufs, and the buffers.

use crate::{
    buffers::{
        dynamic,
        find,
        fixed,
        ranges,
        settle,
        sleep,
        Calls,
        Fixture,
        BOTH, //
    },
    check::{
        Failure,
        Outcome, //
    },
    test_forget::leaked::{
        all_stay,
        forget,
        goes_on, //
    }, //
};
use core::{
    ptr,
    sync::atomic::{
        AtomicPtr,
        Ordering::{
            Acquire,
            Relaxed,
            Release, //
        }, //
    }, //
};
use kernel::{
    device::Bound,
    pci,
    prelude::*,
    sync::Arc, //
};
use phyr::{
    DataDirection,
    Mapper, //
};
use phyr_iommu::{
    AttachError, //
    Domain,
};

/// Counts of the buffers that a static and a dynamic importer have attached to.
static ATTACHED: [AtomicPtr<Calls>; 2] = [const { AtomicPtr::new(ptr::null_mut()) }; 2];

/// Returns how many of the buffers of [`ATTACHED`] are attached.
pub(crate) fn attached() -> Result<usize, Failure> {
    let mut attached = 0;
    if crate::forgets_domains() {
        return Ok(0);
    }
    settle();
    for calls in &ATTACHED {
        // SAFETY: it was leaked, by `attachments`.
        let calls = check_some!(unsafe { calls.load(Acquire).as_ref() });
        check_eq!(calls.released.load(Relaxed), 0);
        attached += usize::from(calls.open() != [0; 3]);
    }
    Ok(attached)
}

/// Forgets mapped attachments: the device reaches the buffers, which nobody else refers to.
pub(crate) fn attachments(pdev: &pci::Device<Bound>, mapper: &Mapper<'_>) -> Outcome {
    let one = Fixture::new(4)?;
    let attachment = fixed(pdev.as_ref(), &one)?;
    attachment.map(BOTH)?;
    let (first, _) = find(&ranges(&attachment)?, 0)?;
    forget(attachment, KVec::new())?;

    let other = Fixture::new(4)?;
    let (attachment, _) = dynamic(pdev.as_ref(), &other)?;
    attachment.map(BOTH)?;
    let (second, _) = find(&ranges(&attachment)?, 0)?;
    forget(attachment, KVec::new())?;

    for (place, fixture) in ATTACHED.iter().zip([one, other]) {
        let calls = Arc::into_raw(fixture.calls.clone()).cast_mut();
        place.store(calls, Release);
        drop(fixture);
    }
    sleep();
    check_eq!(attached()?, 2);
    goes_on(pdev, mapper, first)?;
    goes_on(pdev, mapper, second)?;
    let domain = Domain::attach(pdev.as_ref(), None);
    check_matches!(domain, Err(AttachError::DmaBufs(2) | AttachError::NoIommu));
    Ok(())
}

/// Forgets the CPU's access to a buffer, and the last reference to one.
pub(crate) fn buffers() -> Outcome {
    let fixture = Fixture::new(4)?;
    let calls = fixture.calls.clone();
    let mut phyrs = KVec::new();
    for &phyr in &fixture.phyrs {
        phyrs.push(phyr, GFP_KERNEL)?;
    }
    let cpu = fixture.buf.dma_buf().cpu(DataDirection::ToDevice);
    forget(cpu?, phyrs)?;
    drop(fixture);
    settle();
    sleep();
    check_eq!(calls.released.load(Relaxed), 0);
    let fixture = Fixture::new(4)?;
    let calls = fixture.calls.clone();
    forget(fixture.buf, KVec::new())?;
    settle();
    check_eq!(calls.released.load(Relaxed), 0);
    all_stay()
}
