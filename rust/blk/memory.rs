// SPDX-License-Identifier: GPL-2.0

//! Memory of a hardware queue's requests, for what does not fit in a request itself.
//!
//! The ranges of a request of several segments are in [`Slot`]s, which no device can reach. What a
//! device reads to find them, such as a PRP list or an SGL, is in coherent memory
//! ([`Mapped::describe`](super::Mapped::describe)). Most requests need neither: their one range is
//! in the request, and its address in the command. The others take what they need from the pools of
//! their queue ([`Pool`]), in one of two sizes, and give it back when they are unmapped.
//!
//! ```text
//!                    short: 32 segments     long: the most that a request can have
//!   slots            512 bytes              16 bytes a segment      CPU only
//!   descriptors      256 bytes              as the driver says      coherent, read by the device
//! ```
//!
//! A work item of the queue refills the pools ahead. If it is late, or there is no memory, a
//! request is given back to blk-mq with `BLK_STS_RESOURCE`. It is tried again when another one
//! gives its memory back, and every 3 ms (`BLK_MQ_RESOURCE_DELAY`) in any case.

use super::{
    bindings as helpers,
    held::{
        Held,
        Kind, //
    },
    pool::{
        Pool,
        Taken, //
    }, //
};
use core::{
    cell::UnsafeCell,
    ops::Range,
    slice, //
};
use kernel::{
    alloc::flags::__GFP_NOWARN,
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
    page::PAGE_SIZE,
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

/// Places of a short pool that are kept free: one for each of a few processors that submit to the
/// queue at once, and what comes until the work item runs. A page has more anyway.
const SHORT_RESERVE: u16 = 4;

/// Places of a long pool that are kept free. One makes progress certain; the second is for what
/// comes until the work item runs.
const LONG_RESERVE: u16 = 2;

/// Time between two looks at what is not needed any more, in milliseconds: long beside a burst of
/// requests, so that it is not paid for twice.
const SHRINK_MS: u32 = 10_000;

const WORD: usize = size_of::<u64>();

/// `WORK_CPU_UNBOUND`
// CAST: a small number.
const ANY_CPU: c_int = bindings::wq_misc_consts_WORK_CPU_UNBOUND as c_int;

/// Bytes of a block of slots. Larger slots have a block of their own.
const SLOTS_BLOCK: usize = 4096;

/// Memory for slots.
type Slots = KVVec<UnsafeCell<Slot>>;

/// Memory for descriptors.
type List = Coherent<[u64]>;

/// A pool, and the size of its places and blocks in elements.
struct Places<B> {
    pool: Pool<B>,
    len: usize,
    block: usize,
}

impl<B> Places<B> {
    /// Makes a pool without memory, of up to `places` places of `len` elements of `size` bytes, in
    /// blocks of `block` bytes, a power of two, or one for each place that is larger.
    fn new(places: u16, len: usize, size: usize, block: usize, reserve: u16) -> Result<Self> {
        // A place does not cross the end of a block, or of a page that the block is made of.
        let bytes = match len * size {
            bytes if bytes < block => bytes.next_power_of_two(),
            bytes => bytes.next_multiple_of(block),
        };
        let shift = (block / bytes).max(1).ilog2();
        Ok(Self {
            pool: Pool::new(places, shift, reserve)?,
            len: bytes / size,
            block: (bytes << shift) / size,
        })
    }

    /// Returns the block of the place `index`, and the elements that the place has.
    ///
    /// # Safety
    ///
    /// The place was taken from this pool, and is not given back while the block is used.
    #[inline]
    unsafe fn place(&self, index: u16) -> Option<(&B, Range<usize>)> {
        // SAFETY: the caller promises that the place was taken, and is not given back meanwhile.
        let (block, nr) = unsafe { self.pool.block(index)? };
        Some((block, nr * self.len..(nr + 1) * self.len))
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
    short_slots: Places<Slots>,
    long_slots: Places<Slots>,
    short_lists: Places<List>,
    long_lists: Places<List>,
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
        let slots = |places, len, reserve| {
            Places::new(places, len, size_of::<Slot>(), SLOTS_BLOCK, reserve)
        };
        let lists = |places, len, reserve| Places::new(places, len, WORD, PAGE_SIZE, reserve);
        let long = (places(segments, SHORT_SEGMENTS), places(words, SHORT_WORDS));
        let short_slots = slots(depth, segments.clamp(1, SHORT_SEGMENTS), SHORT_RESERVE)?;
        let long_slots = slots(long.0, segments.max(1), LONG_RESERVE)?;
        let short_lists = lists(places(words, 0), SHORT_WORDS, SHORT_RESERVE)?;
        let long_lists = lists(long.1, words.max(1), LONG_RESERVE)?;
        let memory = Arc::pin_init(
            pin_init!(Self {
                short_slots,
                long_slots,
                short_lists,
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
        let list = |len| move || coherent_slice(dev, len, GFP_KERNEL | __GFP_NOWARN);
        // SAFETY: the caller promises that nobody else refills or shrinks any of these.
        let results = unsafe {
            [
                self.short_slots
                    .pool
                    .refill(|| new_slots(self.short_slots.block)),
                self.short_lists.pool.refill(list(self.short_lists.block)),
                self.long_slots
                    .pool
                    .refill(|| new_slots(self.long_slots.block)),
                self.long_lists.pool.refill(list(self.long_lists.block)),
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
            self.long_slots.pool.shrink();
            self.long_lists.pool.shrink();
        }
    }

    /// Returns whether there may be something to free later.
    fn can_shrink(&self) -> bool {
        self.long_slots.pool.can_shrink() || self.long_lists.pool.can_shrink()
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

    /// Takes a place of `pool`, and puts it into `held`, unless there is one already.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: none is free. The request is to wait.
    #[inline]
    fn hold<B>(&self, pool: &Pool<B>, kind: Kind, held: &mut Held) -> Result {
        if held.get(kind).is_some() {
            return Ok(());
        }
        let Some(Taken { place, is_low }) = pool.take() else {
            self.hurry();
            return Err(ENOMEM);
        };
        held.put(kind, place);
        if is_low {
            self.hurry();
        }
        Ok(())
    }

    /// Returns the most segments that a request can have.
    pub(crate) fn segments(&self) -> u16 {
        // CAST: it came from a `u16`.
        self.segments as u16
    }

    /// Takes slots for `segments` segments.
    ///
    /// Context: any, but a non-maskable interrupt.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: none are free. The request is to wait.
    /// - `E2BIG`: more segments than a request of the queue may have.
    #[inline]
    pub(crate) fn hold_slots(&self, held: &mut Held, segments: u16) -> Result {
        let segments = usize::from(segments);
        if segments <= SHORT_SEGMENTS {
            self.hold(&self.short_slots.pool, Kind::ShortSlots, held)
        } else if segments <= self.segments {
            self.hold(&self.long_slots.pool, Kind::LongSlots, held)
        } else {
            Err(E2BIG)
        }
    }

    /// Takes a list of `words` words.
    ///
    /// Context: any, but a non-maskable interrupt.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: none is free. The request is to wait.
    /// - `EINVAL`: no list of the queue is so long, or it has no words.
    #[inline]
    pub(crate) fn hold_list(&self, held: &mut Held, words: usize) -> Result {
        if words == 0 || words > self.words {
            Err(EINVAL)
        } else if words <= SHORT_WORDS {
            self.hold(&self.short_lists.pool, Kind::ShortList, held)
        } else {
            self.hold(&self.long_lists.pool, Kind::LongList, held)
        }
    }

    /// Returns the cells of the slots in `held`.
    ///
    /// # Safety
    ///
    /// The places in `held` were taken from this, and are not given back for `'s`.
    #[inline]
    unsafe fn cells<'s>(&'s self, held: &Held) -> &'s [UnsafeCell<Slot>] {
        let place = match (held.get(Kind::ShortSlots), held.get(Kind::LongSlots)) {
            // SAFETY: the caller promises that the place was taken from this, and stays so.
            (Some(index), _) => unsafe { self.short_slots.place(index) },
            // SAFETY: the caller promises that the place was taken from this, and stays so.
            (None, Some(index)) => unsafe { self.long_slots.place(index) },
            (None, None) => None,
        };
        place
            .and_then(|(block, range)| block.get(range))
            .unwrap_or(&[])
    }

    /// Returns the slots in `held`, for writing.
    ///
    /// # Safety
    ///
    /// The places in `held` were taken from this, and are not given back for `'s`, in which there
    /// is no other reference to the slots.
    #[inline]
    #[expect(clippy::mut_from_ref)]
    pub(crate) unsafe fn slots_mut<'s>(&'s self, held: &Held) -> &'s mut [Slot] {
        // SAFETY: the caller promises that the places were taken from this, and are not given back.
        let cells = unsafe { self.cells(held) };
        // SAFETY: `UnsafeCell<Slot>` has the layout of `Slot`, and the cells are valid for `'s`.
        // The caller promises that there is no other reference to them.
        unsafe { slice::from_raw_parts_mut(cells.as_ptr().cast_mut().cast(), cells.len()) }
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

    /// Returns the list of at least `words` words in `held`.
    ///
    /// # Safety
    ///
    /// The places in `held` were taken from this, and are not given back for `'s`.
    #[inline]
    pub(crate) unsafe fn list<'s>(
        &'s self,
        held: &Held,
        words: usize,
    ) -> Option<CoherentView<'s, [u64]>> {
        let (kind, lists) = if words <= SHORT_WORDS {
            (Kind::ShortList, &self.short_lists)
        } else {
            (Kind::LongList, &self.long_lists)
        };
        // SAFETY: the caller promises that the place was taken from this, and stays so.
        let (block, range) = unsafe { lists.place(held.get(kind)?) }?;
        (|| Ok::<_, Error>(io_project!(block, [try: range])))().ok()
    }

    /// Gives back the slots in `held`. Returns whether a request may be waiting for them.
    ///
    /// Context: any.
    ///
    /// # Safety
    ///
    /// The places in `held` were taken from this. Nobody uses the slots.
    pub(crate) unsafe fn put_slots(&self, held: &mut Held) -> bool {
        let (short, long) = (held.take(Kind::ShortSlots), held.take(Kind::LongSlots));
        // SAFETY: the caller promises that the places are of these pools. `held` owned them.
        short.is_some_and(|place| unsafe { self.short_slots.pool.put(place) })
            // SAFETY: the place is of this pool, as the caller promises; `held` owned it.
            | long.is_some_and(|place| unsafe { self.long_slots.pool.put(place) })
    }

    /// Gives back all that is in `held`. Returns whether a request may be waiting for it.
    ///
    /// Context: any.
    ///
    /// # Safety
    ///
    /// The places in `held` were taken from this. Nobody uses the slots, and no device the lists.
    pub(crate) unsafe fn put(&self, held: &mut Held) -> bool {
        // SAFETY: the caller promises that the places are of this, and that nobody uses the slots.
        let waiting = unsafe { self.put_slots(held) };
        let (short, long) = (held.take(Kind::ShortList), held.take(Kind::LongList));
        waiting
            // SAFETY: the caller promises that the places are of these pools. `held` owned them.
            | short.is_some_and(|place| unsafe { self.short_lists.pool.put(place) })
            // SAFETY: the place is of this pool, as the caller promises; `held` owned it.
            | long.is_some_and(|place| unsafe { self.long_lists.pool.put(place) })
    }
}

/// Makes a block of `len` slots.
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
    // the
    // `Refill` whose drop waits for this.
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
