// SPDX-License-Identifier: GPL-2.0

//! DMA in five ways, on QEMU's `edu` device: the driver to copy first.
//!
//! The device copies between main memory and 4 KiB of its own, and then interrupts. The driver maps
//! memory for that in one of five ways, each of which is a function and a file in debugfs:
//! `scatter`, `batch`, `linear`, `copy` and `domain`. Documentation/edu.rst tells how to use the
//! files.
//!
//! To make this driver probe, QEMU must be run with `-device edu,dma_mask=0xffffffffffffffff`.
//!
//! QEMU: docs/specs/edu.rst

use core::ops::Range;
use kernel::{
    debugfs,
    device::{
        Bound,
        Core, //
    },
    dma::DmaMask,
    fs::file::Offset,
    io::{
        register,
        Io, //
    },
    irq::{
        IrqReturn,
        ThreadedHandler,
        ThreadedIrqReturn, //
    },
    new_mutex,
    page::PAGE_SIZE,
    pci,
    prelude::*,
    ptr::Alignment,
    sizes::SZ_4K,
    str::CString,
    sync::{
        Arc,
        Mutex, //
    },
    uaccess::{
        UserSliceReader,
        UserSliceWriter, //
    }, //
};
use phyr::{
    batch::Capacity,
    linear::LinearError,
    memory::{
        Chunks,
        Memory, //
    },
    part,
    DataDirection,
    DmaAddr,
    DmaVec,
    Limits,
    MapError,
    Mapper, //
};
use phyr_driver::{
    binding::{
        Binding,
        BindingOwner, //
    },
    completion::Completion,
    irq::{
        Irq,
        Types,
        Vectors, //
    },
    pci::{
        stop_dma,
        DmaParameters,
        Enabled, //
    },
    scope::Scope, //
};
use phyr_iommu::{
    Access,
    Domain, //
};

register! {
    /// Clears the reasons for the interrupt whose bits are written as ones.
    ACKNOWLEDGE(u32) @ 0x64 {}

    /// Address to copy from.
    SOURCE(u64) @ 0x80 {}

    /// Address to copy to.
    DESTINATION(u64) @ 0x88 {}

    /// Number of bytes to copy.
    COUNT(u64) @ 0x90 {}

    /// Starts a copy.
    COMMAND(u64) @ 0x98 {
        /// Interrupt when the copy has ended.
        2:2 interrupt => bool;
        /// From the device to main memory, not from main memory to the device.
        1:1 to_memory => bool;
        /// Start; reads as set until the copy has ended.
        0:0 start => bool;
    }
}

/// Size of the registers. That those of 64 bits are aligned is checked at each access (`try_*`).
const BAR_SIZE: usize = 0xa0;

type Bar<'bound> = pci::Bar<'bound, BAR_SIZE>;

/// PCI device id; the vendor, 0x1234, has no name in the kernel's crate.
const DEVICE_ID: u16 = 0x11e8;

/// Address of the device's own memory, as the engine sees it.
const DEVICE_MEMORY: u64 = 0x4_0000;

/// Size of the device's own memory, and so of the longest transfer.
const DEVICE_MEMORY_SIZE: usize = SZ_4K;

/// Pages of main memory that a transfer maps.
const PAGES: usize = 16;

/// Size of that memory.
const MEMORY_SIZE: usize = PAGES * PAGE_SIZE;

/// Milliseconds until a copy has failed. It takes 100.
const TIMEOUT_MS: u32 = 5000;

/// The address of the header in a domain of the driver's own.
const HEADER: DmaAddr = DmaAddr::from_raw(0x1000_0000);

/// The memory that a transfer maps: a header of one page, and a payload.
type Message = KVVec<Chunks>;

/// Allocates a message of [`PAGES`] pages.
fn new_message() -> Result<Message> {
    let header = Chunks::zeroed(PAGE_SIZE, 0, GFP_KERNEL)?;
    let mut payload = Chunks::zeroed(MEMORY_SIZE - PAGE_SIZE, 0, GFP_KERNEL)?;
    // Out of order, the pages are never one physical range.
    payload.swap(0, payload.count() - 1);

    let mut message = KVVec::with_capacity(2, GFP_KERNEL)?;
    message.push(header, GFP_KERNEL)?;
    message.push(payload, GFP_KERNEL)?;
    Ok(message)
}

