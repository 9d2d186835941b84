// SPDX-License-Identifier: GPL-2.0

//! DMA in five ways, on QEMU's `edu` device: the driver to copy first.
//!
//! The device copies between main memory and 4 KiB of its own, and then interrupts. The driver maps
//! memory for that in one of five ways, each of which is a function and a file in debugfs:
//! `scatter`, `batch`, `linear`, `copy` and `domain`. Two more files have the device write all of
//! its memory: `memory` to a vector, `dma_buf` to memory of another driver. Documentation/edu.rst
//! tells how to use the files.
//!
//! ```text
//!  rust_edu   probe, files, interrupt
//!  ways       a function for each file: map, transfer, unmap
//!  engine     registers; a transfer by the device
//! ```
//!
//! To make this driver probe, QEMU must be run with `-device edu,dma_mask=0xffffffffffffffff`.
//!
//! QEMU: docs/specs/edu.rst

use kernel::{
    debugfs,
    device::Core,
    dma::DmaMask,
    fs::file::Offset,
    io::Io,
    irq::{
        IrqReturn,
        ThreadedHandler,
        ThreadedIrqReturn, //
    },
    new_mutex,
    pci,
    prelude::*,
    str::CString,
    sync::Arc,
    uaccess::{
        UserSliceReader,
        UserSliceWriter, //
    }, //
};
use phyr::{
    memory::Memory,
    DataDirection, //
};
use phyr_dma_buf::DmaBuf;
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
        DmaParameters,
        Enabled, //
    },
    scope::Scope, //
};

mod engine;
mod ways;

use self::{
    engine::{
        Edu,
        Transfer,
        ACKNOWLEDGE,
        BAR_SIZE,
        COMMAND,
        DEVICE_MEMORY_SIZE, //
    },
    ways::{
        new_message,
        Way,
        MEMORY_SIZE,
        WAYS, //
    }, //
};

/// PCI device id; the vendor, 0x1234, has no name in the kernel's crate.
const DEVICE_ID: u16 = 0x11e8;

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

    /// Tells the transfer that waits. Longer work would be done here, too.
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

        let memory = self.edu.with_device(|pdev| {
            let transfer = Transfer {
                edu: &self.edu,
                pdev,
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

/// A file in debugfs that can be read: the device's own memory.
struct DeviceMemory {
    edu: Arc<Edu>,
}

impl debugfs::BinaryWriter for DeviceMemory {
    fn write_to_slice(&self, user: &mut UserSliceWriter, pos: &mut Offset) -> Result<usize> {
        user.write_slice_file(&ways::dump(&self.edu)?, pos)
    }
}

/// A file in debugfs to which the file descriptor of a dma-buf is written, an `int`: the device
/// writes its own memory to that buffer.
struct Import {
    edu: Arc<Edu>,
}

impl debugfs::BinaryReader for Import {
    fn read_from_slice(&self, user: &mut UserSliceReader, _pos: &mut Offset) -> Result<usize> {
        let fd = user.read::<i32>()?;

        ways::import(&self.edu, DmaBuf::get(fd)?)?;
        Ok(size_of_val(&fd))
    }
}

/// The files of a device.
struct Files {
    ways: [File; WAYS.len()],
    memory: DeviceMemory,
    dma_buf: Import,
}

impl Files {
    /// Makes the files, in a folder named after the device.
    fn new(edu: &Arc<Edu>, pdev: &pci::Device) -> Result<Pin<KBox<debugfs::Scope<Self>>>> {
        let name = CString::try_from_fmt(fmt!("rust_edu-{}", pdev.as_ref().name()))?;
        let files = Self {
            ways: WAYS.map(|(name, way)| File {
                edu: edu.clone(),
                name,
                way,
            }),
            memory: DeviceMemory { edu: edu.clone() },
            dma_buf: Import { edu: edu.clone() },
        };
        let scope = debugfs::Scope::dir(files, &name, |files, dir| {
            for file in &files.ways {
                dir.read_write_binary_file(file.name, file);
            }
            dir.read_binary_file(c"memory", &files.memory);
            dir.write_binary_file(c"dma_buf", &files.dma_buf);
        });
        KBox::pin_init(scope, GFP_KERNEL)
    }
}

/// A bound device. Its parts are torn down from first to last.
struct EduDevice<'bound> {
    /// The files are removed, except those that are open.
    _files: Pin<KBox<debugfs::Scope<Files>>>,
    /// Open files no longer reach the device, and a transfer has ended.
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

        Ok(Self {
            _files: Files::new(&edu, pdev)?,
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
