// SPDX-License-Identifier: GPL-2.0

//! Memory of a hardware queue's requests, for what does not fit in a request itself.
//!
//! The ranges of a request of several segments are in [`Slot`]s, which no device can reach. What a
//! device reads to find them, such as a PRP list or an SGL, is in coherent memory
//! ([`Mapped::describe`](super::Mapped::describe)). Most requests need neither: their one range is
//! in the request, and its address in the command. The others take what they need from the pools of
//! their queue ([`Pool`]), and give it back when they are unmapped.
//!
//! ```text
//!                    short: 32 segments     long: the most that a request can have
//!   slots            512 bytes              16 bytes each           CPU only
//!   descriptors      256 bytes              as the driver says      coherent, read by the device
//! ```
//!
//! Both of a short request are one place of one pool: it is taken once, by whichever is needed
//! first. A long request takes each by itself, as the slots of many are free again while the device
//! works ([`Mapped::forget_dma_vecs`](super::Mapped::forget_dma_vecs)).
//!
//! A work item of the queue refills the pools ahead. If it is late, or there is no memory, a
//! request is given back to blk-mq with `BLK_STS_RESOURCE`. It is tried again when another one
//! gives its memory back, and every 3 ms (`BLK_MQ_RESOURCE_DELAY`) in any case.

use super::{
    bindings as helpers,
    held::{
        Held,
        HeldPlace, //
    },
    pool::{
        Pool,
        Taken, //
    }, //
};
use core::{
    cell::UnsafeCell,
    slice, //
};
use kernel::{
    alloc::flags::{
        __GFP_NOWARN,
        __GFP_ZERO, //
    },
    bindings,
    container_of,
    device::{
        Bound,
        Device, //
    },
    dma::{
        Coherent,
        CoherentView, //
    },
    io::io_project,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            ordering::Relaxed,
            Atomic, //
        },
        Arc, //
    },
    time::msecs_to_jiffies,
    types::Opaque, //
};
use phyr::Slot;
use phyr_driver::{
    fallible::coherent_slice,
    scope::{
        Registration,
        Scope, //
    }, //
};

/// Segments of a short request: 128 KiB of pages that are scattered, from which size on the IOVA
/// caches do not serve a request either, and a list of [`SHORT_WORDS`] of PRPs.
const SHORT_SEGMENTS: usize = 32;

/// Words of a short list of descriptors: 256 bytes, as nvme's pool of small ones.
const SHORT_WORDS: usize = 32;

/// Short places in a block, as a power of two: lists of a page, the least that there is of coherent
/// memory, and slots of two.
const SHORT_SHIFT: u32 = 4;

/// Short places that are kept free: one for each of a few processors that submit to the queue at
/// once, and what comes until the work item runs. A block has more anyway.
const SHORT_RESERVE: u16 = 4;

/// Places of a long pool that are kept free. One makes progress certain; the second is for what
/// comes until the work item runs.
const LONG_RESERVE: u16 = 2;

/// Time between two looks at what is not needed any more, in milliseconds: long beside a burst of
/// requests, so that it is not paid for twice.
const SHRINK_MS: u32 = 10_000;

/// `WORK_CPU_UNBOUND`
// CAST: a small number.
const ANY_CPU: c_int = bindings::wq_misc_consts_WORK_CPU_UNBOUND as c_int;

/// Memory for the slots of a long request.
type Slots = KVVec<UnsafeCell<Slot>>;

/// Memory for descriptors.
type List = Coherent<[u64]>;

/// The slots of a block of short places.
type ShortSlots = [[UnsafeCell<Slot>; SHORT_SEGMENTS]; 1 << SHORT_SHIFT];

/// A block of short places.
struct Short {
    slots: KVBox<ShortSlots>,
    /// There is one if requests of the queue have descriptors.
    lists: Option<List>,
}

impl Short {
    /// Makes a block, with lists or not.
    fn new(dev: &Device<Bound>, has_lists: bool) -> Result<Self> {
        let slots = KVBox::new_uninit(GFP_KERNEL | __GFP_NOWARN | __GFP_ZERO)?;
        let lists = has_lists.then(|| new_list(dev, SHORT_WORDS << SHORT_SHIFT));
        Ok(Self {
            // SAFETY: they are all zeroes, which is `Slot::EMPTY`.
            slots: unsafe { slots.assume_init() },
            lists: lists.transpose()?,
        })
    }
}

