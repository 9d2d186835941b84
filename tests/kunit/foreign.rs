// SPDX-License-Identifier: GPL-2.0

//! Importers and exporters of dma-bufs as C drivers write them, by the C API.

use core::{
    ptr,
    ptr::NonNull,
    sync::atomic::{
        AtomicI32,
        AtomicPtr,
        Ordering::Relaxed, //
    }, //
};
use kernel::{
    bindings,
    device::{
        Bound,
        Device, //
    },
    error::{
        from_err_ptr,
        to_result, //
    },
    prelude::*,
    sync::aref::ARef, //
};
use phyr::{
    bindings as helpers,
    raw,
    DmaAddr,
    DmaVec, //
};
use phyr_dma_buf::DmaBuf;

/// Number of calls of `invalidate_mappings`.
static TOLD: AtomicI32 = AtomicI32::new(0);

/// Number of tables of [`exported()`] that are mapped.
static MAPPED: AtomicI32 = AtomicI32::new(0);

/// A dynamic importer that notes the call, and unmaps later.
static DYNAMIC: bindings::dma_buf_attach_ops = bindings::dma_buf_attach_ops {
    allow_peer2peer: false,
    invalidate_mappings: Some(told),
};

/// A dynamic importer without `invalidate_mappings`.
static DEAF: bindings::dma_buf_attach_ops = bindings::dma_buf_attach_ops {
    allow_peer2peer: false,
    invalidate_mappings: None,
};

/// # Safety
///
/// None.
unsafe extern "C" fn told(_attach: *mut bindings::dma_buf_attachment) {
    TOLD.fetch_add(1, Relaxed);
}

/// An importer that maps and unmaps when a test says so.
pub(crate) struct Importer {
    buf: ARef<DmaBuf>,
    attach: *mut bindings::dma_buf_attachment,
    table: AtomicPtr<bindings::sg_table>,
    told: i32,
}

impl Importer {
    fn new(
        dev: &Device<Bound>,
        buf: &DmaBuf,
        ops: Option<&'static bindings::dma_buf_attach_ops>,
    ) -> Result<Self> {
        let ops = ops.map_or(ptr::null(), ptr::from_ref);
        // SAFETY: the dma-buf is valid, and the device bound.
        let attach = from_err_ptr(unsafe {
            bindings::dma_buf_dynamic_attach(as_raw(buf), raw::device(dev), ops, ptr::null_mut())
        });
        Ok(Self {
            buf: buf.into(),
            attach: attach?,
            table: AtomicPtr::new(ptr::null_mut()),
            told: TOLD.load(Relaxed),
        })
    }

    /// Attaches an importer that unmaps some time after `invalidate_mappings`.
    pub(crate) fn dynamic(dev: &Device<Bound>, buf: &DmaBuf) -> Result<Self> {
        Self::new(dev, buf, Some(&DYNAMIC))
    }

    /// Attaches a dynamic importer without `invalidate_mappings`.
    pub(crate) fn deaf(dev: &Device<Bound>, buf: &DmaBuf) -> Result<Self> {
        Self::new(dev, buf, Some(&DEAF))
    }

    /// Attaches a static importer, as `dma_buf_attach()` does: the core pins what it maps.
    pub(crate) fn fixed(dev: &Device<Bound>, buf: &DmaBuf) -> Result<Self> {
        Self::new(dev, buf, None)
    }

    pub(crate) fn is_told(&self) -> bool {
        TOLD.load(Relaxed) != self.told
    }

    pub(crate) fn map(&self) -> Result {
        let dir = bindings::dma_data_direction::DMA_BIDIRECTIONAL;
        // SAFETY: the attachment is valid.
        let table = unsafe { bindings::dma_buf_map_attachment_unlocked(self.attach, dir) };
        let table = from_err_ptr(table)?;
        self.table.store(table, Relaxed);
        Ok(())
    }

    /// Returns the ranges that are mapped.
    pub(crate) fn ranges(&self) -> Result<KVVec<DmaVec>> {
        let table = self.table.load(Relaxed);
        let mut vecs = KVVec::new();
        // SAFETY: this was mapped.
        let (mut sg, nents) = unsafe { ((*table).sgl, (*table).nents) };
        for _ in 0..nents {
            // SAFETY: there are that many entries.
            let (addr, len) = unsafe { (bindings::sg_dma_address(sg), bindings::sg_dma_len(sg)) };
            // CAST: the tests run on 64 bits.
            vecs.push(
                DmaVec::new(DmaAddr::from_raw(addr), len as usize),
                GFP_KERNEL,
            )?;
            // SAFETY: there are that many entries.
            sg = unsafe { bindings::sg_next(sg) };
        }
        Ok(vecs)
    }

