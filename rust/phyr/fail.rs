// SPDX-License-Identifier: GPL-2.0

//! The calls of the kernel that may fail, by name, and a build for tests in which they do.
//!
//! Rarely taken error paths must unwind correctly, too. Each call that may fail has a
//! [`Point`] in front of it:
//!
//! ```text
//!   fail::at(Point::dma_iova_link)?;             returns what the call returns when it fails
//!   to_result(unsafe { dma_iova_link(..) })?;
//! ```
//!
//! In a build with `PHYR_FAIL_POINTS=1` (`--cfg phyr_fail_points`) the n-th passage of any point,
//! or of one, returns an error as if the call had failed. The suites arm it by `arm()`
//! (`tests/kunit/test_fault_injection.rs`), programs by `/sys/kernel/debug/phyr/fail`. In any other
//! build `at()` is `Ok(())`, and no trace of it is left in the modules, which a test checks.
//!
//! The same build can leave a call out ([`Omission`], `/sys/kernel/debug/phyr/omit`), which breaks
//! the library on purpose, to test that the checkers notice.
//!
//! # Calls without a point
//!
//! - Allocations by the kernel's own Rust code (`KBox`, `KVec`, `Arc` and so on): the debug kernel
//!   fails each of them by `failslab` and `fail_page_alloc`, see Documentation/testing.rst.
//! - Queries: `iommu_get_domain_for_dev()`, `dma_buf_attach_revocable()`, `device_is_bound()`,
//!   `xa_load()` and others.
//! - Calls that fail only for arguments that this code never passes: `dma_resv_lock()` without a
//!   context, `iommu_unmap()` and `dma_iova_unlink()` of exactly what was mapped.
//! - Calls of the kernel's crate that a driver makes directly. `phyr_driver` wraps some of them and
//!   adds a point (`fallible`, `pci::Enabled::iomap_region_sized()`), so that drivers need none.

use kernel::prelude::*;

macro_rules! points {
    ($($name:ident => $error:ident,)*) => {
        /// A call that may fail, by the name of the function.
        #[expect(non_camel_case_types)]
        #[expect(missing_docs)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Point {
            $($name,)*
        }

        #[cfg(phyr_fail_points)]
        impl Point {
            /// All points, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Returns the name of the function.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// Returns the error with which it fails: that of the function or, where the function
            /// returns no errno, that of its caller.
            pub fn error(self) -> Error {
                match self {
                    $(Self::$name => $error,)*
                }
            }
        }
    };
}

points! {
    // The DMA API.
    dma_map_phys => ENOMEM,
    dma_iova_try_alloc => ENOSPC,
    dma_iova_link => ENOMEM,
    dma_iova_sync => EIO,
    dma_alloc_attrs => ENOMEM,
    dma_set_mask_and_coherent => EIO,
    dma_set_max_seg_size => EINVAL,
    // Memory.
    alloc_pages => ENOMEM,
    vmap => ENOMEM,
    pin_user_pages_fast => EFAULT,
    // Domains.
    iommu_group_get => ENODEV,
    iommu_paging_domain_alloc_flags => ENOMEM,
    iommu_attach_device => EBUSY,
    iommu_map => ENOMEM,
    iommu_map_sg => ENOMEM,
    alloc_iova_fast => ENOSPC,
    iova_cache_get => ENOMEM,
    iova_domain_init_rcaches => ENOMEM,
    // dma-buf.
    dma_buf_export => ENOMEM,
    dma_buf_dynamic_attach => ENOMEM,
    dma_buf_map_attachment => ENOMEM,
    dma_resv_wait_timeout => ERESTARTSYS,
    dma_buf_begin_cpu_access => ERESTARTSYS,
    dma_buf_vmap_unlocked => ENOMEM,
    remap_pfn_range => ENOMEM,
    sg_alloc_table => ENOMEM,
    dma_buf_get => EBADF,
    wait_for_completion_interruptible => EINTR,
    wait_for_completion_killable => EINTR,
    pcim_p2pdma_init => EOPNOTSUPP,
    pcim_p2pdma_provider => EINVAL,
    dma_buf_phys_vec_to_sgt => ENOMEM,
    // The life of a driver.
    pci_enable_device_mem => ENODEV,
    pci_iomap => ENOMEM,
    pci_alloc_irq_vectors => ENOSPC,
    request_irq => EBUSY,
    percpu_ref_init => ENOMEM,
    percpu_ref_tryget_live => ENODEV,
    wait_for_completion_timeout => ETIMEDOUT,
    devres_add => ENOMEM,
    // The block layer.
    blk_mq_alloc_tag_set => ENOMEM,
    __blk_mq_alloc_disk => ENOMEM,
    device_add_disk => EINVAL,
    blk_get_queue => ENODEV,
    blk_mq_alloc_request => EAGAIN,
    blk_mq_alloc_queue => ENOMEM,
    blk_rq_map_user_io => ENOMEM,
    io_uring_cmd_import_fixed => EFAULT,
    generic_file_open => EOVERFLOW,
    misc_register => EBUSY,
    // A device that does not answer.
    read_poll_timeout => ETIMEDOUT,
    __xa_alloc => ENOMEM,
}

