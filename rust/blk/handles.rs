// SPDX-License-Identifier: GPL-2.0

//! Values that user space refers to by number, looked up on the I/O path.
//!
//! A look-up takes no lock: it is a read-side critical section of RCU, and the value then stays
//! until the [`Pass`] is dropped, of which the value's [`Gate`] keeps count.
//!
//! C header: [`include/linux/xarray.h`](srctree/include/linux/xarray.h)

use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    ops::Deref,
    ptr::{
        self,
        NonNull, //
    }, //
};
use kernel::{
    bindings,
    error::to_result,
    prelude::*,
    sync::{
        rcu,
        Arc, //
    },
    types::Opaque, //
};
use phyr::fail::{
    self,
    Point, //
};
use phyr_driver::gate::Gate;

/// A value under a number.
struct Entry<T> {
    gate: Arc<Gate>,
    value: T,
    /// The next one of those that are about to be freed. Who took the entry out uses it.
    next: UnsafeCell<*mut Entry<T>>,
}

/// Why there is nothing under a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// There never was, or it was removed.
    Unknown,
    /// There is, but its gate is closed.
    Closed,
}

/// A table of values by number, from 1 on. All of them are removed when it is dropped.
///
/// # Examples
///
/// ```
/// use kernel::{prelude::*, sync::Arc};
/// use phyr_driver::gate::Gate;
/// use phyr_blk::{Handles, Missing};
///
/// fn use_it(table: &Handles<u32>) -> Result {
///     let gate = Arc::pin_init(Gate::new(), GFP_KERNEL)?;
///     let number = table.insert(gate.clone(), 7)?;
///
///     // On the I/O path.
///     if let Ok(pass) = table.get(number) {
///         pr_info!("{} stays until the pass is dropped\n", *pass);
///     }
///
///     // Somebody who knows the gate ends its use, and waits for the passes.
///     gate.close();
///     assert!(table.get(number).is_err_and(|e| e == Missing::Closed));
///     table.remove(number);
///     Ok(())
/// }
/// ```
///
/// # Invariants
///
/// `array` is an initialised xarray, of pointers that came out of boxes of `Entry`. Who takes one
/// out owns the box, and frees it when its gate is closed and a grace period has passed.
#[pin_data(PinnedDrop)]
pub struct Handles<T: Send + Sync> {
    #[pin]
    array: Opaque<bindings::xarray>,
    _entries: PhantomData<Entry<T>>,
}

// SAFETY: the table owns its values, which can be sent.
unsafe impl<T: Send + Sync> Send for Handles<T> {}

// SAFETY: an xarray has a lock, or RCU for those who read; the values can be shared, and whoever
// removes one drops it.
unsafe impl<T: Send + Sync> Sync for Handles<T> {}

impl<T: Send + Sync> Handles<T> {
    /// The largest number, and so how many values there can be. More than a program needs; few
    /// enough that what costs a grace period each, as the device is unbound and takes down what the
    /// values hold of it, ends in seconds.
    pub const MAX: u32 = 1024;

    /// An empty table.
    pub fn new() -> impl PinInit<Self> {
        // INVARIANT: it is initialised here, and empty.
        pin_init!(Self {
            array <- Opaque::ffi_init(|array| {
                // SAFETY: the memory is there, and does not move any more.
                unsafe { bindings::xa_init_flags(array, bindings::XA_FLAGS_ALLOC1) }
            }),
            _entries: PhantomData,
        })
    }