/// The memory of a hardware queue; see the [module](self).
///
/// # Invariants
///
/// - `work` was initialised, with [`run`], and runs only while a [`Refill`] of it is registered in
///   the scope of a binding of `dev`.
/// - Only the work item changes the blocks of the pools, and before it is registered whoever makes
///   this.
#[pin_data]
pub(crate) struct QueueMemory {
    short: Pool<Short, SHORT_SHIFT>,
    long_slots: Pool<Slots, 0>,
    long_lists: Pool<List, 0>,
    /// The most that a request can have.
    segments: usize,
    words: usize,
    dev: ARef<Device>,
    /// The work item was told to run at once.
    urgent: Atomic<bool>,
    #[pin]
    work: Opaque<bindings::delayed_work>,
}

// SAFETY: the pools are `Send`: slots are plain data. A work item belongs to no thread.
unsafe impl Send for QueueMemory {}

// SAFETY: the slots and the list of a place are reached by its owner only; all else in the pools is
// `Sync`. The functions that queue a work item may be called by any thread.
unsafe impl Sync for QueueMemory {}

impl QueueMemory {
    /// Makes the memory of a queue of `depth` requests, of up to `segments` segments and `words`
    /// words of descriptors, and fills the reserve.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: no memory.
    /// - `EINVAL`: `depth` is over the block layer's limit.
    pub(crate) fn new(
        dev: &Device<Bound>,
        depth: u16,
        segments: u16,
        words: usize,
    ) -> Result<Arc<Self>> {
        let segments = usize::from(segments);
        // A pool of what no request has is empty.
        let places = |most: usize, less: usize| if most > less { depth } else { 0 };
        let short = Pool::new(places(segments.max(words + 1), 1), SHORT_RESERVE)?;
        let long_slots = Pool::new(places(segments, SHORT_SEGMENTS), LONG_RESERVE)?;
        let long_lists = Pool::new(places(words, SHORT_WORDS), LONG_RESERVE)?;
        let memory = Arc::pin_init(
            pin_init!(Self {
                short,
                long_slots,
                long_lists,
                segments,
                words,
                dev: dev.into(),
                urgent: Atomic::new(false),
                work <- Opaque::ffi_init(|work| {
                    // SAFETY: the work item is new, and does not move from here.
                    unsafe { helpers::phyr_blk_helper_init_delayed_work(work, Some(run)) }
                }),
            }),
            GFP_KERNEL,
        )?;
        // SAFETY: the work item is not queued: nobody else knows of it.
        unsafe { memory.refill(dev)? };
        Ok(memory)
    }

    /// Refills all pools as far as there is memory.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: no memory for one of them.
    ///
    /// # Safety
    ///
    /// Nobody else refills or shrinks them.
    unsafe fn refill(&self, dev: &Device<Bound>) -> Result {
        // SAFETY: the caller promises that nobody else refills or shrinks any of these.
        let results = unsafe {
            [
                self.short.refill(|| Short::new(dev, self.words != 0)),
                self.long_slots.refill(|| new_slots(self.segments)),
                self.long_lists.refill(|| new_list(dev, self.words)),
            ]
        };
        results.into_iter().collect()
    }

    /// Frees what was not needed since the last call.
    ///
    /// # Safety
    ///
    /// Nobody else refills or shrinks the pools.
    unsafe fn shrink(&self) {
        // SAFETY: the caller promises that nobody else refills or shrinks either of these.
        unsafe {
            self.long_slots.shrink();
            self.long_lists.shrink();
        }
    }

    /// Returns whether there may be something to free later.
    fn can_shrink(&self) -> bool {
        self.long_slots.can_shrink() || self.long_lists.can_shrink()
    }