/// A call that a build for tests can leave out, by the name of the function; see [`omits`].
#[expect(non_camel_case_types)]
#[expect(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Omission {
    dma_iova_destroy,
    iommu_iotlb_sync,
}

/// Returns whether `call` is to be left out.
#[cfg(not(phyr_fail_points))]
#[inline(always)]
pub fn omits(_call: Omission) -> bool {
    false
}

/// Passes `point`. Never fails in this build.
#[cfg(not(phyr_fail_points))]
#[inline(always)]
pub fn at(_point: Point) -> Result {
    Ok(())
}

#[cfg(phyr_fail_points)]
pub use self::armed::{
    arm,
    at,
    disarm,
    failures,
    knobs,
    omits,
    passages,
    Knobs, //
};

#[cfg(phyr_fail_points)]
mod armed {
    use super::{
        Omission,
        Point, //
    };
    use core::{
        str,
        sync::atomic::{
            AtomicU32,
            Ordering::Relaxed, //
        }, //
    };
    use kernel::{
        debugfs,
        fmt,
        prelude::*,
        uaccess::UserSliceReader, //
    };

    const NR: usize = Point::ALL.len();

    /// Passages up to and including the one that fails; zero if none is to fail.
    static LEFT: AtomicU32 = AtomicU32::new(0);
    /// One plus the number of the point whose passages are counted; zero for all points.
    static ONLY: AtomicU32 = AtomicU32::new(0);
    /// Not zero if all passages after that one fail, too.
    static ON: AtomicU32 = AtomicU32::new(0);
    /// One plus the number of the point that failed last; or zero.
    static FAILED: AtomicU32 = AtomicU32::new(0);

    /// One plus the number of the call that is left out; or zero.
    static OMITTED: AtomicU32 = AtomicU32::new(0);

    static PASSAGES: [AtomicU32; NR] = [const { AtomicU32::new(0) }; NR];
    static FAILURES: [AtomicU32; NR] = [const { AtomicU32::new(0) }; NR];

    /// Passes `point`. Fails if [`arm`] was called for this passage.
    pub fn at(point: Point) -> Result {
        // CAST: the number of the variant.
        let nr = point as usize;
        PASSAGES[nr].fetch_add(1, Relaxed);
        let only = ONLY.load(Relaxed);
        // CAST: there are fewer than 2^32 points.
        if only != 0 && only != nr as u32 + 1 {
            return Ok(());
        }
        let next = |left: u32| match left {
            1 if ON.load(Relaxed) != 0 => Some(1),
            _ => left.checked_sub(1),
        };
        if LEFT.fetch_update(Relaxed, Relaxed, next) != Ok(1) {
            return Ok(());
        }
        FAILURES[nr].fetch_add(1, Relaxed);
        // CAST: there are fewer than 2^32 points.
        FAILED.store(nr as u32 + 1, Relaxed);
        pr_info!("fails: {}\n", point.name());
        Err(point.error())
    }

    /// Returns whether `call` is to be left out.
    pub fn omits(call: Omission) -> bool {
        // CAST: the number of the variant.
        OMITTED.load(Relaxed) == call as u32 + 1
    }

