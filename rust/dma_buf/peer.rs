// SPDX-License-Identifier: GPL-2.0

//! Memory of a device for other devices: ranges of its BARs as a dma-buf.
//!
//! How one device gets at another's BAR depends on where the two are. Within one PCI hierarchy that
//! does not redirect, the traffic goes by bus address and never comes to the IOMMU: there is
//! nothing to map. Through the host bridge it is mapped like memory, but as memory of a device
//! ([`MemoryKind::Mmio`]), and all ranges in one mapping. Elsewhere it is not possible. The importer's
//! place decides once, as it attaches: a buffer of BARs is of this kind only, and never mixed.
//!
//! The BARs are the exporter's for as long as its driver is bound. When that ends the buffer is
//! revoked first; importers that cannot be told are refused from the beginning.
//!
//! C header: [`include/linux/pci-p2pdma.h`](srctree/include/linux/pci-p2pdma.h)

use super::{
    buffer::Buffer,
    cpu::{
        private::Token,
        Cpu, //
    },
    exporter::{
        self,
        Access,
        Exported,
        Exporter,
        Importing, //
    },
    resv::{
        Patience,
        Reserved, //
    },
    route::Route,
    DmaBuf, //
};
use crate::bindings as helpers;
use core::ptr::NonNull;
use kernel::{
    bindings,
    device::{
        Bound,
        Core, //
    },
    devres::Devres,
    error::{
        from_err_ptr,
        to_result, //
    },
    new_mutex,
    page::PAGE_SIZE,
    pci,
    prelude::*,
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
    MemoryKind,
    Phyr,
    PhysAddr, //
};

/// A PCI device whose BARs other devices may be given.
pub struct PeerToPeer<'bound> {
    pdev: &'bound pci::Device<Bound>,
}

impl<'bound> PeerToPeer<'bound> {
    /// Prepares `pdev`: `pcim_p2pdma_init()`. Only in `probe()`, which no other thread is in for
    /// the same device.
    ///
    /// # Errors
    ///
    /// - `EOPNOTSUPP`: the kernel, or the device, does no peer-to-peer DMA.
    /// - `ENOMEM`: no memory.
    pub fn new(pdev: &'bound pci::Device<Core<'_>>) -> Result<Self> {
        fail::at(Point::pcim_p2pdma_init)?;
        // SAFETY: the device is bound, and its lock held.
        to_result(unsafe { helpers::phyr_dma_buf_helper_p2p_init(raw::pci_device(pdev)) })?;
        Ok(Self { pdev })
    }

    /// Makes a dma-buf of `ranges` of BAR `bar`, each an offset and a length in whole pages.
    ///
    /// It is revoked when the driver is unbound, at the latest. A driver that disables the device
    /// before, calls [`Exported::revoke`] first.
    ///
    /// Context: process context, may sleep.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: there is no such BAR, or it is no memory; or a range is empty, not in whole
    ///   pages, or not within it.
    /// - Those of [`export`](super::export()).
    ///
    /// # Safety
    ///
    /// Until the buffer is revoked the ranges are memory that any device may read and write,
    /// whatever it writes: no register that has an effect on the system, and nothing whose contents
    /// this kernel relies on.
    pub unsafe fn export<E>(
        &self,
        bar: u32,
        ranges: &[(usize, usize)],
        exporter: E,
        access: Access,
    ) -> Result<Exported<E>>
    where
        E: Exporter<Memory = BarMemory, Cpu = Peer>,
    {
        let memory = BarMemory::new(self.pdev, bar, ranges)?;
        let unbind = memory.unbind.clone();
        let exported = exporter::export(memory, exporter, access)?;
        unbind.watch(exported.dma_buf());
        Ok(exported)
    }
}

/// Ranges of a BAR, which only a buffer has.
///
/// # Invariants
///
/// The pieces are whole pages of a BAR of the device of `provider`, `len` bytes in all; there is
/// one at least.
pub struct BarMemory {
    pieces: KVVec<Phyr>,
    len: usize,
    provider: Provider,
    unbind: Arc<Unbind>,
    _entry: Devres<RevokeOnDrop>,
}

