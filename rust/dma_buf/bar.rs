// SPDX-License-Identifier: GPL-2.0

//! Memory of a device: ranges of a BAR, and the route of an importer to them.
//!
//! The route depends on where the two devices are. Within one PCI hierarchy that does not redirect,
//! the traffic goes by bus address and never comes to the IOMMU: there is nothing to map. Through
//! the host bridge the ranges are mapped like memory, but as memory of a device
//! ([`MemoryKind::Mmio`]), and all of them in one mapping. Elsewhere there is no route. It is found
//! once, as the importer attaches: a buffer of BARs has no other memory.
//!
//! The BARs are the exporter's for as long as its driver is bound. When that ends the buffer is
//! revoked first; importers that cannot be told are refused from the beginning.
//!
//! C header: [`include/linux/pci-p2pdma.h`](srctree/include/linux/pci-p2pdma.h)

use crate::{
    bindings as helpers,
    dma_buf::DmaBuf,
    exporter::AttachmentRef,
    resv::ResvGuard,
    route::Route, //
};
use core::{
    iter::Map,
    ptr::NonNull,
    slice, //
};
use kernel::{
    bindings,
    device::Bound,
    devres::Devres,
    error::from_err_ptr,
    new_mutex,
    page::PAGE_SIZE,
    pci,
    prelude::*,
    scatterlist::SGTable,
    sync::{
        Arc,
        Mutex, //
    }, //
};
use phyr::{
    fail::{
        self,
        Point, //
    },
    memory::Memory,
    raw,
    DataDirection,
    MemoryKind,
    Phyr,
    PhysAddr, //
};

/// Ranges of a BAR, which are always in a buffer.
///
/// # Invariants
///
/// The pieces are whole pages of a BAR of the device of `provider`, `len` bytes in all; there is
/// one at least.
pub struct BarMemory {
    pieces: KVVec<Phyr>,
    len: usize,
    provider: Provider,
    on_unbind: Arc<OnUnbind>,
    _entry: Devres<RevokeOnDrop>,
}

impl BarMemory {
    /// Returns `ranges` of BAR `bar`. When `pdev` is unbound, `revoke` is called on the buffer that
    /// is registered with [`OnUnbind::watch`].
    pub(crate) fn new(
        pdev: &pci::Device<Bound>,
        bar: u32,
        ranges: &[(usize, usize)],
        revoke: fn(&DmaBuf) -> Result,
    ) -> Result<Self> {
        let provider = Provider::new(pdev, bar)?;
        let start = pdev.resource_start(bar)?;
        let bar_len = pdev.resource_len(bar)?;
        let mut pieces = KVVec::with_capacity(ranges.len(), GFP_KERNEL)?;
        let mut all = 0usize;

        for &(offset, len) in ranges {
            // CAST: Here and below, a `usize` is at most 64 bits wide.
            let end = offset.checked_add(len).ok_or(EINVAL)? as u64;
            if end > bar_len {
                return Err(EINVAL);
            }
            let paddr = start.checked_add(offset as u64).ok_or(EINVAL)?;
            if (paddr | len as u64) % PAGE_SIZE as u64 != 0 {
                return Err(EINVAL);
            }
            pieces.push(Phyr::new(PhysAddr::from_raw(paddr), len)?, GFP_KERNEL)?;
            all = all.checked_add(len).ok_or(EINVAL)?;
        }
        if pieces.is_empty() {
            return Err(EINVAL);
        }
        let on_unbind = OnUnbind::new(revoke)?;
        let entry = RevokeOnDrop(on_unbind.clone());
        fail::at(Point::devres_add)?;
        // INVARIANT: Each piece has just been checked, and there is one.
        Ok(Self {
            pieces,
            len: all,
            provider,
            on_unbind,
            _entry: Devres::new(pdev.as_ref(), Ok::<_, Error>(entry))?,
        })
    }

    pub(crate) fn on_unbind(&self) -> Arc<OnUnbind> {
        self.on_unbind.clone()
    }

    /// Returns what addresses on the bus differ by from those of the CPU.
    pub(crate) fn bus_offset(&self) -> u64 {
        self.provider.bus_offset
    }

    /// Finds the route of an importer to the memory.
    ///
    /// # Errors
    ///
    /// - `EOPNOTSUPP`: it does not handle memory of another device, cannot be told when it has to
    ///   unmap, or is where there is no route.
    pub(crate) fn route(
        &self,
        lock: &ResvGuard<'_>,
        attachment: &AttachmentRef<'_>,
    ) -> Result<Route> {
        if !attachment.is_peer_to_peer() || !attachment.is_revocable() {
            return Err(EOPNOTSUPP);
        }
        let first = self.pieces.first().ok_or(EINVAL)?.paddr().into_raw();
        self.provider.route(lock, attachment, first)
    }

