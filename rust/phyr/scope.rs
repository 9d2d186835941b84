// SPDX-License-Identifier: GPL-2.0

//! A span of time at whose end everything that was registered in it is torn down.
//!
//! An interrupt handler, a disk or a character device is called from outside until it is
//! unregistered. It may borrow only what is there for as long, and it must be unregistered even if
//! its owner leaks it: `mem::forget` is safe. A lifetime alone gives neither. That of
//! `&'a Device<Bound>` is covariant, so any shorter borrow passes for it, and a lifetime does not
//! see to it that anything is dropped.
//!
//! A [`Scope`] gives both:
//!
//! ```text
//!   begin          'b begins; a list of registrations, empty
//!     |  f(Scope<'b>, ..)      'b is chosen by the library and invariant: what lives for 'b cannot
//!     |                        borrow from the function that registers it
//!     |- Vectors::request()    each registration goes to the end of the list,
//!     |- DiskBuilder::build()  and leaves it when its owner is dropped
//!     v
//!   end            what is still in the list is dropped, the newest first; 'b ends
//! ```
//!
//! There are two kinds:
//!
//! - That of a driver's binding, which [`pci::Driver::probe`](crate::pci::Driver::probe) gets. It
//!   ends as the device is unbound: after the driver's data was dropped, and before the first of
//!   the device's managed resources (devres) is released.
//! - That of a call, [`scope()`], which ends when the call returns, as [`std::thread::scope`] does.
//!
//! [`std::thread::scope`]: https://doc.rust-lang.org/std/thread/fn.scope.html

use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    prelude::*,
    static_lock_class,
    sync::{
        Arc,
        Completion,
        CondVar,
        LockClassKey,
        Mutex, //
    }, //
};

/// The time until the end of a binding or of a call of [`scope()`].
///
/// `'b` is invariant, so that neither a shorter nor a longer time passes for it. A scope is copied
/// freely.
///
/// # Examples
///
/// ```
/// use kernel::{device::{Bound, Device}, prelude::*};
/// use phyr::{bound::Guarded, scope::{scope, Scope}};
///
/// struct Registration<'b>(&'b Device<Bound>);
///
/// impl Drop for Registration<'_> {
///     fn drop(&mut self) {
///         dev_info!(self.0, "torn down, whether it was leaked or not\n");
///     }
/// }
///
/// fn leak<'b>(scope: Scope<'b>) -> Result {
///     let registration = Guarded::new(scope, Registration(scope.device()))?;
///     core::mem::forget(registration);
///     Ok(())
/// }
///
/// fn run(dev: &Device<Bound>) -> Result {
///     scope(dev, |scope| leak(scope))
/// }
/// ```
#[derive(Clone, Copy)]
pub struct Scope<'b> {
    list: &'b List,
    dev: &'b Device<Bound>,
    /// Neither covariant nor contravariant.
    _brand: PhantomData<fn(&'b ()) -> &'b ()>,
}

impl<'b> Scope<'b> {
    /// Returns the device, which is bound until the scope ends.
    #[inline]
    pub fn device(self) -> &'b Device<Bound> {
        self.dev
    }

    /// Registers `value`, which is dropped when the scope ends, and not before.
    ///
    /// Context: process context, may sleep.
    ///
    /// # Errors
    ///
    /// - `ENOMEM`: no memory; the value has been dropped.
    pub fn keep<T: Send + 'b>(self, value: T) -> Result {
        self.list.add(Entry::new(value)?)
    }

    /// Registers `value`; see [`Guarded`](crate::bound::Guarded).
    pub(crate) fn register<T: Send + 'b>(self, value: T) -> Result<Registered<'b>> {
        let entry = Entry::new(value)?;
        self.list.add(entry.clone())?;
        Ok(Registered {
            entry,
            list: self.list,
        })
    }

    /// Makes the scope of a list.
    ///
    /// # Safety
    ///
    /// - `list` is valid, and `dev` bound to the driver that this is for, until the list was
    ///   [closed](List::close).
    /// - The list is closed before the first of the device's managed resources is released.
    /// - `'b` is chosen by nobody but the caller, who uses nothing of that lifetime after closing
    ///   the list.
    pub(crate) unsafe fn new(list: NonNull<List>, dev: &Device<Bound>) -> Self {
        // SAFETY: the caller keeps both for as long as anything of the lifetime `'b` is used.
        unsafe {
            Self {
                list: list.as_ref(),
                dev: NonNull::from(dev).as_ref(),
                _brand: PhantomData,
            }
        }
    }
}

