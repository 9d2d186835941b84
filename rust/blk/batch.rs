// SPDX-License-Identifier: GPL-2.0

//! Requests that the device has completed together: unmapped with one flush of the IOTLB, and then
//! ended.
//!
//! ```text
//!   Mapped -- add() --> UnlinkedRequests -- flush() --> FlushedRequests -- next() --> Request
//!                       |                               |
//!                       in reach of the device yet      flushed; addresses are freed
//! ```
//!
//! Only a [`Request`] can end, and only [`FlushedRequests`] makes those: no page is given back
//! before the flush, whatever the code around does. What is forgotten on the way never ends, so
//! that its pages stay where they are.

use super::{
    hw::HwCtx,
    mapped::Mapped,
    pdu::Pdu,
    request::{
        Origin,
        Request,
        RequestInfo, //
    },
    status::Status,
    types::DriverTypes, //
};
use core::{
    marker::PhantomData,
    pin::{
        pin,
        Pin, //
    },
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::bindings;
use phyr::{
    IotlbGather,
    Unmapping, //
};

/// Requests in order, linked by their private parts; those left in it when it is dropped never end.
///
/// # Invariants
///
/// It has started requests of tag sets of `T`, with their private parts, that were given up to it.
struct RequestList<T: DriverTypes> {
    ends: Option<(NonNull<bindings::request>, NonNull<bindings::request>)>,
    _requests: PhantomData<fn(T)>,
}

impl<T: DriverTypes> RequestList<T> {
    #[inline]
    const fn new() -> Self {
        // INVARIANT: there are none.
        Self {
            ends: None,
            _requests: PhantomData,
        }
    }

    /// Adds a request after the others.
    #[inline]
    fn push(&mut self, mut info: RequestInfo<'_, '_, T>) {
        info.pdu_mut().next = None;
        // INVARIANT: `info`, its only owner, is given up.
        self.ends = match self.ends {
            None => Some((info.rq, info.rq)),
            Some((first, last)) => {
                // SAFETY: by the type invariant the private part of `last` belongs to the list.
                unsafe { Pdu::<T>::of(last).as_mut() }.next = Some(info.rq);
                Some((first, info.rq))
            }
        };
    }

    /// Takes the first request, which is of `hw`.
    ///
    /// # Safety
    ///
    /// All requests in the list are of `hw`.
    #[inline]
    unsafe fn pop<'a, 'bound>(
        &mut self,
        hw: &'a HwCtx<'bound, T>,
    ) -> Option<RequestInfo<'a, 'bound, T>> {
        let (first, last) = self.ends?;
        // SAFETY: by the type invariant the private part of `first` belongs to the list.
        let next = unsafe { Pdu::<T>::of(first).as_ref() }.next;
        // INVARIANT: `first` is in the list no more.
        self.ends = next.map(|next| (next, last));
        // SAFETY: by the type invariant it was given up to the list, with all that belongs to it;
        // the caller promises that it is of `hw`.
        Some(unsafe { RequestInfo::new(first, hw, Origin::Driver) })
    }
}

/// Requests that were unlinked, and not flushed yet. If it is dropped, they never end.
///
/// # Invariants
///
/// `requests` are of `hw`, and have states that `unmapping` has unmapped.
pub(crate) struct UnlinkedRequests<'b, 'bound, T: DriverTypes> {
    hw: &'b HwCtx<'bound, T>,
    unmapping: Unmapping<'b, 'b>,
    requests: RequestList<T>,
}

/// Unlinks a request as [`UnlinkedRequests::add`] does, if there is something to add it to.
///
/// # Errors
///
/// The request comes back, still mapped.
#[inline(always)]
pub(crate) fn add_to<'a, 'bound, T: DriverTypes>(
    unlinked: &mut Option<UnlinkedRequests<'_, 'bound, T>>,
    io: Mapped<'a, 'bound, T>,
    status: Status,
) -> Result<(), Mapped<'a, 'bound, T>> {
    match unlinked {
        Some(unlinked) => unlinked.add(io, status),
        None => Err(io),
    }
}

/// Requests whose memory is out of the device's reach, for good.
///
/// An iterator of them and of the status that each is to end with. Those that are left when it is
/// dropped end.
///
/// # Invariants
///
/// `requests` are of `hw`, and have states that were unmapped by the `Unmapping` that `flushed` is
/// of.
pub(crate) struct FlushedRequests<'b, 'bound, T: DriverTypes> {
    hw: &'b HwCtx<'bound, T>,
    flushed: phyr::Flushed<'b>,
    requests: RequestList<T>,
}

impl<'b, 'bound, T: DriverTypes> UnlinkedRequests<'b, 'bound, T> {
    /// Begins, with `gather` for what is to be flushed. `None` where nothing can be flushed
    /// together, which an interrupt is to find out once.
    #[inline]
    pub(crate) fn new(hw: &'b HwCtx<'bound, T>, gather: Pin<&'b mut IotlbGather>) -> Option<Self> {
        // INVARIANT: there are no requests.
        Some(Self {
            hw,
            unmapping: Unmapping::new(hw.mapper(), gather)?,
            requests: RequestList::new(),
        })
    }

    /// Unlinks a request, which is to end with `status`. The device must be done with it.
    ///
    /// # Errors
    ///
    /// The request comes back, still mapped: it is of another hardware queue.
    #[inline(always)]
    pub(crate) fn add<'a>(
        &mut self,
        io: Mapped<'a, 'bound, T>,
        status: Status,
    ) -> Result<(), Mapped<'a, 'bound, T>> {
        if !ptr::eq(self.hw, io.hw) {
            return Err(io);
        }
        self.unlink(io.into_info(), status);
        Ok(())
    }

    /// Unlinks a request of this queue.
    #[inline(always)]
    fn unlink(&mut self, mut info: RequestInfo<'_, 'bound, T>, status: Status) {
        let hw = info.hw;
        let pdu = info.pdu_mut();
        pdu.status = status;
        let held = &pdu.held;
        // SAFETY: by the invariants of `RequestInfo` what the request holds is of `hw`'s memory,
        // and is given back when the mapping has ended.
        let slots = || unsafe { hw.memory().slots(held) };
        // SAFETY:
        // - By the invariants of `RequestInfo` the state came from `map_into` of this queue's
        //   mapper with these slots, or has no use for any. They stay as they are: the request is
        //   in the list until it has ended.
        // - The caller says that the device is done with the request, and the block layer does not
        //   have the pages back before it ends.
        if unsafe { self.unmapping.unmap(&mut pdu.state, slots) } {
            info.give_back();
        }
        // INVARIANT: just unmapped so; it is of `hw`.
        self.requests.push(info);
    }

    /// Flushes once.
    #[inline]
    pub(crate) fn flush(self) -> FlushedRequests<'b, 'bound, T> {
        // INVARIANT: these are what `unmapping` has unmapped.
        FlushedRequests {
            hw: self.hw,
            flushed: self.unmapping.flush(),
            requests: self.requests,
        }
    }
}

