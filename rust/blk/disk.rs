// SPDX-License-Identifier: GPL-2.0

//! A block device.
//!
//! C: `struct gendisk` ([`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)).

use super::{
    attribute::Groups,
    geometry::Geometry,
    limits::Properties,
    operations::Operations,
    passthrough::RequestQueue,
    tag_set::{
        TagSet,
        FEAT_SKIP_TAGSET_QUIESCE, //
    },
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
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
    sync::{
        Arc,
        LockClassKey, //
    }, //
};
use phyr::fail::{
    self,
    Point, //
};
use phyr_driver::scope::Registration;

/// A disk and all that it needs. The order of the fields is that of the teardown.
///
/// # Invariants
///
/// - `gendisk`'s queue belongs to `tag_set`, and its `queuedata` points to the content of `data`.
/// - `groups` are attributes of `T`.
struct Live<'bound, T: Operations> {
    gendisk: AllocatedDisk,
    groups: KBox<Groups>,
    data: KBox<T::DiskData<'bound>>,
    tag_set: Arc<TagSet<'bound, T>>,
}

// SAFETY: a gendisk belongs to no thread, nor do its attributes; the data is `Send`, and the tag
// set `Send` and `Sync`.
unsafe impl<T: Operations> Send for Live<'_, T> {}

// SAFETY: the methods on a shared gendisk have locks in the block layer; nobody changes its
// attributes; the data is `Sync`, and so is the tag set.
unsafe impl<T: Operations> Sync for Live<'_, T> {}

/// The reference to a `struct gendisk` that its allocation gave.
///
/// # Invariants
///
/// The gendisk comes from `__blk_mq_alloc_disk`, and this owns the reference.
struct AllocatedDisk(NonNull<bindings::gendisk>);

impl Drop for AllocatedDisk {
    fn drop(&mut self) {
        // SAFETY: by the type invariants this owns the reference. A disk that was added has been
        // deleted before, as [`Added`] holds `Live`. One that was not has its queue torn down here.
        unsafe { bindings::put_disk(self.0.as_ptr()) };
    }
}

/// A disk that user space can see.
///
/// This has to end before the scope does. Afterwards no callback of the driver runs any more:
/// `del_gendisk` waits until each request has ended, then stops timers and work for good and leaves
/// the queue frozen; a grace period waits for callbacks that have yet to return. The memory stays
/// with the other owners of `Live`: a [`GenDisk`] that was leaked can still be referred to.
///
/// # Invariants
///
/// `device_add_disk` succeeded on the disk, and nobody else deletes it.
struct Added<'bound, T: Operations>(Arc<Live<'bound, T>>);

impl<T: Operations> Drop for Added<'_, T> {
    fn drop(&mut self) {
        // SAFETY: by the type invariants the disk was added, and nobody else deletes it.
        unsafe { bindings::del_gendisk(self.0.raw()) };
        // `del_gendisk` has drained the queue.
        self.0.tag_set.wait_for_callbacks();
    }
}

/// The operations on the block device itself: none but its geometry, and the module that they pin.
struct BlockDeviceOperations<T>(PhantomData<T>);

impl<T: Operations> BlockDeviceOperations<T> {
    const TABLE: bindings::block_device_operations = bindings::block_device_operations {
        owner: this_module::<T::Module>().as_ptr(),
        ..pin_init::zeroed()
    };

    /// For a disk whose `private_data` is a geometry's.
    const TABLE_WITH_GEOMETRY: bindings::block_device_operations =
        bindings::block_device_operations {
            getgeo: Some(Geometry::getgeo),
            ..Self::TABLE
        };
}

/// A block device; made by [`GenDiskBuilder::build`](super::GenDiskBuilder::build).
///
/// C: `struct gendisk`.
///
/// When it is dropped it is removed: the file systems on it write back what they can, then all
/// requests are waited for. So the device must either answer them or be known to be
/// [dead](Self::mark_dead), with its requests in flight [cancelled](TagSet::cancel).
///
/// It is removed before the scope of its tag set ends also if it is leaked.
pub struct GenDisk<'bound, T: Operations> {
    /// Dropped first: the last `live` frees what the disk uses.
    _added: Registration<'bound, Added<'bound, T>>,
    live: Arc<Live<'bound, T>>,
}

/// Returns the lock class of the wait for a disk's I/O, which has the block layer's name for it.
/// Not generic, so that the class and its name are in this module: see [`TagSet`].
#[inline(never)]
fn lock_class() -> Pin<&'static LockClassKey> {
    static_lock_class!()
}

impl<'bound, T: Operations> GenDisk<'bound, T> {
    pub(crate) fn new(
        name: fmt::Arguments<'_>,
        tag_set: Arc<TagSet<'bound, T>>,
        data: T::DiskData<'bound>,
        properties: &Properties,
    ) -> Result<Self> {
        let data = KBox::new(data, GFP_KERNEL)?;
        let mut live = Self::alloc(tag_set, data, properties)?;
        live.name(name)?;
        let live = Arc::new(live, GFP_KERNEL)?;
        let added = Live::add(live.clone(), properties)?;
        Ok(Self {
            _added: live.tag_set.scope().register(added)?,
            live,
        })
    }