    /// Puts `value` in the table until it is [removed](Self::remove), and returns its number. It
    /// can be looked up for as long as `gate` is open.
    ///
    /// Context: sleeps.
    ///
    /// # Errors
    ///
    /// - `ENOSPC`: all numbers are in use.
    /// - `ENOMEM`: no memory.
    ///
    /// The value has been dropped then.
    pub fn insert(&self, gate: Arc<Gate>, value: T) -> Result<u32> {
        let entry = Entry {
            gate,
            value,
            next: UnsafeCell::new(ptr::null_mut()),
        };
        let entry = KBox::into_raw(KBox::new(entry, GFP_KERNEL_ACCOUNT)?);
        let limit = bindings::xa_limit {
            min: 1,
            max: Self::MAX,
        };
        let mut number = 0;
        // SAFETY: by the type invariants, here and until the lock is given back.
        unsafe { bindings::xa_lock(self.array.get()) };
        let result = fail::at(Point::__xa_alloc).and_then(|()| {
            // INVARIANT: the pointer came out of a box.
            //
            // SAFETY: the lock is held; `__xa_alloc` drops it where it has to sleep.
            to_result(unsafe {
                bindings::__xa_alloc(
                    self.array.get(),
                    &mut number,
                    entry.cast(),
                    limit,
                    bindings::GFP_KERNEL_ACCOUNT,
                )
            })
        });
        // SAFETY: the lock is held.
        unsafe { bindings::xa_unlock(self.array.get()) };
        result.map(|()| number).map_err(|e| {
            // SAFETY: the table did not take it.
            drop(unsafe { KBox::from_raw(entry) });
            if e == EBUSY {
                ENOSPC
            } else {
                e
            }
        })
    }

    /// Looks up a value, which stays at least until what is returned is dropped.
    ///
    /// Context: any.
    ///
    /// # Errors
    ///
    /// See [`Missing`].
    #[inline]
    pub fn get(&self, number: u32) -> Result<Pass<T>, Missing> {
        let _rcu = rcu::read_lock();
        // CAST: an index has no fewer bits.
        //
        // SAFETY: by the type invariants; reading takes no lock.
        let entry = unsafe { bindings::xa_load(self.array.get(), number as usize) };
        let entry = NonNull::new(entry.cast::<Entry<T>>()).ok_or(Missing::Unknown)?;
        // SAFETY: by the type invariants the entry is freed no sooner than a grace period after it
        // was taken out of the array; this one began before.
        if !unsafe { entry.as_ref() }.gate.enter() {
            return Err(Missing::Closed);
        }
        // INVARIANT: the gate was entered.
        Ok(Pass(entry))
    }

    /// Removes a value; returns whether there was one. Waits until nobody uses it any more.
    ///
    /// Context: sleeps. Not while a [`Pass`] of the value is held.
    pub fn remove(&self, number: u32) -> bool {
        // CAST: an index has no fewer bits.
        //
        // SAFETY: by the type invariants.
        let entry = unsafe { bindings::xa_erase(self.array.get(), number as usize) };
        let Some(entry) = NonNull::new(entry.cast::<Entry<T>>()) else {
            return false;
        };
        // SAFETY: by the type invariants it is we who own the box now.
        let entry = unsafe { KBox::from_raw(entry.as_ptr()) };
        // Its own grace period begins with this, not after the next call.
        entry.gate.shut();
        rcu::synchronize_rcu();
        entry.gate.close();
        true
    }

    /// Shuts the gates of those values for which `which` returns true: they cannot be looked up
    /// any more, soon. Who wants to close many gates does this first, so that they have a grace
    /// period in common.
    ///
    /// Passes over values whose gate is shut already. Those that are inserted meanwhile may be
    /// among those that `which` sees, or not.
    ///
    /// Context: as `which`. No lock is held while that runs, but a [`Pass`] of the value is: it
    /// must not wait for the end of that, as [`Handles::remove`] does.
    pub fn shut(&self, mut which: impl FnMut(&T) -> bool) {
        let mut number = 0;
        while let Some((found, pass)) = self.enter_from(number) {
            match pass {
                Some(pass) if which(&pass) => pass.shut(),
                _ => {}
            }
            number = found + 1;
        }
    }

    /// Looks up the value with the lowest number from `number` on. Returns its number, and a pass
    /// if its gate is open.
    fn enter_from(&self, number: usize) -> Option<(usize, Option<Pass<T>>)> {
        let _rcu = rcu::read_lock();
        let (found, entry) = self.first_from(number)?;
        // SAFETY: by the type invariants the entry is freed no sooner than a grace period after it
        // was taken out of the array; this one began before.
        let is_open = unsafe { entry.as_ref() }.gate.enter();
        // INVARIANT: the gate was entered.
        Some((found, is_open.then(|| Pass(entry))))
    }