impl<'b, 'bound, T: DriverTypes> FlushedRequests<'b, 'bound, T> {
    /// Takes the next request, which has no mapping and holds nothing.
    #[inline(always)]
    pub(crate) fn next_info(&mut self) -> Option<(RequestInfo<'b, 'bound, T>, Status)> {
        // SAFETY: by the type invariant all are of `hw`.
        let mut info = unsafe { self.requests.pop(self.hw) }?;
        let hw = info.hw;
        let pdu = info.pdu_mut();
        let (held, status) = (&pdu.held, pdu.status);
        // SAFETY: by the invariants of `RequestInfo` what the request holds is of `hw`'s memory,
        // and is given back below at the earliest.
        let slots = || unsafe { hw.memory().slots(held) };
        // SAFETY: by the type invariant the state was unmapped so, with these slots.
        if unsafe { self.flushed.free(&mut pdu.state, slots) } {
            info.give_back();
        }
        Some((info, status))
    }
}

impl<'b, 'bound, T: DriverTypes> Iterator for FlushedRequests<'b, 'bound, T> {
    type Item = (Request<'b, 'bound, T>, Status);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (info, status) = self.next_info()?;
        // SAFETY: it is unlinked, flushed and freed, and holds nothing.
        Some((unsafe { Request::from_info(info) }, status))
    }
}

impl<T: DriverTypes> Drop for FlushedRequests<'_, '_, T> {
    #[inline]
    fn drop(&mut self) {
        for (request, status) in self {
            request.end(status);
        }
    }
}

impl<'bound, T: DriverTypes> HwCtx<'bound, T> {
    /// Takes all requests in flight as [`HwCtx::drain`] does, and unmaps them with one flush; then
    /// `f` ends or requeues each.
    pub fn drain_unmapped(&self, mut f: impl FnMut(Request<'_, 'bound, T>)) {
        let gather = pin!(IotlbGather::new());
        let mut unlinked = UnlinkedRequests::new(self, gather);
        self.drain(|io| {
            // Its status is that of one that `f` does not get to see: there is none.
            if let Err(alone) = add_to(&mut unlinked, io, Status::IoErr) {
                f(alone.unmap());
            }
        });
        if let Some(unlinked) = unlinked {
            unlinked.flush().for_each(|(request, _)| f(request));
        }
    }
}
