// SPDX-License-Identifier: GPL-2.0

//! A block device.
//!
//! C: `struct gendisk` ([`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)).

use super::{
    limits::DiskBuilder,
    operations::Operations,
    tag_set::TagSet, //
};
use core::{
    marker::PhantomData,
    ptr::{
        self,
        NonNull, //
    },
};
use kernel::{
    bindings,
    error::{
        from_err_ptr,
        to_result, //
    },
    fmt::{
        self,
        Write, //
    },
    module::this_module,
    prelude::*,
    static_lock_class,
    str::NullTerminatedFormatter,
    sync::Arc, //
};
use phyr::bound::Guarded;

/// A `struct gendisk` that was allocated, and maybe added.
///
/// # Invariants
///
/// - `raw` is a gendisk from `__blk_mq_alloc_disk`, of which this is the owner.
/// - `added` tells whether `device_add_disk` succeeded on it.
struct Gendisk {
    raw: NonNull<bindings::gendisk>,
    added: bool,
}

impl Drop for Gendisk {
    fn drop(&mut self) {
        let raw = self.raw.as_ptr();
        if self.added {
            // SAFETY: by the type invariants the disk was added, and is taken away only here.
            unsafe { bindings::del_gendisk(raw) };
        }
        // SAFETY: by the type invariants `self` owns the reference that the allocation gave.
        unsafe { bindings::put_disk(raw) };
    }
}

/// All that a disk needs. The order of the fields is that of the teardown.
///
/// # Invariants
///
/// - `gendisk`'s queue belongs to `tag_set`, and its `queuedata` points to the content of `data`.
struct Live<'bound, T: Operations> {
    /// When this is dropped no callback of the driver runs any more: `del_gendisk` waits until each
    /// request has ended, then stops timers and work for good and leaves the queue frozen. (Where
    /// the disk was never added, `put_disk` does so.)
    gendisk: Gendisk,
    data: KBox<T::DiskData<'bound>>,
    tag_set: Arc<TagSet<'bound, T>>,
}

// SAFETY: the gendisk can be deleted by any thread; the data is `Send`, and the tag set `Send` and
// `Sync`.
unsafe impl<T: Operations> Send for Live<'_, T> {}

// SAFETY: the methods on a shared gendisk have locks in the block layer; the data is `Sync`, and so
// is the tag set.
unsafe impl<T: Operations> Sync for Live<'_, T> {}

/// The operations on the block device itself: there are none, but for the module that they pin.
struct Fops<T>(PhantomData<T>);

impl<T: Operations> Fops<T> {
    const TABLE: bindings::block_device_operations = bindings::block_device_operations {
        owner: this_module::<T::Module>().as_ptr(),
        ..NO_OPERATIONS
    };
}

/// Spelled out, as constants cannot be zeroed.
const NO_OPERATIONS: bindings::block_device_operations = bindings::block_device_operations {
    submit_bio: None,
    poll_bio: None,
    open: None,
    release: None,
    ioctl: None,
    compat_ioctl: None,
    check_events: None,
    unlock_native_capacity: None,
    getgeo: None,
    set_read_only: None,
    free_disk: None,
    swap_slot_free_notify: None,
    report_zones: None,
    devnode: None,
    get_unique_id: None,
    owner: ptr::null_mut(),
    pr_ops: ptr::null(),
    alternative_gpt_sector: None,
};

/// A block device; made by [`DiskBuilder::build`].
///
/// When it is dropped it is removed: the file systems on it write back what they can, then all
/// requests are waited for. So the device must either answer them or be known to be
/// [dead](Self::mark_dead), with what was in flight [cancelled](TagSet::cancel).
///
/// It is removed before the device unbinds also if it is leaked.
pub struct Disk<'bound, T: Operations>(Guarded<'bound, Live<'bound, T>>);

impl<'bound, T: Operations> Disk<'bound, T> {
    pub(crate) fn new(
        name: fmt::Arguments<'_>,
        tag_set: Arc<TagSet<'bound, T>>,
        data: T::DiskData<'bound>,
        builder: DiskBuilder,
    ) -> Result<Self> {
        let data = KBox::new(data, GFP_KERNEL)?;
        let mut live = Self::alloc(tag_set, data, &builder)?;
        live.name(name)?;
        live.add(&builder)?;
        let device = live.tag_set.mapper().device();
        Ok(Self(Guarded::new(device, live)?))
    }