    /// Forgets the buffer, to which there are no references any more.
    pub(crate) fn released(&self) {
        *self.on_unbind.buf.lock() = None;
    }
}

// SAFETY: The ranges are those of a BAR, and the same every time. A value is nowhere but in a
// buffer, which is revoked before the device is unbound, and which maps it for devices only before
// that. The caller of `PeerToPeer::export` promises that devices may access them.
unsafe impl Memory for BarMemory {
    const KIND: MemoryKind = MemoryKind::Mmio;

    type Direction = DataDirection;

    type Phyrs<'a> = Map<slice::Iter<'a, Phyr>, fn(&'a Phyr) -> Result<Phyr>>;

    fn phyrs(&self) -> Self::Phyrs<'_> {
        self.pieces.iter().map(|phyr| Ok(*phyr))
    }

    fn len(&self) -> usize {
        self.len
    }

    /// Fails with `EOPNOTSUPP`: the memory is not for the CPU.
    fn read(&self, _offset: usize, _to: &mut [u8]) -> Result {
        Err(EOPNOTSUPP)
    }

    /// Fails with `EOPNOTSUPP`: the memory is not for the CPU.
    fn write(&mut self, _offset: usize, _from: &[u8]) -> Result {
        Err(EOPNOTSUPP)
    }
}

/// The kernel's description of a BAR that other devices may access: `struct p2pdma_provider`.
///
/// # Invariants
///
/// `raw` is the provider of a BAR of a device that is bound. It is valid until the device resources
/// are released that were registered before this was made.
struct Provider {
    raw: NonNull<bindings::p2pdma_provider>,
    bus_offset: u64,
}

// SAFETY: A `struct p2pdma_provider` belongs to no thread.
unsafe impl Send for Provider {}

// SAFETY: Nothing writes to a `struct p2pdma_provider`.
unsafe impl Sync for Provider {}

impl Provider {
    fn new(pdev: &pci::Device<Bound>, bar: u32) -> Result<Self> {
        if bar >= bindings::PCI_STD_NUM_BARS {
            return Err(EINVAL);
        }
        let pdev = raw::pci_device(pdev);
        fail::at(Point::pcim_p2pdma_provider)?;
        // SAFETY: `pdev` is bound, and was prepared by `PeerToPeer::new`.
        // CAST: `bar` is a small number.
        let raw = unsafe { helpers::phyr_dma_buf_helper_p2p_provider(pdev, bar as i32) };
        let raw = NonNull::new(raw).ok_or(EINVAL)?;
        // INVARIANT: `PeerToPeer::new` registered the resource that keeps `raw` before this.
        Ok(Self {
            raw,
            // SAFETY: `raw` is valid, as the device is bound.
            bus_offset: unsafe { raw.as_ref() }.bus_offset,
        })
    }

    /// Finds the route of an importer to the page at `paddr`.
    ///
    /// `pci_p2pdma_map_type()` would tell, but is not exported to modules.
    /// `dma_buf_phys_vec_to_sgt()` is, and calls it: it gives the address on the bus, or one that
    /// it mapped. These are told apart by mapping the page twice at the same time:
    ///
    /// - An IOMMU gives two different addresses. One of them may by chance be the one on the bus:
    ///   only the windows of the importer's own host bridge are kept out of its IOVA space.
    /// - By bus both are the address on the bus.
    /// - On a direct map through the host bridge both are `paddr`. That may be the address on the
    ///   bus, too: then both routes lead to the memory, see [`Route::of`].
    fn route(
        &self,
        lock: &ResvGuard<'_>,
        attachment: &AttachmentRef<'_>,
        paddr: u64,
    ) -> Result<Route> {
        let trials = [
            TrialMapping::new(self, lock, attachment, paddr)?,
            TrialMapping::new(self, lock, attachment, paddr)?,
        ];
        let addrs = trials.each_ref().map(TrialMapping::addr);
        let dev = raw::device(attachment.device());
        // SAFETY: `dev` is valid. An IOMMU translates for it if the DMA API may join pages.
        let translated = unsafe { bindings::dma_get_merge_boundary(dev) } != 0;
        let bus = paddr.wrapping_add(self.bus_offset);
        Ok(Route::of(paddr, bus, addrs, translated))
    }
}

