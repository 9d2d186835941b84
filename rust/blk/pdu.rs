// SPDX-License-Identifier: GPL-2.0

//! The private part of a request, which blk-mq allocates after its `struct request`: the state of
//! its mapping, the memory that it has taken, the driver's data.

use super::{
    held::Held,
    status::Status,
    types::DriverTypes, //
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    prelude::*, //
};
use phyr::State;

/// `RQF_DONTPREP`
const DONTPREP: u32 = 1 << bindings::rqf_flags___RQF_DONTPREP;

/// Private part of each request of a tag set, of `cmd_size` bytes.
///
/// It belongs to the owner of the request. The block layer makes it with the request
/// (`init_request`) and drops it with it (`exit_request`).
#[repr(C)]
pub(crate) struct Pdu<T: DriverTypes> {
    /// The mapping of the request's pages.
    pub(crate) state: State,
    /// The memory that the request has taken from its queue's. If there is any, the state
    /// [knows](State::hold).
    pub(crate) held: Held,
    /// The result of the request, on its way to the CPU that completes it.
    pub(crate) status: Status,
    /// The next request of those that end together, while it is one of them.
    pub(crate) next: Option<NonNull<bindings::request>>,
    /// The driver's data of the request.
    pub(crate) data: T::RequestData,
    /// The payload of a passthrough request. The last field: other requests do not touch it.
    pub(crate) passthrough: Option<T::Passthrough>,
}

impl<T: DriverTypes> Pdu<T> {
    /// The bytes to ask the block layer for.
    ///
    /// It gives them no better alignment than a request has.
    pub(crate) const SIZE: u32 = {
        assert!(align_of::<Self>() <= align_of::<bindings::request>());
        assert!(size_of::<Self>() <= 4096, "keep `RequestData` small");
        // CAST: checked to fit just above.
        size_of::<Self>() as u32
    };

    /// Makes the private part of a request that is not mapped.
    pub(crate) fn new() -> Self {
        Self {
            state: State::UNMAPPED,
            held: Held::NONE,
            status: Status::Ok,
            next: None,
            data: T::RequestData::default(),
            passthrough: None,
        }
    }

    /// Returns a pointer to the private part of `rq`. C: `blk_mq_rq_to_pdu()`, which is inline.
    ///
    /// # Safety
    ///
    /// `rq` is a request of a tag set whose `cmd_size` is [`Pdu::SIZE`], and valid.
    #[inline]
    pub(crate) unsafe fn of(rq: NonNull<bindings::request>) -> NonNull<Self> {
        // SAFETY: the caller promises `cmd_size` bytes after `rq`, in the same allocation.
        unsafe { rq.add(1) }.cast()
    }

    /// Prepares a request that has just come, and is not started yet.
    ///
    /// Not later: a request that is started has a timer, and when that runs out blk-mq sets
    /// `RQF_TIMED_OUT` on another CPU, in the word of flags that this changes. Neither is atomic.
    ///
    /// # Safety
    ///
    /// `rq` is a valid request of the tag set that is not started, and the caller owns it.
    #[inline]
    pub(crate) unsafe fn prepare(rq: NonNull<bindings::request>) {
        // SAFETY: `rq` is valid. Nobody else writes these flags: the caller owns `rq`, which has no
        // timer before it is started.
        let flags = unsafe { &mut (*rq.as_ptr()).rq_flags };
        if *flags & DONTPREP == 0 {
            *flags |= DONTPREP;
            // SAFETY: the private part was made with the request, and belongs to its owner.
            unsafe { (*Self::of(rq).as_ptr()).data = T::RequestData::default() };
        }
    }
}

#[kunit_tests(phyr_blk_pdu)]
mod tests {
    use super::*;
    use crate::types::TagOnly;
    use core::{
        convert::Infallible,
        mem::MaybeUninit, //
    };

    /// A driver without a device.
    struct Driver;

    impl DriverTypes for Driver {
        type HwQueue<'bound> = ();
        type DiskData<'bound> = ();
        type RequestData = u32;
        type PerTag<'bound> = ();
        type CompletionId = TagOnly;
        type Passthrough = Infallible;
        const MAPS_LISTS: bool = false;
    }

    /// A request and its private part, as blk-mq allocates them.
    #[repr(C)]
    struct Allocated {
        rq: bindings::request,
        pdu: MaybeUninit<Pdu<Driver>>,
    }

    #[test]
    fn a_request_is_prepared_once_and_before_it_is_started() -> Result {
        let mut memory = KBox::new(
            Allocated {
                rq: pin_init::zeroed(),
                pdu: MaybeUninit::uninit(),
            },
            GFP_KERNEL,
        )?;
        memory.pdu.write(Pdu::new());
        let rq = NonNull::from(&mut *memory).cast::<bindings::request>();
        // SAFETY: the request and its private part are there, and nobody else has them.
        let data = || unsafe { &mut (*Pdu::<Driver>::of(rq).as_ptr()).data };
        // SAFETY: `rq` points to a request, and nothing but these closures gets at it.
        let flags = || unsafe { &mut (*rq.as_ptr()).rq_flags };
        // SAFETY: `rq` is a request with its private part, which nobody else has, and not started.
        let prepare = || unsafe { Pdu::<Driver>::prepare(rq) };

        *data() = 1;
        prepare();
        assert!(*data() == 0 && *flags() == DONTPREP);
        // It comes again after it was given back: `RQF_DONTPREP` stays.
        *data() = 2;
        *flags() |= 1;
        prepare();
        assert!(*data() == 2 && *flags() == DONTPREP | 1);
        // Another one in the same place.
        *flags() = 0;
        prepare();
        assert!(*data() == 0 && *flags() == DONTPREP);
        Ok(())
    }
}
