// SPDX-License-Identifier: GPL-2.0

//! Values that user space refers to by number, looked up on the I/O path. Adds to
//! [`kernel::xarray`]: numbers that the table chooses, look-ups without a lock, and removal that
//! waits for users.
//!
//! A look-up takes no lock: it is a read-side critical section of RCU. The value stays until the
//! [`HandleGuard`] is dropped, which is one of the value's [`Users`].
//!
//! C header: [`include/linux/xarray.h`](srctree/include/linux/xarray.h)

use core::{
    cell::UnsafeCell,
    marker::PhantomData,
    mem,
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
        barrier::{
            smp_mb,
            Read,
            Write, //
        },
        rcu,
        Arc, //
    },
    types::Opaque, //
};
use phyr::fail::{
    self,
    Point, //
};
use phyr_driver::users::{
    UserGuard,
    Users, //
};

/// Value under a number.
struct Entry<T> {
    users: Arc<Users>,
    value: T,
    /// The next entry that is about to be freed. Belongs to the caller that took this one out.
    next: UnsafeCell<*mut Entry<T>>,
}

/// Reason for a failed look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupError {
    /// There is no value under the number, or not any more.
    NotFound,
    /// The [`Users`] of the value were killed.
    Killed,
}

/// A table of values by number, from 1 on. All of them are removed when it is dropped.
///
/// # Examples
///
/// ```
/// use kernel::{prelude::*, sync::Arc};
/// use phyr_driver::users::Users;
/// use phyr_blk::{HandleTable, LookupError};
///
/// fn use_it(table: &HandleTable<u32>) -> Result {
///     let users = Arc::pin_init(Users::new(), GFP_KERNEL)?;
///     let number = table.insert(users.clone(), 7)?;
///
///     // On the I/O path.
///     if let Ok(guard) = table.get(number) {
///         pr_info!("{} stays until the guard is dropped\n", *guard);
///     }
///
///     // An owner of `users` ends the use of the value, and waits for the guards.
///     users.drain();
///     assert!(table.get(number).is_err_and(|e| e == LookupError::Killed));
///     table.remove(number);
///     Ok(())
/// }
/// ```
///
/// # Invariants
///
/// `array` is an initialised xarray, of pointers that came out of boxes of `Entry`. The caller that
/// takes one out owns the box, and frees it when its users were drained and a grace period has
/// passed.
#[pin_data(PinnedDrop)]
pub struct HandleTable<T: Send + Sync> {
    #[pin]
    array: Opaque<bindings::xarray>,
    _entries: PhantomData<Entry<T>>,
}

// SAFETY: the table owns its values, which can be sent.
unsafe impl<T: Send + Sync> Send for HandleTable<T> {}

// SAFETY: an xarray has a lock, and RCU for readers; the values can be shared, and dropped by any
// thread that removes them.
unsafe impl<T: Send + Sync> Sync for HandleTable<T> {}

impl<T: Send + Sync> HandleTable<T> {
    /// The largest number, and so the largest count of values. More than a program needs; few
    /// enough that an unbind, which may cost a grace period for each value, ends in seconds.
    pub const MAX: u32 = 1024;

