// SPDX-License-Identifier: GPL-2.0

//! Queue pairs: rings, doorbells, phase bits.
//!
//! A submission queue ([`Sq`]) is written by the driver at the tail and read by the controller;
//! a completion queue ([`Cq`]) the other way round. Either side learns of the other's progress
//! through doorbells and, for completions, a phase bit that flips with every turn of the ring.
//!
//! Neither locks: the admin queue has both under one mutex ([`admin`](super::admin)), an I/O queue
//! each under a spinlock of its own ([`io_queue`](super::io_queue)).

use super::{
    cmd::{
        Sqe,
        SubmissionEntry, //
    },
    completion::{
        Completion,
        Cqe, //
    },
    regs::Bar, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    dma::Coherent,
    io::{
        io_project,
        io_read,
        io_write,
        Io, //
    },
    prelude::*,
    sync::{
        barrier::{
            dma_mb,
            Read, //
        },
        Arc, //
    },
    transmute::{
        AsBytes,
        FromBytes, //
    },
};
use phyr_driver::fallible::coherent_slice;

/// One doorbell register.
///
/// # Invariants
///
/// `offset` is a multiple of 4 and the register lies in `bar`.
struct Doorbell<'bound> {
    bar: Arc<Bar<'bound>>,
    offset: usize,
}

impl<'bound> Doorbell<'bound> {
    /// Finds the doorbell at `offset`.
    ///
    /// # Errors
    ///
    /// [`ENODEV`]: the BAR is too small for this doorbell.
    fn new(bar: Arc<Bar<'bound>>, offset: usize) -> Result<Self> {
        if offset % size_of::<u32>() != 0 || offset + size_of::<u32>() > (&*bar).size() {
            return Err(ENODEV);
        }
        // INVARIANT: Just checked.
        Ok(Self { bar, offset })
    }

    /// Passes `index` to the controller. All memory written before is visible to it then: the MMIO
    /// accessors order that.
    fn ring(&self, index: u16) {
        // By the type invariant of `Doorbell` this cannot fail.
        let _ = self.bar.try_write32(u32::from(index), self.offset);
    }
}

/// The common part of both kinds of queue: entries that the controller has access to, and a
/// doorbell.
struct Ring<'bound, E> {
    entries: Coherent<[E]>,
    doorbell: Doorbell<'bound>,
}

impl<'bound, E: AsBytes + FromBytes> Ring<'bound, E> {
    /// Allocates a ring of `entries`, at least one, whose doorbell is at `offset`.
    ///
    /// # Errors
    ///
    /// - [`ENODEV`]: no such doorbell.
    /// - [`ENOMEM`]: memory is short.
    fn new(
        dev: &Device<Bound>,
        bar: Arc<Bar<'bound>>,
        entries: u16,
        offset: usize,
    ) -> Result<Self> {
        Ok(Self {
            // This refuses a ring of no entries.
            entries: coherent_slice(dev, entries.into(), GFP_KERNEL)?,
            doorbell: Doorbell::new(bar, offset).inspect_err(|_| {
                dev_err!(
                    dev,
                    "CAP.DSTRD has a doorbell at {offset:#x}, past the BAR\n"
                );
            })?,
        })
    }
}

/// A submission queue.
///
/// # Invariants
///
/// `tail` is below the number of entries.
pub(crate) struct Sq<'bound> {
    ring: Ring<'bound, Sqe>,
    tail: u16,
    /// The tail that the controller knows.
    rung: u16,
}

impl<'bound> Sq<'bound> {
    /// Allocates a ring of `entries` whose doorbell is at `offset`.
    ///
    /// # Errors
    ///
    /// Those of [`Ring::new`].
    pub(crate) fn new(
        dev: &Device<Bound>,
        bar: Arc<Bar<'bound>>,
        entries: u16,
        offset: usize,
    ) -> Result<Self> {
        // INVARIANT: The ring has an entry at least.
        Ok(Self {
            ring: Ring::new(dev, bar, entries, offset)?,
            tail: 0,
            rung: 0,
        })
    }

    /// Returns the device address of the ring.
    pub(crate) fn addr(&self) -> u64 {
        self.ring.entries.dma_address()
    }

    /// Empties the ring. The controller must not be using it.
    pub(crate) fn reset(&mut self) {
        self.tail = 0;
        self.rung = 0;
    }