    /// Queues the work item without a delay.
    ///
    /// Context: any, but a non-maskable interrupt.
    #[cold]
    fn hurry(&self) {
        if !self.urgent.xchg(true, Relaxed) {
            // SAFETY: by the type invariants `work` was initialised. It may be disabled: nothing is
            // done then. The work queue is one of the kernel's, made at boot.
            unsafe {
                bindings::mod_delayed_work_on(ANY_CPU, bindings::system_dfl_wq, self.work.get(), 0)
            };
        }
    }

    /// Queues the work item with a delay, unless it is queued already.
    fn look_later(&self) {
        let delay = msecs_to_jiffies(SHRINK_MS);
        // SAFETY: by the type invariants `work` was initialised. It may be disabled: nothing is
        // done then. The work queue is one of the kernel's, made at boot.
        unsafe {
            bindings::queue_delayed_work_on(
                ANY_CPU,
                bindings::system_dfl_wq,
                self.work.get(),
                delay,
            )
        };
    }

    /// Takes a place of `pool`, and puts it into `held`, unless there is one already. Returns its
    /// number.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: none is free. The request is to wait.
    // With the two exchanges into the driver: a call would save and restore more than it does.
    #[inline(always)]
    fn hold<B, const SHIFT: u32>(
        &self,
        pool: &Pool<B, SHIFT>,
        held: &mut HeldPlace,
    ) -> Result<u16> {
        if let Some(index) = held.get() {
            return Ok(index);
        }
        let Some(Taken { place, is_low }) = pool.take() else {
            self.hurry();
            return Err(ENOMEM);
        };
        let index = place.get();
        held.put(place);
        if is_low {
            self.hurry();
        }
        Ok(index)
    }

    /// Returns the most segments that a request can have.
    pub(crate) fn segments(&self) -> u16 {
        // CAST: it came from a `u16`.
        self.segments as u16
    }