    fn alloc(
        tag_set: Arc<TagSet<'bound, T>>,
        mut data: KBox<T::DiskData<'bound>>,
        builder: &DiskBuilder,
    ) -> Result<Live<'bound, T>> {
        let mut limits = builder.limits();
        let queuedata: *mut T::DiskData<'bound> = &mut *data;
        // SAFETY: by the invariants of `TagSet` this is an allocated tag set; the limits are valid
        // for the call, and the class is static.
        let raw = from_err_ptr(unsafe {
            bindings::__blk_mq_alloc_disk(
                tag_set.as_raw(),
                &mut limits,
                queuedata.cast(),
                static_lock_class!().as_ptr(),
            )
        })?;
        let raw = NonNull::new(raw).ok_or(ENOMEM)?;
        // SAFETY: the disk was allocated just now, and nobody else knows of it.
        unsafe { (*raw.as_ptr()).fops = &Fops::<T>::TABLE };
        // INVARIANT: allocated and not added; the queue's data was set to the content of `data`,
        // which does not move.
        Ok(Live {
            gendisk: Gendisk { raw, added: false },
            data,
            tag_set,
        })
    }

    /// Says that the device does not answer any more: the disk's size becomes zero, new I/O fails,
    /// and file systems are told. What is in flight is yet to be [cancelled](TagSet::cancel).
    ///
    /// For a device that is gone, before the disk is dropped.
    ///
    /// Context: sleeps. Not from [`Operations::timeout`].
    pub fn mark_dead(&self) {
        // SAFETY: by the invariants of `Gendisk` it is valid; nobody removes it while `self` is
        // borrowed, or else the removal waits in the block layer's own locks.
        unsafe { bindings::blk_mark_disk_dead(self.raw()) };
    }

    /// Changes the size, in sectors of 512 bytes, and tells user space.
    ///
    /// Context: sleeps.
    pub fn set_capacity_sectors(&self, sectors: u64) {
        // SAFETY: as in `mark_dead`.
        unsafe { bindings::set_capacity_and_notify(self.raw(), sectors) };
    }

    /// The driver's data of the disk.
    pub fn data(&self) -> &T::DiskData<'bound> {
        &self.0.data
    }

    /// The tag set that the disk uses.
    pub fn tag_set(&self) -> &Arc<TagSet<'bound, T>> {
        &self.0.tag_set
    }

    fn raw(&self) -> *mut bindings::gendisk {
        self.0.gendisk.raw.as_ptr()
    }
}

impl<T: Operations> Live<'_, T> {
    fn name(&mut self, name: fmt::Arguments<'_>) -> Result {
        // SAFETY: by the invariants of `Gendisk` it is valid; it is not added, so that nobody else
        // uses its name.
        let buffer = unsafe { &mut (*self.gendisk.raw.as_ptr()).disk_name };
        let mut writer = NullTerminatedFormatter::new(buffer).ok_or(EINVAL)?;
        writer.write_fmt(name).map_err(|_| EINVAL)?;
        // SAFETY: as above.
        if unsafe { (*self.gendisk.raw.as_ptr()).disk_name[0] } == 0 {
            return Err(EINVAL);
        }
        Ok(())
    }

    fn add(&mut self, builder: &DiskBuilder) -> Result {
        let raw = self.gendisk.raw.as_ptr();
        let parent = phyr::raw::device(self.tag_set.mapper().device());
        // SAFETY: by the invariants of `Gendisk` it is valid.
        unsafe { bindings::set_capacity(raw, builder.capacity()) };
        // SAFETY: as above.
        unsafe { bindings::set_disk_ro(raw, builder.is_read_only()) };
        // SAFETY: as above; it has a name, a size and operations, and was not added before. The
        // parent is a bound device.
        to_result(unsafe { bindings::device_add_disk(parent, raw, ptr::null_mut()) })?;
        // INVARIANT: it was added just now.
        self.gendisk.added = true;
        Ok(())
    }
}