    /// Adds a command. The controller sees it at the next [`Sq::commit`].
    ///
    /// The caller keeps fewer commands in flight than the ring has entries.
    // Always, as `Cq::pop`: where C's helpers are not in line the compiler takes both for too long,
    // and a call would save and restore as much as they do.
    #[inline(always)]
    pub(crate) fn push(&mut self, command: impl SubmissionEntry) {
        // PANIC: By the type invariant of `Sq` `tail` is below the number of entries.
        let entry = io_project!(self.ring.entries, [panic: usize::from(self.tail)]);
        let words = command.to_entry();
        // One by one, so that they come from registers.
        io_write!(entry, [build: 0], words[0]);
        io_write!(entry, [build: 1], words[1]);
        io_write!(entry, [build: 2], words[2]);
        io_write!(entry, [build: 3], words[3]);
        io_write!(entry, [build: 4], words[4]);
        io_write!(entry, [build: 5], words[5]);
        io_write!(entry, [build: 6], words[6]);
        io_write!(entry, [build: 7], words[7]);

        // INVARIANT: Wraps at the number of entries.
        self.tail += 1;
        if usize::from(self.tail) == self.ring.entries.len() {
            self.tail = 0;
        }
    }

    /// Rings the doorbell, if there is anything new.
    pub(crate) fn commit(&mut self) {
        if self.rung != self.tail {
            self.ring.doorbell.ring(self.tail);
            self.rung = self.tail;
        }
    }
}

/// A completion queue.
///
/// # Invariants
///
/// `head` is below the number of entries.
pub(crate) struct Cq<'bound> {
    ring: Ring<'bound, Cqe>,
    head: u16,
    /// The phase of a new entry at `head`.
    phase: bool,
    /// The head that the controller knows.
    rung: u16,
}

impl<'bound> Cq<'bound> {
    /// Allocates a ring of `entries` whose doorbell is at `offset`.
    ///
    /// # Errors
    ///
    /// Those of [`Ring::new`].
    pub(crate) fn new(
        dev: &Device<Bound>,
        bar: Arc<Bar<'bound>>,
        entries: u16,
        offset: usize,
    ) -> Result<Self> {
        // INVARIANT: The ring has an entry at least.
        Ok(Self {
            ring: Ring::new(dev, bar, entries, offset)?,
            head: 0,
            phase: true,
            rung: 0,
        })
    }

    /// Returns the device address of the ring.
    pub(crate) fn addr(&self) -> u64 {
        self.ring.entries.dma_address()
    }

    /// Empties the ring. The controller must not be using it.
    pub(crate) fn reset(&mut self) {
        for index in 0..self.ring.entries.len() {
            // PANIC: `index` is below the length.
            io_project!(self.ring.entries, [panic: index]).copy_write([0; 4]);
        }
        self.head = 0;
        self.rung = 0;
        self.phase = true;
    }

    /// Returns whether there is no completion.
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        // PANIC: By the type invariant of `Cq` `head` is below the number of entries.
        let entry = io_project!(self.ring.entries, [panic: usize::from(self.head)]);
        Completion::phase(io_read!(entry, [build: 3])) != self.phase
    }

    /// Takes the next completion, if there is one. It comes from the controller: the identifier in
    /// it need not belong to any command.
    #[inline(always)]
    pub(crate) fn pop(&mut self) -> Option<Completion> {
        if self.is_empty() {
            return None;
        }
        // PANIC: By the type invariant of `Cq` `head` is below the number of entries.
        let entry = io_project!(self.ring.entries, [panic: usize::from(self.head)]);
        // The rest of the entry, and what the command wrote, is read after the phase bit.
        dma_mb(Read);
        let completion = Completion::new(
            io_read!(entry, [build: 0]),
            io_read!(entry, [build: 1]),
            io_read!(entry, [build: 3]),
        );

        // INVARIANT: Wraps at the number of entries.
        self.head += 1;
        if usize::from(self.head) == self.ring.entries.len() {
            self.head = 0;
            self.phase = !self.phase;
        }
        Some(completion)
    }

    /// Gives the entries taken since the last time back to the controller.
    pub(crate) fn commit(&mut self) {
        if self.rung != self.head {
            self.ring.doorbell.ring(self.head);
            self.rung = self.head;
        }
    }
}