    /// Makes an empty table.
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
    /// can be looked up until `users` is killed.
    ///
    /// Context: sleeps.
    ///
    /// # Errors
    ///
    /// - `ENOSPC`: all numbers are in use.
    /// - `ENOMEM`: no memory.
    ///
    /// The value was dropped then.
    pub fn insert(&self, users: Arc<Users>, value: T) -> Result<u32> {
        let entry = Entry {
            users,
            value,
            next: UnsafeCell::new(ptr::null_mut()),
        };
        let entry = KBox::into_raw(KBox::new(entry, GFP_KERNEL_ACCOUNT)?);
        let limit = bindings::xa_limit {
            min: 1,
            max: Self::MAX,
        };
        let mut number = 0;
        // SAFETY: by the type invariants the xarray is initialised.
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

    /// Looks up a value, which stays at least until the guard is dropped.
    ///
    /// Context: any.
    ///
    /// # Errors
    ///
    /// See [`LookupError`].
    #[inline]
    pub fn get(&self, number: u32) -> Result<HandleGuard<T>, LookupError> {
        let rcu = rcu::read_lock();
        // CAST: an index has no fewer bits.
        //
        // SAFETY: by the type invariants the xarray is initialised; reading takes no lock.
        let entry = unsafe { bindings::xa_load(self.array.get(), number as usize) };
        let entry = NonNull::new(entry.cast::<Entry<T>>()).ok_or(LookupError::NotFound)?;
        // SAFETY: by the type invariants the entry is freed no sooner than a grace period after it
        // was taken out of the array; this one began before.
        let user = unsafe { entry.as_ref() }.users.tryget_rcu(&rcu);
        user.map(|user| HandleGuard::new(entry, user))
            .ok_or_else(|| self.why_not(number, entry))
    }

    /// Returns the reason why `entry`, which was at `number`, has no more users: it may be on its
    /// way out of the table.
    #[cold]
    fn why_not(&self, number: u32, entry: NonNull<Entry<T>>) -> LookupError {
        // Pairs with the barrier in `remove`: who finds that its users were killed finds no entry.
        smp_mb(Read);
        // CAST: an index has no fewer bits.
        //
        // SAFETY: by the type invariants the xarray is initialised; reading takes no lock.
        let now = unsafe { bindings::xa_load(self.array.get(), number as usize) };
        if now == entry.as_ptr().cast() {
            LookupError::Killed
        } else {
            LookupError::NotFound
        }
    }

    /// Removes a value, and waits for its guards. Returns whether there was one.
    ///
    /// Context: sleeps. Not while a [`HandleGuard`] of the value is held.
    pub fn remove(&self, number: u32) -> bool {
        // CAST: an index has no fewer bits.
        //
        // SAFETY: by the type invariants the xarray is initialised.
        let entry = unsafe { bindings::xa_erase(self.array.get(), number as usize) };
        let Some(entry) = NonNull::new(entry.cast::<Entry<T>>()) else {
            return false;
        };
        // SAFETY: by the type invariants this caller, which took the entry out, owns the box.
        let entry = unsafe { KBox::from_raw(entry.as_ptr()) };
        // Taken out before its users are killed: see `why_not`.
        smp_mb(Write);
        // Its own grace period begins with this, not after the next call.
        entry.users.kill();
        rcu::synchronize_rcu();
        entry.users.drain();
        true
    }

    /// Kills the users of the values for which `which` returns true: they cannot be looked up any
    /// more, soon. To drain the users of many values, do this first: they have a grace period in
    /// common then.
    ///
    /// Passes over values whose users were killed already. Values that are inserted meanwhile may
    /// be given to `which`, or not.
    ///
    /// Context: that of `which`. No lock is held while it runs, but a [`HandleGuard`] of the value
    /// is: it must not wait for the end of that, as [`HandleTable::remove`] does.
    pub fn kill(&self, mut which: impl FnMut(&T) -> bool) {
        let mut number = 0;
        while let Some((found, guard)) = self.get_from(number) {
            if let Some(guard) = guard.filter(|guard| which(guard)) {
                // SAFETY: by the type invariants of `guard` the entry has a user, so that it is
                // there.
                unsafe { guard.0.as_ref() }.users.kill();
            }
            number = found + 1;
        }
    }

    /// Looks up the value with the lowest number from `number` on. Returns its number, and a guard
    /// unless its users were killed.
    fn get_from(&self, number: usize) -> Option<(usize, Option<HandleGuard<T>>)> {
        let _rcu = rcu::read_lock();
        let (found, entry) = self.first_from(number)?;
        // SAFETY: by the type invariants the entry is freed no sooner than a grace period after it
        // was taken out of the array; this one began before.
        let user = unsafe { entry.as_ref() }.users.tryget();
        Some((found, user.map(|user| HandleGuard::new(entry, user))))
    }

    /// Removes all values, and waits for their guards. The number of grace periods that takes is
    /// small, however many values there are.
    ///
    /// Context: that of [`HandleTable::remove`].
    pub fn clear(&self) {
        self.kill(|_| true);
        let mut first: *mut Entry<T> = ptr::null_mut();
        while let Some((found, _)) = self.first_from(0) {
            // SAFETY: by the type invariants the xarray is initialised.
            let entry = unsafe { bindings::xa_erase(self.array.get(), found) };
            let Some(entry) = NonNull::new(entry.cast::<Entry<T>>()) else {
                // Another caller has removed it.
                continue;
            };
            // SAFETY: by the type invariants this caller, which took the entry out, owns it, and so
            // this field.
            unsafe { *entry.as_ref().next.get() = first };
            first = entry.as_ptr();
        }
        if first.is_null() {
            return;
        }
        rcu::synchronize_rcu();
        while !first.is_null() {
            // SAFETY: the list has entries that this caller took out; each came out of a box.
            let mut entry = unsafe { KBox::from_raw(first) };
            first = *entry.next.get_mut();
            entry.users.drain();
        }
    }

    /// Returns the entry with the lowest number from `number` on, and that number.
    fn first_from(&self, number: usize) -> Option<(usize, NonNull<Entry<T>>)> {
        let mut index = number;
        // SAFETY: by the type invariants the xarray is initialised.
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
impl<T: Send + Sync> PinnedDrop for HandleTable<T> {
    fn drop(self: Pin<&mut Self>) {
        self.clear();
        // SAFETY: by the type invariants the xarray is initialised; it is empty now.
        unsafe { bindings::xa_destroy(self.array.get()) };
    }
}

/// A value of a [`HandleTable`] that was looked up. It stays until this is dropped; its removal
/// waits.
///
/// # Invariants
///
/// One guard of the entry's users was leaked, for `self` to put.
pub struct HandleGuard<T>(NonNull<Entry<T>>);

// SAFETY: a guard is a reference to a value that can be shared. A count is dropped with it, never
// the value.
unsafe impl<T: Send + Sync> Send for HandleGuard<T> {}

// SAFETY: a shared guard is a shared reference to a value that can be shared.
unsafe impl<T: Send + Sync> Sync for HandleGuard<T> {}

impl<T> HandleGuard<T> {
    /// Makes a guard of `entry`, of which `user` is a user.
    #[inline]
    fn new(entry: NonNull<Entry<T>>, user: UserGuard<'_>) -> Self {
        mem::forget(user);
        // INVARIANT: `user` was leaked just now.
        Self(entry)
    }
}

impl<T> Deref for HandleGuard<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: by the type invariants the entry has a user, so that it is there.
        &unsafe { self.0.as_ref() }.value
    }
}

impl<T> Drop for HandleGuard<T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: by the type invariants the entry is there, until after the next call.
        let users = Arc::as_ptr(unsafe { &(*self.0.as_ptr()).users });
        // SAFETY: by the type invariants this puts one user of the entry, whose guard was leaked.
        unsafe { Users::put(users) };
    }
}