    /// Removes all values. Waits until nobody uses them any more; the number of grace periods that
    /// takes is small, however many they are.
    ///
    /// Context: as [`Handles::remove`].
    pub fn clear(&self) {
        self.shut(|_| true);
        let mut first: *mut Entry<T> = ptr::null_mut();
        while let Some((found, _)) = self.first_from(0) {
            // SAFETY: by the type invariants.
            let entry = unsafe { bindings::xa_erase(self.array.get(), found) };
            let Some(entry) = NonNull::new(entry.cast::<Entry<T>>()) else {
                // Somebody else was faster.
                continue;
            };
            // SAFETY: by the type invariants it is we who own the entry now, and so this field.
            unsafe { *entry.as_ref().next.get() = first };
            first = entry.as_ptr();
        }
        if first.is_null() {
            return;
        }
        rcu::synchronize_rcu();
        while !first.is_null() {
            // SAFETY: as above; it came out of a box.
            let mut entry = unsafe { KBox::from_raw(first) };
            first = *entry.next.get_mut();
            entry.gate.close();
        }
    }

    /// The entry with the lowest number from `number` on, and its number.
    fn first_from(&self, number: usize) -> Option<(usize, NonNull<Entry<T>>)> {
        let mut index = number;
        // SAFETY: by the type invariants.
        let entry = unsafe {
            bindings::xa_find(
                self.array.get(),
                &mut index,
                usize::MAX,
                bindings::XA_PRESENT,
            )
        };
        NonNull::new(entry.cast()).map(|entry| (index, entry))
    }
}

#[pinned_drop]
impl<T: Send + Sync> PinnedDrop for Handles<T> {
    fn drop(self: Pin<&mut Self>) {
        self.clear();
        // SAFETY: by the type invariants; nobody else has it.
        unsafe { bindings::xa_destroy(self.array.get()) };
    }
}

/// A value of a [`Handles`] that was looked up. The value stays until this is dropped; who wants to
/// remove it waits.
///
/// # Invariants
///
/// The entry's gate was entered, and `self` is what leaves it.
pub struct Pass<T>(NonNull<Entry<T>>);

// SAFETY: a pass is a reference to a value that can be shared. What is dropped with it is a count,
// never the value.
unsafe impl<T: Send + Sync> Send for Pass<T> {}

// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Pass<T> {}

impl<T> Pass<T> {
    /// Lets nobody look the value up any more, soon.
    fn shut(&self) {
        // SAFETY: by the type invariants the gate is not empty, so that the entry is there.
        unsafe { self.0.as_ref() }.gate.shut();
    }
}

impl<T> Deref for Pass<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: by the type invariants the gate is not empty, so that the entry is there.
        &unsafe { self.0.as_ref() }.value
    }
}

impl<T> Drop for Pass<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: by the type invariants the entry is there, until after the next call.
        let gate = Arc::as_ptr(unsafe { &(*self.0.as_ptr()).gate });
        // SAFETY: by the type invariants this undoes one `enter`.
        unsafe { Gate::leave(gate) };
    }
}

#[kunit_tests(phyr_blk_handles)]
mod tests {
    use super::*;
    use kernel::new_mutex;

    fn gate() -> Result<Arc<Gate>> {
        Arc::pin_init(Gate::new(), GFP_KERNEL)
    }

    #[test]
    fn finds_what_is_there() -> Result {
        let table = KBox::pin_init(Handles::<u32>::new(), GFP_KERNEL)?;
        let (a, b) = (table.insert(gate()?, 7)?, table.insert(gate()?, 8)?);
        assert!(a != 0 && b != 0 && a != b);
        assert_eq!(table.get(a).map(|value| *value), Ok(7));
        assert_eq!(table.get(b).map(|value| *value), Ok(8));
        for number in [0, a.max(b) + 1, Handles::<u32>::MAX, u32::MAX] {
            assert!(table.get(number).is_err_and(|e| e == Missing::Unknown));
            assert!(!table.remove(number));
        }
        assert!(table.remove(a));
        assert!(!table.remove(a));
        assert!(table.get(a).is_err_and(|e| e == Missing::Unknown));
        assert_eq!(table.get(b).map(|value| *value), Ok(8));
        Ok(())
    }