/// A page of a BAR that is mapped to see its DMA address. Dropping it unmaps.
///
/// # Invariants
///
/// `sgt` comes from `dma_buf_phys_vec_to_sgt()` for the valid `attach`, with one entry.
struct TrialMapping<'a> {
    attach: *mut bindings::dma_buf_attachment,
    sgt: *mut bindings::sg_table,
    _lock: &'a ResvGuard<'a>,
}

impl<'a> TrialMapping<'a> {
    /// Maps the page at `paddr` of `provider` for an importer.
    ///
    /// Where an IOMMU has given a range of addresses and then does not link the page to it, C loses
    /// the range: `dma_buf_phys_vec_to_sgt()` undoes nothing if it is the first that fails. Nothing
    /// can be done about it here.
    ///
    /// # Errors
    ///
    /// - `EOPNOTSUPP`: there is no route.
    /// - `ENOMEM`, `EIO`: not mapped.
    fn new(
        provider: &Provider,
        lock: &'a ResvGuard<'_>,
        attachment: &AttachmentRef<'_>,
        paddr: u64,
    ) -> Result<Self> {
        let (attach, raw) = (attachment.as_raw(), provider.raw.as_ptr());
        fail::at(Point::dma_buf_phys_vec_to_sgt)?;
        // SAFETY: The attachment is valid and the lock held. The buffer is not revoked, so the
        // exporter is bound, and `raw` is valid by the invariants of `Provider`.
        let sgt = unsafe { helpers::phyr_dma_buf_helper_p2p_map_page(attach, raw, paddr) };
        let sgt = from_err_ptr(sgt).map_err(|e| if e == EINVAL { EOPNOTSUPP } else { e })?;
        // INVARIANT: `sgt` has just been made for `attach`, of one page.
        Ok(Self {
            attach,
            sgt,
            _lock: lock,
        })
    }

    fn addr(&self) -> u64 {
        // SAFETY: `sgt` is valid by the type invariants, and nobody else has it.
        let table: &SGTable = unsafe { SGTable::from_raw(self.sgt) };
        table.iter().next().map_or(0, |sg| sg.dma_address())
    }
}

impl Drop for TrialMapping<'_> {
    fn drop(&mut self) {
        // SAFETY: `sgt` is a mapping for `attach` by the type invariants, which no device was told
        // of, and the lock is held. C goes by `orig_nents` to free it, which it has set to zero.
        unsafe {
            (*self.sgt).orig_nents = (*self.sgt).nents;
            helpers::phyr_dma_buf_helper_p2p_unmap_page(self.attach, self.sgt);
        }
    }
}

/// The buffer to revoke when its exporter is unbound.
#[pin_data]
pub(crate) struct OnUnbind {
    /// The buffer, until it is released, which waits for this lock.
    #[pin]
    buf: Mutex<Option<NonNull<DmaBuf>>>,
    revoke: fn(&DmaBuf) -> Result,
}

// SAFETY: `DmaBuf` may be sent to another thread.
unsafe impl Send for OnUnbind {}

// SAFETY: `DmaBuf` may be used by several threads, and the pointer to it is behind a lock.
unsafe impl Sync for OnUnbind {}

impl OnUnbind {
    fn new(revoke: fn(&DmaBuf) -> Result) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                buf <- new_mutex!(None),
                revoke,
            }),
            GFP_KERNEL,
        )
    }

    /// Sets the buffer to revoke.
    pub(crate) fn watch(&self, buf: &DmaBuf) {
        *self.buf.lock() = Some(NonNull::from(buf));
    }
}

/// Revokes the buffer when it is dropped, which is when the exporter is unbound, or when the buffer
/// is gone anyhow.
struct RevokeOnDrop(Arc<OnUnbind>);

impl Drop for RevokeOnDrop {
    fn drop(&mut self) {
        // The lock keeps the buffer from being released. A reference might come too late: the last
        // one may be gone already. Revoking does not wait for the release, which waits for this
        // lock: without references there are no importers to wait for.
        let lock = self.0.buf.lock();
        if let Some(buf) = *lock {
            // SAFETY: `BarMemory::released`, which is called before the buffer goes away, waits for
            // the lock.
            let buf = unsafe { buf.as_ref() };
            if let Err(e) = (self.0.revoke)(buf) {
                pr_err!("dma-buf: not revoked as its exporter goes: {e:?}\n");
            }
        }
    }
}