#[kunit_tests(phyr_blk_handles)]
mod tests {
    use super::*;
    use kernel::new_mutex;

    fn users() -> Result<Arc<Users>> {
        Arc::pin_init(Users::new(), GFP_KERNEL)
    }

    #[test]
    fn finds_what_is_there() -> Result {
        let table = KBox::pin_init(HandleTable::<u32>::new(), GFP_KERNEL)?;
        let (a, b) = (table.insert(users()?, 7)?, table.insert(users()?, 8)?);
        assert!(a != 0 && b != 0 && a != b);
        assert_eq!(table.get(a).map(|value| *value), Ok(7));
        assert_eq!(table.get(b).map(|value| *value), Ok(8));
        for number in [0, a.max(b) + 1, HandleTable::<u32>::MAX, u32::MAX] {
            assert!(table.get(number).is_err_and(|e| e == LookupError::NotFound));
            assert!(!table.remove(number));
        }
        assert!(table.remove(a));
        assert!(!table.remove(a));
        assert!(table.get(a).is_err_and(|e| e == LookupError::NotFound));
        assert_eq!(table.get(b).map(|value| *value), Ok(8));
        Ok(())
    }

    #[test]
    fn killed_is_told_from_not_found() -> Result {
        let table = KBox::pin_init(HandleTable::<u32>::new(), GFP_KERNEL)?;
        let users = users()?;
        let number = table.insert(users.clone(), 7)?;
        users.drain();
        assert!(table.get(number).is_err_and(|e| e == LookupError::Killed));
        assert!(table.remove(number));
        Ok(())
    }