    /// Unmaps, and returns the ranges that were mapped.
    pub(crate) fn unmap(&self) -> Result<KVVec<DmaVec>> {
        let dir = bindings::dma_data_direction::DMA_BIDIRECTIONAL;
        let vecs = self.ranges()?;
        let table = self.table.swap(ptr::null_mut(), Relaxed);
        // SAFETY: this was mapped, and is not used again.
        unsafe { bindings::dma_buf_unmap_attachment_unlocked(self.attach, table, dir) };
        Ok(vecs)
    }

    pub(crate) fn pin(&self) -> Result {
        // SAFETY: the attachment is valid; the lock is held around it.
        let ret = unsafe {
            let resv = (*as_raw(&self.buf)).resv;
            bindings::dma_resv_lock(resv, ptr::null_mut());
            let ret = bindings::dma_buf_pin(self.attach);
            bindings::dma_resv_unlock(resv);
            ret
        };
        to_result(ret)
    }

    pub(crate) fn unpin(&self) {
        // SAFETY: the attachment is valid; the lock is held around it. A test unpins what it has
        // pinned.
        unsafe {
            let resv = (*as_raw(&self.buf)).resv;
            bindings::dma_resv_lock(resv, ptr::null_mut());
            bindings::dma_buf_unpin(self.attach);
            bindings::dma_resv_unlock(resv);
        }
    }
}

impl Drop for Importer {
    fn drop(&mut self) {
        // SAFETY: it is attached. What it has left mapped or pinned no device uses; that an
        // exporter of the library copes with it is what some tests are about.
        unsafe { bindings::dma_buf_detach(as_raw(&self.buf), self.attach) };
    }
}

fn as_raw(buf: &DmaBuf) -> *mut bindings::dma_buf {
    ptr::from_ref(buf).cast_mut().cast()
}

/// Operations of a fence that is signalled by hand.
static FENCE_OPS: bindings::dma_fence_ops = bindings::dma_fence_ops {
    get_driver_name: Some(fence_name),
    get_timeline_name: Some(fence_name),
    enable_signaling: None,
    signaled: None,
    wait: None,
    release: None,
    set_deadline: None,
};

/// # Safety
///
/// None.
unsafe extern "C" fn fence_name(_fence: *mut bindings::dma_fence) -> *const c_char {
    c"phyr_test".as_char_ptr()
}

/// A fence of a buffer that is signalled when the test says so, or dropped.
pub(crate) struct Fence(*mut bindings::dma_fence);

impl Fence {
    /// Adds a fence for a write to `buf`.
    pub(crate) fn write(buf: &DmaBuf) -> Result<Self> {
        let fence = KBox::new(bindings::dma_fence::default(), GFP_KERNEL);
        let fence = KBox::into_raw(fence?);
        // SAFETY: it may be written; who drops the last reference frees it.
        unsafe {
            let context = bindings::dma_fence_context_alloc(1);
            bindings::dma_fence_init(fence, &FENCE_OPS, ptr::null_mut(), context, 1);
        }
        let this = Self(fence);
        let usage = bindings::dma_resv_usage_DMA_RESV_USAGE_WRITE;
        // SAFETY: the buffer is valid; the lock is held around it.
        let ret = unsafe {
            let resv = (*as_raw(buf)).resv;
            bindings::dma_resv_lock(resv, ptr::null_mut());
            let ret = bindings::dma_resv_reserve_fences(resv, 1);
            if ret == 0 {
                bindings::dma_resv_add_fence(resv, fence, usage);
            }
            bindings::dma_resv_unlock(resv);
            ret
        };
        to_result(ret)?;
        Ok(this)
    }

    pub(crate) fn signal(&self) {
        // SAFETY: there is a reference.
        unsafe { bindings::dma_fence_signal(self.0) };
    }
}

impl Drop for Fence {
    fn drop(&mut self) {
        self.signal();
        // SAFETY: this drops one reference, and frees the fence if it was the last one.
        unsafe {
            let count = &raw mut (*self.0).refcount;
            if bindings::refcount_dec_and_test(&raw mut (*count).refcount) {
                bindings::dma_fence_release(count);
            }
        }
    }
}