    #[test]
    fn a_closed_gate_is_told_from_nothing() -> Result {
        let table = KBox::pin_init(Handles::<u32>::new(), GFP_KERNEL)?;
        let gate = gate()?;
        let number = table.insert(gate.clone(), 7)?;
        gate.close();
        assert!(table.get(number).is_err_and(|e| e == Missing::Closed));
        assert!(table.remove(number));
        Ok(())
    }

    #[test]
    fn is_full_at_some_time() -> Result {
        let table = KBox::pin_init(Handles::<u32>::new(), GFP_KERNEL)?;
        // One gate will do: nobody goes in.
        let gate = gate()?;
        for i in 0..Handles::<u32>::MAX {
            assert!(table.insert(gate.clone(), i)? <= Handles::<u32>::MAX);
        }
        assert_eq!(table.insert(gate.clone(), 0), Err(ENOSPC));
        assert_eq!(table.get(Handles::<u32>::MAX).map(|_| ()), Ok(()));
        // There is room again for as many as go.
        assert!(table.remove(7));
        // Its gate was closed with it, which was that of all of them.
        assert!(table.get(8).is_err_and(|e| e == Missing::Closed));
        assert_eq!(table.insert(self::gate()?, 1), Ok(7));
        assert_eq!(table.insert(self::gate()?, 1), Err(ENOSPC));
        Ok(())
    }

    #[test]
    fn some_are_shut_and_all_are_cleared() -> Result {
        let table = KBox::pin_init(Handles::<u32>::new(), GFP_KERNEL)?;
        for i in 1..=20 {
            assert_eq!(table.insert(gate()?, i), Ok(i));
        }
        table.shut(|value| value % 2 == 0);
        for i in 1..=20 {
            let expected = if i % 2 == 0 {
                Err(Missing::Closed)
            } else {
                Ok(i)
            };
            assert_eq!(table.get(i).map(|value| *value), expected);
        }
        table.clear();
        for i in 1..=20 {
            assert!(table.get(i).is_err_and(|e| e == Missing::Unknown));
            assert!(!table.remove(i));
        }
        assert_eq!(table.insert(gate()?, 7), Ok(1));
        Ok(())
    }

    #[test]
    fn who_is_asked_what_to_shut_may_sleep() -> Result {
        let table = KBox::pin_init(Handles::<u32>::new(), GFP_KERNEL)?;
        for i in 1..=3 {
            assert_eq!(table.insert(gate()?, i), Ok(i));
        }
        let lock = KBox::pin_init(new_mutex!(0), GFP_KERNEL)?;
        table.shut(|value| {
            // The debug kernel tells where this is not allowed.
            *lock.lock() += value;
            rcu::synchronize_rcu();
            // The table is not locked either.
            assert_eq!(table.get(*value).map(|other| *other), Ok(*value));
            assert!(table.remove(3) == (*value == 1));
            *value == 2
        });
        assert_eq!(*lock.lock(), 1 + 2);
        assert_eq!(table.get(1).map(|value| *value), Ok(1));
        assert!(table.get(2).is_err_and(|e| e == Missing::Closed));
        assert!(table.get(3).is_err_and(|e| e == Missing::Unknown));
        Ok(())
    }

    #[test]
    fn all_is_dropped_with_the_table() -> Result {
        let value = Arc::new(1u32, GFP_KERNEL)?;
        let table = KBox::pin_init(Handles::<Arc<u32>>::new(), GFP_KERNEL)?;
        for _ in 0..100 {
            table.insert(gate()?, value.clone())?;
        }
        drop(table);
        assert!(Arc::into_unique_or_drop(value).is_some());
        Ok(())
    }
}