/// Calls `f` with a scope that ends when `f` has returned.
///
/// What `f` returns cannot refer to the scope. What was registered in it and is not dropped by then
/// is dropped now, the newest first, also where `f` has leaked its owner.
///
/// Context: process context, may sleep.
///
/// # Errors
///
/// Those of `f`.
pub fn scope<R>(dev: &Device<Bound>, f: impl for<'b> FnOnce(Scope<'b>) -> Result<R>) -> Result<R> {
    pin_init::stack_pin_init!(let list = List::new());
    // SAFETY: the list is on this function's stack and the caller's borrow keeps the device bound,
    // both until the list was closed below. `f` takes any lifetime, and so knows none that is
    // longer; its result is of no such lifetime.
    let result = f(unsafe { Scope::new(NonNull::from(&*list), dev) });
    list.close();
    result
}

/// The registrations of a scope, in the order in which they came.
#[pin_data(PinnedDrop)]
pub(crate) struct List {
    #[pin]
    inner: Mutex<Inner>,
    /// Signalled when nobody drops an entry any more.
    #[pin]
    idle: CondVar,
}

struct Inner {
    entries: KVec<Arc<Entry>>,
    /// The number of entries that were taken out and are being dropped.
    dropping: usize,
    /// Whether the scope has ended.
    closed: bool,
}

/// Name and class of a lock. lockdep wants one name for a class: both are in this module, and not
/// where a list is made, which is compiled into each driver. So no function that has one may be
/// inlined; modpost finds a class undefined that is.
type LockClass = (&'static CStr, Pin<&'static LockClassKey>);

#[inline(never)]
fn inner_class() -> LockClass {
    (c"phyr: scope", static_lock_class!())
}

#[inline(never)]
fn idle_class() -> LockClass {
    (c"phyr: end of a scope", static_lock_class!())
}

impl List {
    pub(crate) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            inner <- {
                let (name, class) = inner_class();
                let inner = Inner {
                    entries: KVec::new(),
                    dropping: 0,
                    closed: false,
                };
                Mutex::new(inner, name, class)
            },
            idle <- {
                let (name, class) = idle_class();
                CondVar::new(name, class)
            },
        })
    }

    /// Adds an entry; drops its value where it cannot.
    fn add(&self, entry: Arc<Entry>) -> Result {
        let mut inner = self.inner.lock();
        let result = if inner.closed {
            Err(ENODEV)
        } else {
            inner
                .entries
                .push(entry.clone(), GFP_KERNEL)
                .map_err(Error::from)
        };
        drop(inner);
        // SAFETY: the entry is new, and is in no list if it could not be added.
        result.inspect_err(|_| unsafe { entry.release() })
    }

    /// Takes `entry` out of the list, and says whether it was there: then the caller drops its
    /// value and calls [`List::dropped`].
    fn take(&self, entry: &Arc<Entry>) -> bool {
        let mut inner = self.inner.lock();
        let at = inner.entries.iter().rposition(|e| Arc::ptr_eq(e, entry));
        // The reference of the list goes; the caller has another.
        let taken = at.is_some_and(|at| inner.entries.remove(at).is_ok());
        inner.dropping += usize::from(taken);
        taken
    }

    fn dropped(&self) {
        let mut inner = self.inner.lock();
        inner.dropping -= 1;
        if inner.dropping == 0 {
            self.idle.notify_all();
        }
    }

    /// Drops what is in the list, the newest first, and waits for those who are dropping something
    /// that they took out. Nothing can be registered after that.
    ///
    /// Context: process context, may sleep. Not from what an entry's drop waits for.
    pub(crate) fn close(&self) {
        loop {
            let mut inner = self.inner.lock();
            if let Some(entry) = inner.entries.pop() {
                drop(inner);
                // SAFETY: the entry was taken out of the list just now.
                unsafe { entry.release() };
                continue;
            }
            if inner.dropping == 0 {
                inner.closed = true;
                return;
            }
            self.idle.wait(&mut inner);
        }
    }
}

#[pinned_drop]
impl PinnedDrop for List {
    fn drop(self: Pin<&mut Self>) {
        self.close();
    }
}

/// A leaked box of some type, which may be shorter-lived than `'static`.
///
/// # Invariants
///
/// `value` was leaked from a box of the type that `drop` is for. Whoever takes the entry out of its
/// list, or fails to add it, drops it; nobody else does.
struct Entry {
    value: NonNull<c_void>,
    drop: unsafe fn(NonNull<c_void>),
    done: Pin<KBox<Completion>>,
}