    fn alloc(
        tag_set: Arc<TagSet<'bound, T>>,
        mut data: KBox<T::DiskData<'bound>>,
        properties: &Properties,
    ) -> Result<Live<'bound, T>> {
        let mut limits = properties.limits;
        limits.features |= FEAT_SKIP_TAGSET_QUIESCE;
        let groups = Groups::new(T::ATTRIBUTES, &data)?;
        let queuedata: *mut T::DiskData<'bound> = &mut *data;
        fail::at(Point::__blk_mq_alloc_disk)?;
        // SAFETY: by the invariants of `TagSet` this is an allocated tag set; the limits are valid
        // for the call, and the class is static.
        let raw = from_err_ptr(unsafe {
            bindings::__blk_mq_alloc_disk(
                tag_set.as_raw(),
                &mut limits,
                queuedata.cast(),
                lock_class().as_ptr(),
            )
        })?;
        let raw = NonNull::new(raw).ok_or(ENOMEM)?;
        // SAFETY: the disk was allocated just now, and nobody else knows of it.
        let disk = unsafe { &mut *raw.as_ptr() };
        disk.fops = &BlockDeviceOperations::<T>::TABLE;
        if let Some(geometry) = properties.geometry {
            disk.private_data = geometry.into_private_data();
            disk.fops = &BlockDeviceOperations::<T>::TABLE_WITH_GEOMETRY;
        }
        // SAFETY: nobody else knows of the disk, nor of its queue, which was made for this tag set,
        // with the feature.
        unsafe { tag_set.admit((*raw.as_ptr()).queue) };
        // INVARIANT: it was allocated just now; the queue's data was set to the content of `data`,
        // which does not move.
        Ok(Live {
            gendisk: AllocatedDisk(raw),
            groups,
            data,
            tag_set,
        })
    }

    /// Marks a disk whose device does not answer any more: its size becomes zero, new I/O fails,
    /// and file systems are told. Requests in flight are not [cancelled](TagSet::cancel) by this.
    ///
    /// For a device that is gone, before the disk is dropped.
    ///
    /// Context: sleeps. Not from [`Operations::timeout`].
    pub fn mark_dead(&self) {
        // SAFETY: by the invariants of `AllocatedDisk` it is valid. The block layer takes this for
        // a disk that is being deleted, or was.
        unsafe { bindings::blk_mark_disk_dead(self.live.raw()) };
    }

    /// Returns the queue by which the driver sends requests of its own to the disk.
    ///
    /// # Errors
    ///
    /// - `ENODEV`: the disk is [dead](Self::mark_dead).
    pub fn queue(&self) -> Result<RequestQueue<T>> {
        // SAFETY: by the invariants of `AllocatedDisk` it is valid.
        let queue = NonNull::new(unsafe { (*self.live.raw()).queue }).ok_or(ENODEV)?;
        // SAFETY: it is the queue of this disk, which holds it.
        unsafe { RequestQueue::new(queue) }
    }

    /// Returns the driver's data of the disk.
    pub fn data(&self) -> &T::DiskData<'bound> {
        &self.live.data
    }
}

impl<'bound, T: Operations> Live<'bound, T> {
    fn raw(&self) -> *mut bindings::gendisk {
        self.gendisk.0.as_ptr()
    }

    fn name(&mut self, name: fmt::Arguments<'_>) -> Result {
        // SAFETY: by the invariants of `AllocatedDisk` it is valid; it is not added, so that nobody
        // else uses its name.
        let buffer = unsafe { &mut (*self.raw()).disk_name };
        let mut writer = NullTerminatedFormatter::new(buffer).ok_or(EINVAL)?;
        writer.write_fmt(name).map_err(|_| EINVAL)?;
        // PANIC: a name of C has more bytes than none.
        if buffer[0] == 0 {
            return Err(EINVAL);
        }
        Ok(())
    }

    /// Shows the disk to the world. It must not have been added before.
    fn add(live: Arc<Self>, properties: &Properties) -> Result<Added<'bound, T>> {
        let raw = live.raw();
        let parent = phyr::raw::device(live.tag_set.mapper().device());
        // SAFETY: by the invariants of `AllocatedDisk` it is valid.
        unsafe { bindings::set_capacity(raw, properties.capacity) };
        // SAFETY: by the invariants of `AllocatedDisk` `raw` is valid.
        unsafe { bindings::set_disk_ro(raw, properties.read_only) };
        fail::at(Point::device_add_disk)?;
        // SAFETY: by the invariants of `AllocatedDisk` `raw` is valid; it has a name, a size and
        // operations, and was not added before. The parent is a bound device. The groups are in
        // `live`, which is dropped after the disk was deleted.
        to_result(unsafe { bindings::device_add_disk(parent, raw, live.groups.as_ptr()) })?;
        // INVARIANT: it was added just now.
        Ok(Added(live))
    }
}