    #[test]
    fn is_full_at_some_time() -> Result {
        let table = KBox::pin_init(HandleTable::<u32>::new(), GFP_KERNEL)?;
        // One count will do: it has no user.
        let users = users()?;
        for i in 0..HandleTable::<u32>::MAX {
            assert!(table.insert(users.clone(), i)? <= HandleTable::<u32>::MAX);
        }
        assert_eq!(table.insert(users.clone(), 0), Err(ENOSPC));
        assert_eq!(table.get(HandleTable::<u32>::MAX).map(|_| ()), Ok(()));
        // There is room again for as many as go.
        assert!(table.remove(7));
        // Its count was drained with it, which was that of all of them.
        assert!(table.get(8).is_err_and(|e| e == LookupError::Killed));
        assert_eq!(table.insert(self::users()?, 1), Ok(7));
        assert_eq!(table.insert(self::users()?, 1), Err(ENOSPC));
        Ok(())
    }

    #[test]
    fn some_are_killed_and_all_are_cleared() -> Result {
        let table = KBox::pin_init(HandleTable::<u32>::new(), GFP_KERNEL)?;
        for i in 1..=20 {
            assert_eq!(table.insert(users()?, i), Ok(i));
        }
        table.kill(|value| value % 2 == 0);
        for i in 1..=20 {
            let expected = if i % 2 == 0 {
                Err(LookupError::Killed)
            } else {
                Ok(i)
            };
            assert_eq!(table.get(i).map(|value| *value), expected);
        }
        table.clear();
        for i in 1..=20 {
            assert!(table.get(i).is_err_and(|e| e == LookupError::NotFound));
            assert!(!table.remove(i));
        }
        assert_eq!(table.insert(users()?, 7), Ok(1));
        Ok(())
    }

    #[test]
    fn the_choice_of_what_to_kill_may_sleep() -> Result {
        let table = KBox::pin_init(HandleTable::<u32>::new(), GFP_KERNEL)?;
        for i in 1..=3 {
            assert_eq!(table.insert(users()?, i), Ok(i));
        }
        let lock = KBox::pin_init(new_mutex!(0), GFP_KERNEL)?;
        table.kill(|value| {
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
        assert!(table.get(2).is_err_and(|e| e == LookupError::Killed));
        assert!(table.get(3).is_err_and(|e| e == LookupError::NotFound));
        Ok(())
    }

    #[test]
    fn all_is_dropped_with_the_table() -> Result {
        let value = Arc::new(1u32, GFP_KERNEL)?;
        let table = KBox::pin_init(HandleTable::<Arc<u32>>::new(), GFP_KERNEL)?;
        for _ in 0..100 {
            table.insert(users()?, value.clone())?;
        }
        drop(table);
        assert!(Arc::into_unique_or_drop(value).is_some());
        Ok(())
    }
}