impl BarMemory {
    fn new(pdev: &pci::Device<Bound>, bar: u32, ranges: &[(usize, usize)]) -> Result<Self> {
        let provider = Provider::new(pdev, bar)?;
        let start = pdev.resource_start(bar)?;
        let room = pdev.resource_len(bar)?;
        let mut pieces = KVVec::with_capacity(ranges.len(), GFP_KERNEL)?;
        let mut all = 0usize;

        for &(offset, len) in ranges {
            // CAST: here and below, a `usize` is at most 64 bits wide.
            let end = offset.checked_add(len).ok_or(EINVAL)? as u64;
            if end > room {
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
        let unbind = Unbind::new()?;
        let revoke = RevokeOnDrop(unbind.clone());
        fail::at(Point::devres_add)?;
        // INVARIANT: just checked.
        Ok(Self {
            pieces,
            len: all,
            provider,
            unbind,
            _entry: Devres::new(pdev.as_ref(), Ok::<_, Error>(revoke))?,
        })
    }

    /// What the addresses on the bus differ by from those of the CPU.
    pub(super) fn bus_offset(&self) -> u64 {
        self.provider.bus_offset
    }

    /// Finds out how `importer` gets at the memory.
    ///
    /// # Errors
    ///
    /// - `EOPNOTSUPP`: it does not handle memory of another device, cannot be told when it has to
    ///   unmap, or is where there is no way.
    pub(super) fn route(&self, lock: &Reserved<'_>, importer: &Importing<'_>) -> Result<Route> {
        if !importer.is_peer_to_peer() || !importer.is_revocable() {
            return Err(EOPNOTSUPP);
        }
        let first = self.pieces.first().ok_or(EINVAL)?.paddr().into_raw();
        self.provider.route(lock, importer, first)
    }

    /// There are no references to the buffer any more.
    pub(super) fn released(&self) {
        *self.unbind.buf.lock() = None;
    }
}

// SAFETY: the ranges are those of a BAR, and the same every time. A value is nowhere but in a
// buffer, which is revoked before the device is unbound, and which maps it for devices only before
// that; that they may is what `PeerToPeer::export` asks for.
unsafe impl Memory for BarMemory {
    const KIND: MemoryKind = MemoryKind::Mmio;

    type Phyrs<'a> = BarPieces<'a>;

    fn phyrs(&self) -> BarPieces<'_> {
        BarPieces(self.pieces.iter())
    }

    fn len(&self) -> usize {
        self.len
    }

    /// Not for the CPU: `EOPNOTSUPP`.
    fn read(&self, _offset: usize, _to: &mut [u8]) -> Result {
        Err(EOPNOTSUPP)
    }

    /// Not for the CPU: `EOPNOTSUPP`.
    fn write(&mut self, _offset: usize, _from: &[u8]) -> Result {
        Err(EOPNOTSUPP)
    }
}

/// The pieces of [`BarMemory`].
#[derive(Clone)]
pub struct BarPieces<'a>(core::slice::Iter<'a, Phyr>);

impl Iterator for BarPieces<'_> {
    type Item = Result<Phyr>;

    fn next(&mut self) -> Option<Result<Phyr>> {
        self.0.next().map(|phyr| Ok(*phyr))
    }
}

/// The memory is another device's: only devices get at it, and only those that can be told when
/// they have to stop.
pub struct Peer;

impl Cpu<BarMemory> for Peer {
    const PAGED: bool = false;

    fn vmap(_memory: &BarMemory, _: Token) -> Result<NonNull<u8>> {
        Err(EOPNOTSUPP)
    }

    fn peer(memory: &BarMemory) -> Option<&BarMemory> {
        Some(memory)
    }
}

/// What the kernel knows of a BAR that others may access.
///
/// # Invariants
///
/// `raw` is the provider of a BAR of a device that is bound. It is valid until the device resources
/// are released that were registered before this was made.
struct Provider {
    raw: NonNull<bindings::p2pdma_provider>,
    bus_offset: u64,
}

// SAFETY: the kernel's description of a BAR has no thread.
unsafe impl Send for Provider {}

// SAFETY: nothing writes to it.
unsafe impl Sync for Provider {}

impl Provider {
    fn new(pdev: &pci::Device<Bound>, bar: u32) -> Result<Self> {
        if bar >= bindings::PCI_STD_NUM_BARS {
            return Err(EINVAL);
        }
        fail::at(Point::pcim_p2pdma_provider)?;
        // SAFETY: the device is bound, and was prepared by `PeerToPeer::new`.
        // CAST: a small number.
        let raw =
            unsafe { helpers::phyr_dma_buf_helper_p2p_provider(raw::pci_device(pdev), bar as i32) };
        let raw = NonNull::new(raw).ok_or(EINVAL)?;
        // INVARIANT: `PeerToPeer::new` registered it before.
        Ok(Self {
            raw,
            // SAFETY: it is valid, as above.
            bus_offset: unsafe { raw.as_ref() }.bus_offset,
        })
    }