    /// Makes the `nth` passage from now on fail: of `point`, or of any point.
    pub fn arm(point: Option<Point>, nth: u32) {
        LEFT.store(0, Relaxed);
        ON.store(0, Relaxed);
        FAILED.store(0, Relaxed);
        // CAST: the number of the variant.
        ONLY.store(point.map_or(0, |point| point as u32 + 1), Relaxed);
        LEFT.store(nth, Relaxed);
    }

    fn failed() -> Option<Point> {
        // CAST: widens.
        let nr = FAILED.load(Relaxed).checked_sub(1)? as usize;
        Point::ALL.get(nr).copied()
    }

    /// Undoes [`arm`]. Returns the point that has failed, if one has.
    pub fn disarm() -> Option<Point> {
        LEFT.store(0, Relaxed);
        failed()
    }

    /// Returns the number of passages of `point`.
    pub fn passages(point: Point) -> u32 {
        // CAST: the number of the variant.
        PASSAGES[point as usize].load(Relaxed)
    }

    /// Returns the number of failures of `point`.
    pub fn failures(point: Point) -> u32 {
        // CAST: the number of the variant.
        FAILURES[point as usize].load(Relaxed)
    }

    /// The files in `/sys/kernel/debug/phyr`.
    pub type Knobs = Pin<KBox<debugfs::Scope<()>>>;

    /// Makes the files in `/sys/kernel/debug/phyr`:
    ///
    /// - `fail`: takes "NAME N" or "any N"; with "N+" all passages from the n-th on fail. Shows the
    ///   point that has failed, with its errno, or "none".
    /// - `points`: shows a line for each point, with its passages and failures.
    /// - `omit`: takes the name of a call to leave out, or "none".
    pub fn knobs() -> Result<Knobs> {
        KBox::pin_init(
            debugfs::Scope::dir((), c"phyr", |data, dir| {
                dir.read_write_callback_file(c"fail", data, &show_failed, &write);
                dir.read_callback_file(c"points", data, &show_points);
                dir.write_only_callback_file(c"omit", data, &write_omit);
            }),
            GFP_KERNEL,
        )
    }

    fn show_failed(_: &(), f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match failed() {
            Some(point) => writeln!(f, "{} {}", point.name(), -point.error().to_errno()),
            None => writeln!(f, "none"),
        }
    }

    fn show_points(_: &(), f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &point in Point::ALL {
            let (name, passed, failed) = (point.name(), passages(point), failures(point));
            writeln!(f, "{name} {passed} {failed}")?;
        }
        Ok(())
    }

    fn write_omit(_: &(), reader: &mut UserSliceReader) -> Result {
        let mut buf = [0; 64];
        let omitted = match read_text(reader, &mut buf)? {
            "none" => 0,
            "dma_iova_destroy" => Omission::dma_iova_destroy as u32 + 1,
            "iommu_iotlb_sync" => Omission::iommu_iotlb_sync as u32 + 1,
            _ => return Err(EINVAL),
        };
        OMITTED.store(omitted, Relaxed);
        Ok(())
    }

    /// Reads what is written to a file, without the end of the line.
    fn read_text<'a>(reader: &mut UserSliceReader, buf: &'a mut [u8; 64]) -> Result<&'a str> {
        let len = reader.len();
        let buf = buf.get_mut(..len).ok_or(EINVAL)?;
        reader.read_slice(buf)?;
        Ok(str::from_utf8(buf).map_err(|_| EINVAL)?.trim())
    }

    fn write(_: &(), reader: &mut UserSliceReader) -> Result {
        let mut buf = [0; 64];
        let text = read_text(reader, &mut buf)?;
        let (name, nth) = text.split_once(' ').ok_or(EINVAL)?;
        let mut points = Point::ALL.iter().copied();
        let point = match name {
            "any" => None,
            name => Some(points.find(|point| point.name() == name).ok_or(EINVAL)?),
        };
        let (nth, on) = match nth.strip_suffix('+') {
            Some(nth) => (nth, 1),
            None => (nth, 0),
        };
        arm(point, nth.parse().map_err(|_| EINVAL)?);
        ON.store(on, Relaxed);
        Ok(())
    }
}