/// A way: maps memory, has the device do the transfer, and unmaps it.
type Way = fn(&Transfer<'_>, Message) -> Result<Message>;

/// The ways, and the names of their files.
const WAYS: [(&CStr, Way); 5] = [
    (c"scatter", scatter),
    (c"batch", batch),
    (c"linear", linear),
    (c"copy", copy),
    (c"domain", domain),
];

/// Maps `memory` as few DMA ranges as possible, has the device do the transfer, and unmaps it.
fn scatter(transfer: &Transfer<'_>, memory: Message) -> Result<Message> {
    let mapper = Mapper::new(transfer.pdev.as_ref(), Limits::NONE)?;
    let mapping = mapper.map(memory, transfer.direction, GFP_KERNEL)?;

    transfer.run(mapping.dma_vecs())?;
    Ok(mapping.unmap())
}

/// As [`scatter`], but maps the header and the payload one after the other, as a driver does that
/// gets them so. The device gathers both from one list of ranges.
fn batch(transfer: &Transfer<'_>, memory: Message) -> Result<Message> {
    let mapper = Mapper::new(transfer.pdev.as_ref(), Limits::NONE)?;
    let room = Capacity {
        pieces: memory.len(),
        segments: PAGES,
        bytes: MEMORY_SIZE,
    };
    let mut batch = mapper.batch(room, transfer.direction, GFP_KERNEL)?;
    for piece in memory {
        batch.add(piece)?;
    }
    let mapping = batch.finalise()?;

    transfer.run(mapping.dma_vecs())?;
    Ok(mapping.unmap())
}

/// As [`scatter`], but maps `memory` as exactly one DMA range, at a multiple of its size: the low
/// bits of an address are the offset in it. If that is impossible, the log has the reason.
fn linear(transfer: &Transfer<'_>, memory: Message) -> Result<Message> {
    let mapper = Mapper::new(transfer.pdev.as_ref(), Limits::NONE)?;
    let align = Alignment::new::<MEMORY_SIZE>();
    let mapping = match mapper.linear_aligned(memory, transfer.direction, align) {
        Ok(mapping) => mapping,
        Err(refused) => {
            dev_err!(transfer.pdev, "not linear: {}\n", refused.error);
            return Err(refused.into());
        }
    };

    transfer.run([mapping.dma_vec()])?;
    Ok(mapping.unmap())
}

/// Maps `memory` as one DMA range wherever it is. Where no IOMMU joins its pages, the device gets a
/// contiguous copy of it.
fn copy(transfer: &Transfer<'_>, memory: Message) -> Result<Message> {
    let mapper = Mapper::new(transfer.pdev.as_ref(), Limits::NONE)?;
    let memory = match mapper.linear(memory, transfer.direction) {
        Ok(mapping) => {
            transfer.run([mapping.dma_vec()])?;
            return Ok(mapping.unmap());
        }
        Err(MapError {
            value,
            error: LinearError::NotTranslated { .. },
        }) => value,
        Err(refused) => return Err(refused.into()),
    };
    let mut copy = mapper.linear_copy(memory, transfer.direction)?;

    let turn = copy.hand_over()?;
    transfer.run([turn.dma_vec()])?;
    turn.hand_back()?;
    Ok(copy.into_memory())
}

/// As [`linear`], but in an IOMMU domain of the driver's own, where the device reaches nothing else
/// than `memory`. Dropping the domain puts the device back into its default domain.
fn domain(transfer: &Transfer<'_>, memory: Message) -> Result<Message> {
    let domain = match Domain::attach(transfer.pdev.as_ref(), None) {
        Ok(domain) => domain,
        Err(refused) => {
            dev_err!(transfer.pdev, "no domain: {}\n", refused);
            return Err(refused.into());
        }
    };
    let mut gather = domain.gather(memory.len())?;
    let mut mappings = KVVec::with_capacity(memory.len(), GFP_KERNEL)?;
    for piece in memory {
        // The header goes where the driver says, the payload where the domain finds room.
        let mapping = if mappings.is_empty() {
            domain.map_at(piece, HEADER, Access::READ_WRITE)?
        } else {
            domain.map(piece, Access::READ_WRITE)?
        };
        mappings.push(mapping, GFP_KERNEL)?;
    }

    transfer.run(mappings.iter().map(|mapping| mapping.dma_vec()))?;
    for mapping in mappings {
        gather.unmap(mapping)?;
    }
    // Until the IOTLB is flushed the device may still reach the memory.
    Ok(gather.flush())
}

/// A transfer between a part of some memory and the device.
struct Transfer<'a> {
    edu: &'a Edu,
    pdev: &'a pci::Device<Bound>,
    direction: DataDirection,
    /// The part of the memory, in bytes.
    part: Range<usize>,
}