    /// Takes slots for `segments` segments, and returns them; one alone needs none.
    ///
    /// Context: any, but a non-maskable interrupt.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: none are free. The request is to wait.
    /// - `E2BIG`: more segments than a request of the queue may have.
    ///
    /// # Safety
    ///
    /// The places in `held` were taken from this, and are not given back for `'s`, in which there
    /// is no other reference to the slots.
    #[inline]
    pub(crate) unsafe fn take_slots<'s>(
        &'s self,
        held: &mut Held,
        segments: u16,
    ) -> Result<&'s mut [Slot]> {
        let cells = match usize::from(segments) {
            0 | 1 => &[],
            // Where there are long ones, they are its slots.
            ..=SHORT_SEGMENTS if !held.long_slots.is_some() => {
                let index = self.hold(&self.short, &mut held.short)?;
                // SAFETY: the place is in `held`: the caller promises that it is not given back.
                unsafe { self.short_cells(index) }
            }
            // SAFETY: the caller promises that the places in `held` are not given back.
            segments => unsafe { self.take_long_slots(held, segments) }?,
        };
        // SAFETY: `UnsafeCell<Slot>` has the layout of `Slot`, and the cells are valid for `'s`.
        // The caller promises that there is no other reference to them.
        Ok(unsafe { slice::from_raw_parts_mut(cells.as_ptr().cast_mut().cast(), cells.len()) })
    }

    /// Takes slots for more segments than a short request has, and returns their cells.
    ///
    /// # Errors
    ///
    /// Those of [`QueueMemory::take_slots`].
    ///
    /// # Safety
    ///
    /// Those of [`QueueMemory::cells`].
    #[inline(never)]
    unsafe fn take_long_slots<'s>(
        &'s self,
        held: &mut Held,
        segments: usize,
    ) -> Result<&'s [UnsafeCell<Slot>]> {
        if segments > self.segments {
            return Err(E2BIG);
        }
        let index = self.hold(&self.long_slots, &mut held.long_slots)?;
        // SAFETY: the place is in `held`: the caller promises that it is not given back.
        Ok(unsafe { self.long_slots.block(index) }.0)
    }

    /// Returns the cells of the slots in `held`.
    ///
    /// # Safety
    ///
    /// The places in `held` were taken from this, and are not given back for `'s`.
    #[inline]
    unsafe fn cells<'s>(&'s self, held: &Held) -> &'s [UnsafeCell<Slot>] {
        // A request of many segments may have a short place, too: for its list.
        if let Some(index) = held.long_slots.get() {
            // SAFETY: the caller promises that the place was taken from this, and stays so.
            return unsafe { self.long_slots.block(index) }.0;
        }
        let Some(index) = held.short.get() else {
            return &[];
        };
        // SAFETY: the caller promises that the place was taken from this, and stays so.
        unsafe { self.short_cells(index) }
    }

    /// Returns the cells of the slots of a short place.
    ///
    /// # Safety
    ///
    /// The place was taken from this, and is not given back for `'s`.
    #[inline]
    unsafe fn short_cells(&self, index: u16) -> &[UnsafeCell<Slot>] {
        // SAFETY: the caller promises that the place was taken from this, and stays so.
        let (short, nr) = unsafe { self.short.block(index) };
        // PANIC: there are as many places in a block.
        &short.slots[nr]
    }

    /// Returns the slots in `held`, for reading.
    ///
    /// # Safety
    ///
    /// The places in `held` were taken from this, and are not given back for `'s`, in which nobody
    /// writes the slots.
    #[inline]
    pub(crate) unsafe fn slots<'s>(&'s self, held: &Held) -> &'s [Slot] {
        // SAFETY: the caller promises that the places were taken from this, and are not given back.
        let cells = unsafe { self.cells(held) };
        // SAFETY: `UnsafeCell<Slot>` has the layout of `Slot`, and the cells are valid for `'s`.
        // The caller promises that nobody writes them.
        unsafe { slice::from_raw_parts(cells.as_ptr().cast(), cells.len()) }
    }

    /// Takes a list of at least `words` words, and returns it.
    ///
    /// Context: any, but a non-maskable interrupt.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: none is free. The request is to wait.
    /// - `EINVAL`: no list of the queue is so long, or it has no words.
    ///
    /// # Safety
    ///
    /// The places in `held` were taken from this, and are not given back for `'s`.
    #[inline]
    pub(crate) unsafe fn take_list<'s>(
        &'s self,
        held: &mut Held,
        words: usize,
    ) -> Result<CoherentView<'s, [u64]>> {
        if words == 0 || words > self.words {
            return Err(EINVAL);
        }
        // If there is a long one already, it stays: a list in which the driver has described a
        // request is not exchanged for a shorter one.
        if words > SHORT_WORDS || held.long_list.is_some() {
            // SAFETY: the caller promises that the places in `held` are not given back.
            return unsafe { self.take_long_list(held) };
        }
        let index = self.hold(&self.short, &mut held.short)?;
        // SAFETY: the place is in `held`: the caller promises that it is not given back.
        let (short, nr) = unsafe { self.short.block(index) };
        let (list, first) = (short.lists.as_ref().ok_or(EINVAL)?, nr * SHORT_WORDS);
        Ok(io_project!(list, [try: first..first + SHORT_WORDS]))
    }

    /// Takes a list of as many words as there can be, and returns it.
    ///
    /// # Errors
    ///
    /// Those of [`QueueMemory::take_list`].
    ///
    /// # Safety
    ///
    /// Those of [`QueueMemory::take_list`].
    #[inline(never)]
    unsafe fn take_long_list<'s>(&'s self, held: &mut Held) -> Result<CoherentView<'s, [u64]>> {
        let index = self.hold(&self.long_lists, &mut held.long_list)?;
        // SAFETY: the place is in `held`: the caller promises that it is not given back.
        let (list, _) = unsafe { self.long_lists.block(index) };
        Ok(io_project!(list, [try: ..self.words]))
    }

    /// Gives back the slots in `held` of a request of many segments. Returns whether a request may
    /// be waiting for them.
    ///
    /// Context: any.
    ///
    /// # Safety
    ///
    /// The place was taken from this. Nobody uses the slots.
    pub(crate) unsafe fn put_long_slots(&self, held: &mut Held) -> bool {
        let long = held.long_slots.take();
        // SAFETY: the caller promises that the place is of this pool. `held` owned it.
        long.is_some_and(|place| unsafe { self.long_slots.put(place) })
    }

    /// Gives back all that is in `held`. Returns whether a request may be waiting for it.
    ///
    /// Context: any.
    ///
    /// # Safety
    ///
    /// The places in `held` were taken from this. Nobody uses the slots, and no device the lists.
    #[inline]
    pub(crate) unsafe fn put(&self, held: &mut Held) -> bool {
        let short = held.short.take();
        // SAFETY: the caller promises that the place is of this pool. `held` owned it.
        let waiting = short.is_some_and(|place| unsafe { self.short.put(place) });
        if held.long_slots.is_some() || held.long_list.is_some() {
            // SAFETY: the caller promises that the places are of this, and that nobody uses them.
            return waiting | unsafe { self.put_long(held) };
        }
        waiting
    }

    /// Gives back what a long request has taken. Returns whether a request may be waiting for it.
    ///
    /// # Safety
    ///
    /// Those of [`QueueMemory::put`].
    #[inline(never)]
    unsafe fn put_long(&self, held: &mut Held) -> bool {
        // SAFETY: the caller promises that the place is of this, and that nobody uses the slots.
        let waiting = unsafe { self.put_long_slots(held) };
        let long = held.long_list.take();
        // SAFETY: the caller promises that the place is of this pool. `held` owned it.
        waiting | long.is_some_and(|place| unsafe { self.long_lists.put(place) })
    }
}