/// Runs `f` in a process that is being killed: with a signal of which kernel threads are told only
/// if they want to be.
pub(crate) fn killed<T>(f: impl FnOnce() -> T) -> T {
    // CAST: a small number.
    let kill = bindings::SIGKILL as i32;
    let task = kernel::current!().as_ptr();
    // What C calls SIG_KTHREAD_KERNEL and SIG_IGN.
    let [take, ignore] = [3usize, 1].map(|how| {
        // SAFETY: it is never called, and not null.
        unsafe { core::mem::transmute::<usize, bindings::__sighandler_t>(how) }
    });
    // SAFETY: a thread may do this with its own signals.
    unsafe {
        bindings::kernel_sigaction(kill, take);
        bindings::send_sig(kill, task, 1);
    }
    let result = f();
    // SAFETY: a thread may do this with its own signals.
    unsafe {
        bindings::kernel_sigaction(kill, ignore);
        bindings::flush_signals(task);
    }
    result
}

/// Operations of an exporter that hands out a table by hand, and cannot pin.
static OPS: bindings::dma_buf_ops = bindings::dma_buf_ops {
    attach: None,
    detach: None,
    pin: None,
    unpin: None,
    map_dma_buf: Some(map),
    unmap_dma_buf: Some(unmap),
    release: Some(release),
    begin_cpu_access: None,
    end_cpu_access: None,
    mmap: None,
    vmap: None,
    vunmap: None,
};

/// Exports a buffer of `size` bytes whose table is `vecs`; no device may be given it.
pub(crate) fn exported(size: usize, vecs: &[DmaVec]) -> Result<ARef<DmaBuf>> {
    let mut table = KVVec::new();
    table.extend_from_slice(vecs, GFP_KERNEL)?;
    let private = KBox::new(table, GFP_KERNEL)?;
    let private = KBox::into_raw(private);
    let info = bindings::dma_buf_export_info {
        exp_name: c"phyr_test_foreign".as_char_ptr(),
        owner: kernel::module::this_module::<crate::LocalModule>().as_ptr(),
        ops: &raw const OPS,
        size,
        // CAST: two bits.
        flags: bindings::O_RDWR as i32,
        resv: ptr::null_mut(),
        priv_: private.cast(),
    };
    // SAFETY: all that the operations need is there.
    match from_err_ptr(unsafe { bindings::dma_buf_export(&info) }) {
        Ok(buf) => {
            let buf = NonNull::new(buf.cast::<DmaBuf>()).ok_or(ENOMEM)?;
            // SAFETY: it is a new one, with one reference.
            Ok(unsafe { ARef::from_raw(buf) })
        }
        Err(e) => {
            // SAFETY: nobody else has taken it.
            drop(unsafe { KBox::from_raw(private) });
            Err(e)
        }
    }
}

/// Returns the number of mappings of such buffers.
pub(crate) fn mapped() -> i32 {
    MAPPED.load(Relaxed)
}

/// # Safety
///
/// `attach` is a valid attachment to a buffer of [`exported`].
unsafe extern "C" fn map(
    attach: *mut bindings::dma_buf_attachment,
    _dir: bindings::dma_data_direction,
) -> *mut bindings::sg_table {
    let map = || {
        // SAFETY: the private pointer is that of `exported`.
        let vecs = unsafe { &*(*(*attach).dmabuf).priv_.cast::<KVVec<DmaVec>>() };
        let mut table = KBox::new(bindings::sg_table::default(), GFP_KERNEL)?;
        let nr = u32::try_from(vecs.len())?;
        // SAFETY: the table may be written.
        to_result(unsafe { bindings::sg_alloc_table(&mut *table, nr, bindings::GFP_KERNEL) })?;
        let mut sg = table.sgl;
        for vec in vecs {
            // SAFETY: there is an entry for each.
            // CAST: the tests have short ones.
            sg = unsafe {
                helpers::phyr_helper_sg_fill_dma(sg, vec.addr().into_raw(), vec.len() as u32)
            };
        }
        MAPPED.fetch_add(1, Relaxed);
        Ok(KBox::into_raw(table))
    };
    map().unwrap_or_else(Error::to_ptr)
}

/// # Safety
///
/// `table` is what [`map`] gave, and is not used again.
unsafe extern "C" fn unmap(
    _attach: *mut bindings::dma_buf_attachment,
    table: *mut bindings::sg_table,
    _dir: bindings::dma_data_direction,
) {
    MAPPED.fetch_add(-1, Relaxed);
    // SAFETY: the table is that of `map`.
    unsafe {
        bindings::sg_free_table(table);
        drop(KBox::from_raw(table));
    }
}

/// # Safety
///
/// `buf` is a buffer of [`exported`], to which there are no references any more.
unsafe extern "C" fn release(buf: *mut bindings::dma_buf) {
    // SAFETY: the private pointer is that of `exported`.
    drop(unsafe { KBox::from_raw((*buf).priv_.cast::<KVVec<DmaVec>>()) });
}