impl Transfer<'_> {
    /// Has the device do the transfer. All of the memory is at `vecs`, in order.
    ///
    /// Context: process context, may sleep. The engine is locked.
    ///
    /// # Errors
    ///
    /// - [`ENXIO`]: the registers are gone.
    /// - [`ETIMEDOUT`]: the device does not answer. It was taken off the bus and reaches no memory
    ///   any more, so the caller can unmap it.
    fn run(&self, vecs: impl IntoIterator<Item = DmaVec>) -> Result {
        let bar = self.edu.bar.access(self.pdev.as_ref())?;
        let mut device_addr = DEVICE_MEMORY;

        for vec in part(vecs, self.part.clone()) {
            self.start(bar, vec, device_addr)?;
            self.wait(bar)?;
            // CAST: A `usize` has 64 bits at most.
            device_addr += vec.len() as u64;
        }
        Ok(())
    }

    /// Starts to copy between `vec` and the device's memory at `device_addr`.
    fn start(&self, bar: &Bar<'_>, vec: DmaVec, device_addr: u64) -> Result {
        let memory_addr = vec.addr().into_raw();
        let to_memory = self.direction == DataDirection::FromDevice;
        let (source, destination) = if to_memory {
            (device_addr, memory_addr)
        } else {
            (memory_addr, device_addr)
        };

        bar.try_write_reg(SOURCE::from(source))?;
        bar.try_write_reg(DESTINATION::from(destination))?;
        // CAST: A `usize` has 64 bits at most.
        bar.try_write_reg(COUNT::from(vec.len() as u64))?;
        bar.try_write_reg(
            COMMAND::zeroed()
                .with_interrupt(true)
                .with_to_memory(to_memory)
                .with_start(true),
        )
    }

    /// Waits until the copy has ended.
    fn wait(&self, bar: &Bar<'_>) -> Result {
        while bar.try_read(COMMAND)?.start() {
            if let Err(e) = self.edu.done.wait_timeout(TIMEOUT_MS) {
                // The memory is unmapped next: the device must not reach it any more.
                stop_dma(self.pdev);
                return Err(e);
            }
        }
        Ok(())
    }
}

/// State that the open files and the interrupt handler share. An open file can keep it for longer
/// than the driver is bound.
#[pin_data]
struct Edu {
    binding: Arc<Binding>,
    bar: pci::DevresBar<BAR_SIZE>,
    /// Held during a transfer: the device has one engine.
    #[pin]
    engine: Mutex<()>,
    /// The device has interrupted.
    #[pin]
    done: Completion,
}

struct Interrupt {
    edu: Arc<Edu>,
}

impl ThreadedHandler for Interrupt {
    /// Acknowledges, so that the device takes its interrupt back.
    ///
    /// Context: hard interrupt.
    fn handle(&self) -> ThreadedIrqReturn {
        self.edu
            .bar
            .try_access_with(|bar| bar.write_reg(ACKNOWLEDGE::from(u32::MAX)));
        ThreadedIrqReturn::WakeThread
    }

    /// Tells the transfer that waits. What takes longer than that would be done here, too.
    ///
    /// Context: a thread, may sleep.
    fn handle_threaded(&self) -> IrqReturn {
        self.edu.done.complete();
        IrqReturn::Handled
    }
}

/// A file in debugfs, whose offsets are those of the mapped memory.
///
/// `write()` puts bytes into the memory and has the device read them. `read()` has the device write
/// to the memory and returns what it has written.
struct File {
    edu: Arc<Edu>,
    name: &'static CStr,
    way: Way,
}

impl File {
    /// Puts `bytes` at `offset` of new memory, has the device do a transfer with that part of it,
    /// and copies the part back to `bytes`.
    fn transfer(&self, direction: DataDirection, offset: usize, bytes: &mut [u8]) -> Result {
        let mut memory = new_message()?;
        memory.write(offset, bytes)?;

        let memory = self.edu.binding.with(|dev| {
            let _engine = self.edu.engine.lock();
            let transfer = Transfer {
                edu: &self.edu,
                pdev: dev.try_into()?,
                direction,
                part: offset..offset + bytes.len(),
            };
            (self.way)(&transfer, memory)
        })?;
        memory.read(offset, bytes)
    }

    /// Returns a buffer for up to `len` bytes of the memory, from `offset` on.
    fn buffer(offset: usize, len: usize) -> Result<KVec<u8>> {
        let left = MEMORY_SIZE.saturating_sub(offset);
        let len = len.min(left).min(DEVICE_MEMORY_SIZE);

        Ok(KVec::from_elem(0, len, GFP_KERNEL)?)
    }
}