// SAFETY: `Entry::new` takes only values that may be sent.
unsafe impl Send for Entry {}

// SAFETY: a shared reference gives no access to the value, but to the one who drops it.
unsafe impl Sync for Entry {}

impl Entry {
    /// Makes an entry of `value`, in no list.
    ///
    /// What the value refers to is there until the scope ends, and it is dropped before: the bound
    /// `'b` of those who call this is that of the scope.
    fn new<T: Send>(value: T) -> Result<Arc<Self>> {
        let done = KBox::pin_init(Completion::new(), GFP_KERNEL)?;
        let value = KBox::new(value, GFP_KERNEL)?;
        let entry = kernel::sync::UniqueArc::new_uninit(GFP_KERNEL)?;
        // INVARIANT: the box is leaked here, and is of the type that `drop_box` is told.
        Ok(entry
            .write(Self {
                value: NonNull::from(KBox::leak(value)).cast(),
                drop: drop_box::<T>,
                done,
            })
            .into())
    }

    /// Drops the value.
    ///
    /// # Safety
    ///
    /// The caller took the entry out of its list, or could not add it.
    unsafe fn release(&self) {
        // SAFETY: by the type invariants the value is there, and the caller is the one to drop it.
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
    // SAFETY: the caller leaked it from a box of this type.
    drop(unsafe { KBox::<T>::from_raw(value.cast().as_ptr()) });
}

/// A value in the list of a scope. Dropping this drops the value, or waits for who does.
pub(crate) struct Registered<'b> {
    entry: Arc<Entry>,
    list: &'b List,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        if self.list.take(&self.entry) {
            // SAFETY: it was taken out of the list just now.
            unsafe { self.entry.release() };
            self.list.dropped();
        } else {
            // The scope is ending.
            self.entry.done.wait_for_completion();
        }
    }
}

#[kunit_tests(phyr_scope)]
mod tests {
    use super::*;
    use kernel::sync::atomic::{
        ordering::Relaxed,
        Atomic, //
    };

    /// Writes down when it is dropped.
    struct Note<'a>(&'a Atomic<i32>, &'a Atomic<i32>);

    impl Drop for Note<'_> {
        fn drop(&mut self) {
            self.1.store(self.0.fetch_add(1, Relaxed) + 1, Relaxed);
        }
    }

    /// Runs `f` with a list and its lifetime, and closes it.
    fn with_list(f: impl for<'b> FnOnce(&'b List) -> Result) -> Result {
        let list = KBox::pin_init(List::new(), GFP_KERNEL)?;
        let result = f(&list);
        list.close();
        result
    }

    fn register<'b, T: Send + 'b>(list: &'b List, value: T) -> Result<Registered<'b>> {
        let entry = Entry::new(value)?;
        list.add(entry.clone())?;
        Ok(Registered { entry, list })
    }

    static COUNT: Atomic<i32> = Atomic::new(0);
    static DROPPED: [Atomic<i32>; 4] = [const { Atomic::new(0) }; 4];

    fn dropped() -> [i32; 4] {
        [0, 1, 2, 3].map(|nr: usize| DROPPED[nr].load(Relaxed))
    }

    #[test]
    fn what_is_leaked_ends_with_the_scope_the_newest_first() -> Result {
        COUNT.store(0, Relaxed);
        DROPPED.iter().for_each(|d| d.store(0, Relaxed));
        with_list(|list| {
            core::mem::forget(register(list, Note(&COUNT, &DROPPED[0]))?);
            let early = register(list, Note(&COUNT, &DROPPED[1]))?;
            core::mem::forget(register(list, Note(&COUNT, &DROPPED[2]))?);
            // An entry of which another is a part.
            let part = register(list, Note(&COUNT, &DROPPED[3]))?;
            core::mem::forget(register(list, part)?);
            assert_eq!(dropped(), [0, 0, 0, 0]);
            drop(early);
            assert_eq!(dropped(), [0, 1, 0, 0]);
            Ok(())
        })?;
        assert_eq!(dropped(), [4, 1, 3, 2]);
        Ok(())
    }

    #[test]
    fn nothing_is_registered_after_the_end() -> Result {
        COUNT.store(0, Relaxed);
        let list = KBox::pin_init(List::new(), GFP_KERNEL)?;
        list.close();
        assert_eq!(
            register(&list, Note(&COUNT, &DROPPED[0])).err(),
            Some(ENODEV)
        );
        assert_eq!(COUNT.load(Relaxed), 1);
        Ok(())
    }
}