/// Makes a list of `words` words.
fn new_list(dev: &Device<Bound>, words: usize) -> Result<List> {
    coherent_slice(dev, words, GFP_KERNEL | __GFP_NOWARN)
}

/// Makes `len` slots.
fn new_slots(len: usize) -> Result<Slots> {
    let mut slots = Slots::with_capacity(len, GFP_KERNEL | __GFP_NOWARN)?;
    for _ in 0..len {
        slots.push(UnsafeCell::new(Slot::EMPTY), GFP_KERNEL)?;
    }
    Ok(slots)
}

/// The work item of a queue's memory, which runs until this is dropped.
pub(crate) struct Refill(Arc<QueueMemory>);

impl Refill {
    /// Lets the work item of `memory` run until the returned value is dropped, or `scope` ends,
    /// which is that of the device of `memory`.
    ///
    /// # Errors
    ///
    /// Those of [`Scope::register`].
    pub(crate) fn new<'bound>(
        scope: Scope<'bound>,
        memory: &Arc<QueueMemory>,
    ) -> Result<Registration<'bound, Self>> {
        scope.register(Self(memory.clone()))
    }
}

impl Drop for Refill {
    fn drop(&mut self) {
        // It may be asked for later, if what asks was leaked: nothing is done then.
        //
        // SAFETY: by the invariants of `QueueMemory` the work item was initialised.
        unsafe { bindings::disable_delayed_work_sync(self.0.work.get()) };
    }
}

/// Refills the pools of a queue, and frees what is not needed any more.
///
/// A request never depends on this: the reserve is there without.
///
/// # Safety
///
/// The work queue calls this, with the work item of a `QueueMemory`.
unsafe extern "C" fn run(work: *mut bindings::work_struct) {
    // SAFETY: `work` is the member of that name of a `delayed_work`.
    let delayed = unsafe { container_of!(work, bindings::delayed_work, work) };
    // SAFETY: the delayed work is the member `work` of a `QueueMemory`, which has a reference in
    // the `Refill` whose drop waits for this.
    let memory = unsafe { &*container_of!(Opaque::cast_from(delayed), QueueMemory, work) };
    // SAFETY: by the invariants of `QueueMemory` this runs only while a registration in the scope
    // of a binding of the device is there, and the end of that waits.
    let dev = unsafe { memory.dev.as_bound() };

    let is_urgent = memory.urgent.xchg(false, Relaxed);
    // SAFETY: nobody but this work item refills or shrinks the pools, and it does not run twice at
    // the same time.
    let refilled = unsafe { memory.refill(dev) };
    if !is_urgent {
        // SAFETY: this is the work item, too.
        unsafe { memory.shrink() };
    }
    // There may be memory again by then, or something that is not needed any more.
    if refilled.is_err() || memory.can_shrink() {
        memory.look_later();
    }
}
