// SPDX-License-Identifier: GPL-2.0

//! Descriptors of a request: memory from which the device reads where the request's data is. A
//! driver asks for it in `queue_rq()`, if the command has no room for the addresses.

use super::{
    held::Held,
    mapped::Mapped,
    memory::QueueMemory,
    pdu::Pdu,
    types::DriverTypes, //
};
use kernel::{
    dma::CoherentView,
    prelude::*, //
};
use phyr::{
    DmaVecs,
    Hold, //
};

/// Memory in which a driver describes a request to the device: see [`Mapped::describe`].
///
/// # Invariants
///
/// What is in `held` was taken from `memory`, and is not given back while this is borrowed.
/// `hold` is of the state that knows of it.
pub struct Descriptors<'m> {
    memory: &'m QueueMemory,
    held: &'m mut Held,
    hold: Hold<'m>,
}

impl Descriptors<'_> {
    /// Returns coherent memory for at least `words` words of 64 bits, as [`Mapped::describe`] does.
    ///
    /// # Errors
    ///
    /// Those of [`Mapped::describe`].
    #[inline(always)]
    pub fn list(&mut self, words: usize) -> Result<CoherentView<'_, [u64]>> {
        self.hold.hold();
        // SAFETY: by the type invariant what the request holds is of this memory, and is not given
        // back while the list is used, which is borrowed from `self`.
        unsafe { self.memory.take_list(self.held, words) }
    }
}

impl<T: DriverTypes> Mapped<'_, '_, T> {
    /// Calls `f` with coherent memory for at least `words` words of 64 bits, in which the driver
    /// describes the request to the device, such as by a PRP list or an SGL.
    ///
    /// The memory is the request's until it is unmapped: the device must be done with it then, as
    /// with the request's pages. If it is asked for again, it is the same, or longer. It holds
    /// anything. A list of less than 4096 bytes does not cross a multiple of that, as a device
    /// address; a longer one begins at one.
    ///
    /// Most requests can do without: call this for what the command itself has no room for.
    ///
    /// This neither allocates nor sleeps. The memory is taken from the queue's, which has enough
    /// for a few requests at a time and grows by itself.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: the queue's memory is in use. It passes: return
    ///   [`QueueRqError::Resource`](super::QueueRqError::Resource) with the
    ///   [unmapped](Mapped::unmap) request, which blk-mq tries again when there is some.
    /// - `EINVAL`: no words, or more than the tag set has
    ///   [descriptors](super::Config::descriptor_words) for.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{io::io_write, prelude::*};
    /// use phyr_blk::{Mapped, Operations};
    ///
    /// /// Writes address and length of each range, and returns the place of the list.
    /// fn list<T: Operations>(io: &mut Mapped<'_, '_, T>) -> Result<u64> {
    ///     let words = 2 * io.dma_vecs().len();
    ///     io.describe(words, |io, list| {
    ///         for (n, vec) in io.dma_vecs().enumerate() {
    ///             io_write!(list, [try: 2 * n], vec.addr().into_raw());
    ///             io_write!(list, [try: 2 * n + 1], vec.len() as u64);
    ///         }
    ///         Ok(list.dma_address())
    ///     })?
    /// }
    /// ```
    #[inline]
    pub fn describe<R>(
        &mut self,
        words: usize,
        f: impl FnOnce(&Self, CoherentView<'_, [u64]>) -> R,
    ) -> Result<R> {
        let memory = self.hw.memory();
        let pdu = self.pdu_mut();
        // INVARIANT: the state knows of what is held.
        pdu.state.hold();
        // SAFETY: by the invariants of `RequestInfo` what the request holds is of the memory of its
        // queue. It is given back by the end of the mapping, for which `self` is given up; `f` has
        // the list no longer than it runs.
        let list = unsafe { memory.take_list(&mut pdu.held, words) }?;
        Ok(f(self, list))
    }

    /// Returns the ranges that the device sees, and the memory to describe them in: in fewer steps
    /// than [`Mapped::dma_vecs`] in [`Mapped::describe`].
    #[inline]
    pub fn dma_vecs_and_descriptors(&mut self) -> (DmaVecs<'_>, Descriptors<'_>) {
        let memory = self.hw.memory();
        let Pdu { state, held, .. } = self.pdu_mut();
        // SAFETY: by the invariants of `RequestInfo` what the request holds is of the memory of its
        // queue. It is given back, and its slots are written, by whoever has `self` mutably, which
        // is borrowed.
        let slots = unsafe { memory.slots(held) };
        let (vecs, hold) = state.dma_vecs_and_hold(slots);
        // INVARIANT: all are the request's, which is borrowed.
        (vecs, Descriptors { memory, held, hold })
    }

    /// Returns the payload if the driver has made the request, and the memory to describe its data
    /// in.
    #[inline]
    pub fn passthrough_and_descriptors(&mut self) -> (Option<&T::Passthrough>, Descriptors<'_>) {
        let memory = self.hw.memory();
        let Pdu {
            state,
            held,
            passthrough,
            ..
        } = self.pdu_mut();
        let (_, hold) = state.dma_vecs_and_hold(&[]);
        // INVARIANT: all are the request's, which is borrowed.
        (passthrough.as_ref(), Descriptors { memory, held, hold })
    }

    /// Gives back the memory in which [`Mapped::dma_vecs`] has its ranges, if they are many and
    /// unmapping does not need it, so that it is there for another request while the device works
    /// on this one.
    ///
    /// For a driver that has described the ranges to the device and does not look at them again:
    /// there may be none afterwards.
    #[inline]
    pub fn forget_dma_vecs(&mut self) {
        // Few are in memory that the request has for its list anyway.
        if self.pdu_mut().held.long_slots.is_some() {
            self.give_back_long_slots();
        }
    }

    #[inline(never)]
    fn give_back_long_slots(&mut self) {
        let hw = self.hw;
        let pdu = self.pdu_mut();
        if !pdu.state.forget_ranges() {
            return;
        }
        // SAFETY: by the invariants of `RequestInfo` what the request holds is of the memory of its
        // queue. Its state has no use for the slots any more.
        let waiting = unsafe { hw.memory().put_long_slots(&mut pdu.held) };
        if waiting {
            self.run_queue();
        }
    }
}