/// The file's `read()`.
impl debugfs::BinaryWriter for File {
    fn write_to_slice(&self, user: &mut UserSliceWriter, pos: &mut Offset) -> Result<usize> {
        let offset = usize::try_from(*pos)?;
        let mut bytes = Self::buffer(offset, user.len())?;

        self.transfer(DataDirection::FromDevice, offset, &mut bytes)?;
        user.write_slice(&bytes)?;
        // CAST: 4 KiB at most.
        *pos += bytes.len() as Offset;
        Ok(bytes.len())
    }
}

/// The file's `write()`.
impl debugfs::BinaryReader for File {
    fn read_from_slice(&self, user: &mut UserSliceReader, pos: &mut Offset) -> Result<usize> {
        let offset = usize::try_from(*pos)?;
        let mut bytes = Self::buffer(offset, user.len())?;

        user.read_slice(&mut bytes)?;
        self.transfer(DataDirection::ToDevice, offset, &mut bytes)?;
        if bytes.is_empty() {
            return Err(ENOSPC);
        }
        // CAST: 4 KiB at most.
        *pos += bytes.len() as Offset;
        Ok(bytes.len())
    }
}

/// A bound device. Its parts are torn down from first to last.
struct EduDevice<'bound> {
    /// The files are removed; those that are open stay,
    _files: Pin<KBox<debugfs::Scope<[File; WAYS.len()]>>>,
    /// but reach the device no more, and a transfer has ended.
    _binding: BindingOwner<'bound>,
    /// No handler runs any more.
    _irq: Irq<'bound, Interrupt>,
    /// The device is off the bus.
    _enabled: Enabled<'bound>,
}

impl<'bound> EduDevice<'bound> {
    fn new(scope: Scope<'bound>, pdev: &'bound pci::Device<Core<'_>>) -> Result<Self> {
        let enabled = Enabled::new(scope, pdev)?;
        let bar = enabled.iomap_region_sized::<BAR_SIZE>(0, c"rust_edu")?;
        // A copy that an earlier driver has started must not go on.
        if bar.try_read(COMMAND)?.start() {
            return Err(EBUSY);
        }
        enabled.start_dma();

        let (binding, binding_owner) = Binding::new(scope)?;
        let edu = Arc::pin_init(
            try_pin_init!(Edu {
                binding,
                bar: bar.into_devres()?,
                engine <- new_mutex!(()),
                done <- Completion::new(),
            }),
            GFP_KERNEL,
        )?;

        let vectors = Vectors::alloc(scope, pdev, 1, 1, Types::one(pci::IrqType::Msi))?;
        let irq = vectors.request_threaded(0, c"rust_edu", Interrupt { edu: edu.clone() })?;

        let name = CString::try_from_fmt(fmt!("rust_edu-{}", pdev.as_ref().name()))?;
        let files = WAYS.map(|(name, way)| File {
            edu: edu.clone(),
            name,
            way,
        });
        let files = debugfs::Scope::dir(files, &name, |files, dir| {
            for file in files {
                dir.read_write_binary_file(file.name, file);
            }
        });
        let files = KBox::pin_init(files, GFP_KERNEL)?;

        Ok(Self {
            _files: files,
            _binding: binding_owner,
            _irq: irq,
            _enabled: enabled,
        })
    }
}

struct EduDriver;

kernel::pci_device_table!(
    PCI_TABLE,
    <EduDriver as phyr_driver::pci::Driver>::IdInfo,
    [(pci::DeviceId::from_class(0x00_ff00, 0xff_ff00), ())]
);

#[vtable]
impl phyr_driver::pci::Driver for EduDriver {
    type IdInfo = ();
    type Data<'bound> = EduDevice<'bound>;

    const ID_TABLE: pci::IdTable<Self::IdInfo> = &PCI_TABLE;

    fn dma(pdev: &pci::Device, _info: Option<&Self::IdInfo>) -> Result<DmaParameters> {
        if pdev.device_id() != DEVICE_ID {
            return Err(ENODEV);
        }
        Ok(DmaParameters::new(DmaMask::new::<64>()))
    }

    fn probe<'bound>(
        scope: Scope<'bound>,
        pdev: &'bound pci::Device<Core<'_>>,
        _info: Option<&'bound Self::IdInfo>,
    ) -> impl PinInit<Self::Data<'bound>, Error> + 'bound {
        EduDevice::new(scope, pdev)
    }
}

phyr_driver::module_pci_driver! {
    type: EduDriver,
    name: "rust_edu",
    authors: ["phyr developers"],
    description: "DMA in five ways by phyr, of QEMU's edu",
    license: "GPL",
}
