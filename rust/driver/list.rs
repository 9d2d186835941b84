// SPDX-License-Identifier: GPL-2.0

//! Values that end with a list, or before that by their owners.
//!
//! A [`List`] is what a [`scope`](super::scope) and a device's [`managed`](super::managed) values
//! are registered in. Adding a value and taking one out are a few steps each, however many there
//! are: the list is one of links in its entries.
//!
//! ```text
//!   add()      a value of any type -> Entry, the last of those that are live
//!   end()      its owner drops the value; or waits, if close() has come first
//!   close()    the rest is dropped, the newest first; nothing is added any more
//! ```
//!
//! An entry is the list's, not its owner's: it is freed when the list was closed, also where the
//! owner was leaked.

use core::ptr::NonNull;
use kernel::{
    alloc::Flags,
    list::{
        impl_list_arc_safe,
        impl_list_item,
        List as Links,
        ListArc,
        ListLinks, //
    },
    new_condvar,
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Completion,
        CondVar,
        Mutex,
        UniqueArc, //
    }, //
};

/// The registrations of a scope, or of a device, in the order in which they came.
#[pin_data(PinnedDrop)]
pub(crate) struct List {
    #[pin]
    inner: Mutex<Inner>,
    /// Signalled when `making` or `busy` becomes zero.
    #[pin]
    idle: CondVar,
}

/// # Invariants
///
/// The values of the entries in `live` are there. Those of the entries in `ended`, which say that
/// they have, were dropped, or are being dropped, by [`List::close`]. An entry of this list is in
/// no other.
struct Inner {
    live: Links<Entry>,
    ended: Links<Entry>,
    /// The number of values that are being made, to be registered.
    making: usize,
    /// The number of owners that are dropping an entry's value, or wait until it was.
    busy: usize,
    /// True once the list is being closed.
    closing: bool,
}

impl List {
    /// Makes an empty list.
    ///
    /// Not inlined, as [`List::new_shared`]: lockdep wants one name for a class of locks, and both
    /// are in this module then.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: no memory.
    #[inline(never)]
    pub(crate) fn new() -> Result<Pin<KBox<Self>>> {
        KBox::pin_init(Self::init(), GFP_KERNEL)
    }

    /// Makes an empty list that several can have.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: no memory.
    #[inline(never)]
    pub(crate) fn new_shared() -> Result<Arc<Self>> {
        Arc::pin_init(Self::init(), GFP_KERNEL)
    }

    fn init() -> impl PinInit<Self> {
        pin_init!(Self {
            // INVARIANT: there are no entries.
            inner <- new_mutex!(Inner {
                live: Links::new(),
                ended: Links::new(),
                making: 0,
                busy: 0,
                closing: false,
            }),
            idle <- new_condvar!(),
        })
    }

    /// Keeps [`List::close`] from dropping anything until the returned value is dropped.
    ///
    /// # Errors
    ///
    /// - `ENODEV`: the list is being closed.
    pub(crate) fn begin(&self) -> Result<Making<'_>> {
        let mut inner = self.inner.lock();
        if inner.closing {
            return Err(ENODEV);
        }
        inner.making += 1;
        Ok(Making(self))
    }

    /// Adds `value`, or drops it if it cannot. Returns its entry.
    ///
    /// Callers have a bound for the lifetime of `T`: what the value refers to is there until the
    /// list was closed.
    ///
    /// # Errors
    ///
    /// - `ENODEV`: the list is being closed.
    /// - `ENOMEM`: no memory.
    pub(crate) fn add<T: Send>(&self, value: T, flags: Flags) -> Result<Arc<Entry>> {
        let entry = Entry::new(value, flags)?;
        let shared = entry.clone_arc();
        let mut inner = self.inner.lock();
        if inner.closing {
            drop(inner);
            // SAFETY: `entry` is new, with its value, and in no list.
            unsafe { entry.release() };
            return Err(ENODEV);
        }
        // INVARIANT: the value is there, and the entry is in no list.
        inner.live.push_back(entry);
        Ok(shared)
    }

    /// Drops the value of `entry`, or waits until [`List::close`] has dropped it.
    ///
    /// Context: process context, sleeps.
    ///
    /// # Safety
    ///
    /// `entry` was added to this list. Its owner calls this once. It is valid: the list was not
    /// closed yet, or the caller has a share of it.
    pub(crate) unsafe fn end(&self, entry: NonNull<Entry>) {
        let mut inner = self.inner.lock();
        inner.busy += 1;
        // SAFETY: the caller promises that `entry` is valid.
        let taken = match unsafe { entry.as_ref() } {
            ended if ended.has_ended.load(Relaxed) => None,
            // SAFETY: the caller promises that `live` was added to this list, and by the type
            // invariants it is in no other; nor in `ended`, as it would say so.
            live => unsafe { inner.live.remove(live) },
        };
        drop(inner);
        match taken {
            // SAFETY: the entry was taken out of the list just now, from those with a value.
            Some(entry) => unsafe { entry.release() },
            // SAFETY: the caller promises that `entry` is valid, and `close()` drops its value. The
            // list does not free it before `busy` is zero again.
            None => unsafe { entry.as_ref() }.done.wait_for_completion(),
        }
        let mut inner = self.inner.lock();
        inner.busy -= 1;
        if inner.busy == 0 {
            self.idle.notify_all();
        }
    }

    /// Waits for values that are being made, drops what is in the list, the newest first, and waits
    /// for owners that are dropping theirs. Nothing can be registered any more.
    ///
    /// Context: process context, may sleep. Not from what an entry's drop waits for.
    pub(crate) fn close(&self) {
        let mut inner = self.inner.lock();
        inner.closing = true;
        while inner.making > 0 {
            self.idle.wait(&mut inner);
        }
        while let Some(entry) = inner.live.pop_back() {
            let shared = entry.clone_arc();
            // INVARIANT: the value is dropped below.
            entry.has_ended.store(true, Relaxed);
            inner.ended.push_back(entry);
            drop(inner);
            // SAFETY: the entry was taken out of those with a value just now, and nobody else drops
            // that of one that has ended.
            unsafe { shared.release() };
            inner = self.inner.lock();
        }
        while inner.busy > 0 {
            self.idle.wait(&mut inner);
        }
        while let Some(entry) = inner.ended.pop_back() {
            drop(entry);
        }
    }
}