    /// How `importer` gets at the page at `paddr`.
    ///
    /// `pci_p2pdma_map_type()`, which knows, is not for modules. `dma_buf_phys_vec_to_sgt()` is,
    /// and asks it: it gives the address on the bus, or one that it mapped. These are told apart by
    /// mapping the page twice at the same time:
    ///
    /// - An IOMMU gives two different addresses. One of them may by chance be the one on the bus:
    ///   what is kept out of the importer's IOVA space are the windows of its own host bridge.
    /// - By bus both are the address on the bus.
    /// - On a direct map through the host bridge both are `paddr`. That may be the address on the
    ///   bus, too: then the routes do not differ in where they lead, see [`Route::of`].
    fn route(&self, lock: &Reserved<'_>, importer: &Importing<'_>, paddr: u64) -> Result<Route> {
        let probes = [
            Probe::new(self, lock, importer, paddr)?,
            Probe::new(self, lock, importer, paddr)?,
        ];
        // SAFETY: an importer's device is valid. What it is asked is whether pages may be joined,
        // which they may where an IOMMU translates.
        let translated = unsafe { bindings::dma_get_merge_boundary((*importer.as_raw()).dev) } != 0;
        let bus = paddr.wrapping_add(self.bus_offset);
        Ok(Route::of(
            paddr,
            bus,
            probes.each_ref().map(Probe::addr),
            translated,
        ))
    }
}

/// A page of a BAR that is mapped to see what becomes of it. Dropping it unmaps it.
///
/// # Invariants
///
/// `sgt` comes from `dma_buf_phys_vec_to_sgt()` for `attach`, with one entry.
struct Probe<'a> {
    attach: *mut bindings::dma_buf_attachment,
    sgt: *mut bindings::sg_table,
    _lock: &'a Reserved<'a>,
}

impl<'a> Probe<'a> {
    /// Maps the page at `paddr` of `provider` for `importer`.
    ///
    /// Where an IOMMU has given a range of addresses and then does not link the page to it, C loses
    /// the range: `dma_buf_phys_vec_to_sgt()` undoes nothing if it is the first that fails. Nothing
    /// can be done about it here.
    ///
    /// # Errors
    ///
    /// - `EOPNOTSUPP`: there is no way.
    /// - `ENOMEM`, `EIO`: not mapped.
    fn new(
        provider: &Provider,
        lock: &'a Reserved<'_>,
        importer: &Importing<'_>,
        paddr: u64,
    ) -> Result<Self> {
        let (attach, raw) = (importer.as_raw(), provider.raw.as_ptr());
        fail::at(Point::dma_buf_phys_vec_to_sgt)?;
        // SAFETY: the attachment is valid and the lock held. The buffer is not revoked, so that the
        // exporter is bound, and by the type invariant the provider valid.
        let sgt = unsafe { helpers::phyr_dma_buf_helper_p2p_map_page(attach, raw, paddr) };
        let sgt = from_err_ptr(sgt).map_err(|e| if e == EINVAL { EOPNOTSUPP } else { e })?;
        // INVARIANT: just made.
        Ok(Self {
            attach,
            sgt,
            _lock: lock,
        })
    }

    fn addr(&self) -> u64 {
        // SAFETY: by the type invariant there is an entry.
        unsafe { helpers::phyr_dma_buf_helper_sg_dma_address((*self.sgt).sgl) }
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        // SAFETY: by the type invariant; no device was told. The lock is held. What C frees it goes
        // by `orig_nents`, which it has set to zero.
        unsafe {
            (*self.sgt).orig_nents = (*self.sgt).nents;
            helpers::phyr_dma_buf_helper_p2p_unmap_page(self.attach, self.sgt);
        }
    }
}

/// What the end of the exporter's binding and the end of its buffer have in common.
#[pin_data]
struct Unbind {
    /// The buffer, until it is released. With the lock held it is not.
    #[pin]
    buf: Mutex<Option<NonNull<DmaBuf>>>,
}

// SAFETY: a dma-buf may be sent; see `DmaBuf`.
unsafe impl Send for Unbind {}

// SAFETY: as above, and there is a lock.
unsafe impl Sync for Unbind {}

impl Unbind {
    fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                buf <- new_mutex!(None),
            }),
            GFP_KERNEL,
        )
    }

    fn watch(&self, buf: &DmaBuf) {
        *self.buf.lock() = Some(NonNull::from(buf));
    }
}

/// Revokes the buffer when it is dropped, which is when the exporter is unbound, or the buffer is
/// gone anyhow.
struct RevokeOnDrop(Arc<Unbind>);

impl Drop for RevokeOnDrop {
    fn drop(&mut self) {
        // No reference is taken, which may come too late: what has the lock keeps the buffer from
        // being released. That cannot be waited for here: who releases it has no references, and
        // without those there is no importer.
        let lock = self.0.buf.lock();
        if let Some(buf) = *lock {
            // SAFETY: `BarMemory::released`, before it goes away, waits for the lock.
            let buf = unsafe { buf.as_ref() };
            // Never `EBUSY`: importers that cannot be told were not let in.
            let revoked = buf
                .buffer()
                .ok_or(EINVAL)
                .and_then(|b: &Buffer| b.revoke(buf, Patience::Endless));
            if let Err(e) = revoked {
                pr_err!("dma-buf: not revoked as its exporter goes: {e:?}\n");
            }
        }
    }
}