#[pinned_drop]
impl PinnedDrop for List {
    fn drop(self: Pin<&mut Self>) {
        self.close();
    }
}

/// A value that is being made, to be registered in a list; dropping this ends that.
pub(crate) struct Making<'a>(&'a List);

impl Drop for Making<'_> {
    fn drop(&mut self) {
        let mut inner = self.0.inner.lock();
        inner.making -= 1;
        if inner.making == 0 {
            self.0.idle.notify_all();
        }
    }
}

/// A value of any type, which may be shorter-lived than `'static`.
///
/// # Invariants
///
/// `value` was leaked from a box of the type that `drop` is for. It is dropped once, by
/// [`List::add`], [`List::end`] or [`List::close`].
#[pin_data]
pub(crate) struct Entry {
    #[pin]
    links: ListLinks,
    value: NonNull<c_void>,
    drop: unsafe fn(NonNull<c_void>),
    /// Set, under the list's lock, as [`List::close`] takes it.
    has_ended: Atomic<bool>,
    /// Completed when the value was dropped.
    #[pin]
    done: Completion,
}

impl_list_arc_safe! {
    impl ListArcSafe<0> for Entry { untracked; }
}

impl_list_item! {
    impl ListItem<0> for Entry { using ListLinks { self.links }; }
}

// SAFETY: `Entry::new` takes only values that may be sent.
unsafe impl Send for Entry {}

// SAFETY: a shared reference gives no access to the value, except by `release()`, which is unsafe.
unsafe impl Sync for Entry {}

impl Entry {
    /// Makes an entry of `value`, in no list.
    fn new<T: Send>(value: T, flags: Flags) -> Result<ListArc<Self>> {
        let value = KBox::new(value, flags)?;
        let entry = UniqueArc::<Self>::new_uninit(flags)?;
        // INVARIANT: the box is leaked here, and is of the type `T` of `drop_box`.
        let Ok(entry) = entry.pin_init_with(pin_init!(Self {
            links <- ListLinks::new(),
            value: NonNull::from(KBox::leak(value)).cast(),
            drop: drop_box::<T>,
            has_ended: Atomic::new(false),
            done <- Completion::new(),
        }));
        Ok(entry.into())
    }

    /// Drops the value.
    ///
    /// # Safety
    ///
    /// The value is there, and nobody else drops it.
    unsafe fn release(&self) {
        // SAFETY: by the type invariants `value` was leaked from a box of the type of `drop`. The
        // caller promises that the value is there, and that nobody else drops it.
        unsafe { (self.drop)(self.value) };
        self.done.complete_all();
    }
}

/// Frees a box and drops what is in it.
///
/// # Safety
///
/// `value` was leaked from a `KBox<T>`, which is not used again.
unsafe fn drop_box<T>(value: NonNull<c_void>) {
    // SAFETY: the caller promises that `value` was leaked from a `KBox<T>`.
    drop(unsafe { KBox::<T>::from_raw(value.cast().as_ptr()) });
}
