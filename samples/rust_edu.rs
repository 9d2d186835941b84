// SPDX-License-Identifier: GPL-2.0

//! The smallest complete driver that does DMA, in each way that there is: of QEMU's `edu`, which
//! copies between memory and 4 KiB of its own, and then interrupts. See Documentation/edu.rst.

use kernel::{debugfs, device::*, dma::DmaMask, fs::file::Offset, io::Io, irq, page::PAGE_SIZE};
use kernel::{pci, prelude::*, sizes::SZ_4K, str::CString, sync::*, uaccess::*};
use phyr::{memory::*, part::*, *};
use phyr_driver::pci::{stop_dma, DmaParameters, Enabled};
use phyr_driver::{binding::*, event::*, irq::*, scope::Scope};
use phyr_iommu::*;

// Registers, bits of a command, and the device's own memory; QEMU: docs/specs/edu.rst.
const ACKNOWLEDGE: usize = 0x64;
const COMMAND: usize = 0x98;
const REGISTERS: [usize; 4] = [0x80, 0x88, 0x90, COMMAND];
const BAR_LEN: usize = COMMAND + 8;
const START: u64 = 1;
const TO_MEMORY: u64 = 2;
const INTERRUPT: u64 = 4;
const INSIDE: u64 = 0x4_0000;

/// Scatter: the device sees the pages in as few ranges as can be.
fn scatter(job: &Job<'_>, memory: Chunks) -> Result<Chunks> {
    let mapper = Mapper::new(job.dev, Limits::NONE)?;
    let mapping = mapper.map(memory, job.dir, GFP_KERNEL)?;
    job.run(mapping.dma_vecs())?;
    Ok(mapping.unmap())
}

/// Linear: it sees one range, or the log has the reason why not.
fn linear(job: &Job<'_>, memory: Chunks) -> Result<Chunks> {
    let mapper = Mapper::new(job.dev, Limits::NONE)?;
    let mapping = mapper.linear(memory, job.dir);
    let mapping = mapping.inspect_err(|e| dev_err!(job.dev, "not linear: {}\n", e.reason))?;
    job.run([mapping.dma_vec()])?;
    Ok(mapping.unmap())
}

/// Domain: it sees one range in an address space of the driver's own, and nothing else.
fn domain(job: &Job<'_>, memory: Chunks) -> Result<Chunks> {
    let domain = Domain::attach(job.dev, None);
    let domain = domain.inspect_err(|e| dev_err!(job.dev, "no domain: {}\n", e))?;
    let mapping = domain.map(memory, Access::READ_WRITE)?;
    job.run([mapping.dma_vec()])?;
    Ok(mapping.unmap())
}

/// What the device shall do: read or write a part of the memory. It stays bound meanwhile.
struct Job<'a> {
    edu: &'a Edu,
    dev: &'a Device<Bound>,
    dir: DataDirection,
    at: core::ops::Range<usize>,
}

impl Job<'_> {
    /// Has the device do it with the memory, all of which is at `vecs`. If it fails DMA is over.
    fn run(&self, vecs: impl IntoIterator<Item = DmaVec>) -> Result {
        let bar = self.edu.bar.access(self.dev)?;
        let mut inside = INSIDE;
        for vec in part(vecs, self.at.clone()) {
            // CAST: a `usize` is at most 64 bits wide.
            let (outside, len) = (vec.addr().into_raw(), vec.len() as u64);
            let (from, to, command) = match self.dir {
                DataDirection::ToDevice => (outside, inside, START | INTERRUPT),
                _ => (inside, outside, START | INTERRUPT | TO_MEMORY),
            };
            for (register, value) in REGISTERS.into_iter().zip([from, to, len, command]) {
                bar.try_write64(value, register)?;
            }
            while bar.try_read64(COMMAND)? & START != 0 {
                let ended = self.edu.done.wait(5000);
                if ended.is_err() {
                    stop_dma(self.dev.try_into()?);
                }
                ended?;
            }
            inside += len;
        }
        Ok(())
    }
}

/// What the files and the interrupt handler share. It can be there for longer than the driver.
#[pin_data]
struct Edu {
    binding: Arc<Binding>,
    bar: pci::DevresBar<BAR_LEN>,
    #[pin]
    engine: Mutex<()>,
    #[pin]
    done: Event,
}

struct Interrupt(Arc<Edu>);
impl irq::Handler for Interrupt {
    fn handle(&self) -> irq::IrqReturn {
        self.0
            .bar
            .try_access_with(|bar| bar.write32(u32::MAX, ACKNOWLEDGE));
        self.0.done.signal();
        irq::IrqReturn::Handled
    }
}

/// A file in debugfs for each way. Its offsets are those of the memory: `write()` puts bytes there,
/// which the device reads; `read()` has the device write there, and gets that.
struct File(Arc<Edu>, Map);
type Map = fn(&Job<'_>, Chunks) -> Result<Chunks>;
impl File {
    fn run(&self, pos: &mut Offset, bytes: &mut KVec<u8>, dir: DataDirection) -> Result<usize> {
        let (File(edu, map), start) = (self, usize::try_from(*pos)?);
        let mut memory = Chunks::zeroed(16 * PAGE_SIZE, 0, GFP_KERNEL)?;
        // Never in one piece, so that there is something to see.
        memory.swap(0, 15);
        bytes.truncate(memory.len().saturating_sub(start));
        memory.write(start, bytes)?;
        let at = start..start + bytes.len();
        let memory = edu.binding.with(|dev| {
            let _one_at_a_time = edu.engine.lock();
            map(&Job { edu, dev, dir, at }, memory)
        })?;
        memory.read(start, bytes)?;
        // CAST: a page at most.
        *pos += bytes.len() as Offset;
        Ok(bytes.len())
    }
}

impl debugfs::BinaryWriter for File {
    fn write_to_slice(&self, to: &mut UserSliceWriter, at: &mut Offset) -> Result<usize> {
        let mut bytes = KVec::from_elem(0, to.len().min(SZ_4K), GFP_KERNEL)?;
        let len = self.run(at, &mut bytes, DataDirection::FromDevice)?;
        to.write_slice(&bytes).map(|()| len)
    }
}
impl debugfs::BinaryReader for File {
    fn read_from_slice(&self, from: &mut UserSliceReader, at: &mut Offset) -> Result<usize> {
        let mut bytes = KVec::from_elem(0, from.len().min(SZ_4K), GFP_KERNEL)?;
        from.read_slice(&mut bytes)?;
        let len = self.run(at, &mut bytes, DataDirection::ToDevice)?;
        Some(len).filter(|&len| len != 0).ok_or(ENOSPC)
    }
}

struct Driver;
type Files = Pin<KBox<debugfs::Scope<[File; 3]>>>;

const OTHER: pci::DeviceId = pci::DeviceId::from_class(0xff00, 0xff_ff00); // 0x1234 has no name.
kernel::pci_device_table!(TABLE, (), [(OTHER, ())]);

#[vtable]
impl phyr_driver::pci::Driver for Driver {
    type IdInfo = ();
    /// Taken down in this order.
    type Data<'a> = (Files, BindingOwner<'a>, Irq<'a, Interrupt>, Enabled<'a>);
    const ID_TABLE: pci::IdTable<()> = &TABLE;

    fn dma(pdev: &pci::Device, _info: Option<&()>) -> Result<DmaParameters> {
        if pdev.device_id() != 0x11e8 {
            return Err(ENODEV);
        }
        // QEMU's `dma_mask` has to say so, too, or the device drops address bits.
        Ok(DmaParameters::new(DmaMask::new::<64>()))
    }

    fn probe<'a>(
        scope: Scope<'a>,
        pdev: &'a pci::Device<Core<'_>>,
        _info: Option<&'a ()>,
    ) -> impl PinInit<Self::Data<'a>, Error> + 'a {
        let enabled = Enabled::new(scope, pdev)?;
        let bar = pdev.iomap_region_sized::<BAR_LEN>(0, c"rust_edu")?;
        // Nothing that an earlier driver has begun may go on.
        (bar.try_read64(COMMAND)? & START == 0)
            .then_some(())
            .ok_or(EBUSY)?;
        enabled.start_dma();
        let (binding, owner) = Binding::new(scope)?;
        let edu = try_pin_init!(Edu {
            binding,
            bar: bar.into_devres()?,
            engine <- new_mutex!(()),
            done <- Event::new(),
        });
        let edu = Arc::pin_init(edu, GFP_KERNEL)?;
        let vectors = Vectors::alloc(scope, pdev, 1, 1, Types::one(pci::IrqType::Msi))?;
        let irq = vectors.request(0, c"rust_edu", Interrupt(edu.clone()))?;
        let name = CString::try_from_fmt(fmt!("rust_edu-{}", pdev.as_ref().name()))?;
        let files = [scatter as Map, linear, domain].map(|map| File(edu.clone(), map));
        let files = debugfs::Scope::dir(Ok::<_, Error>(files), &name, |files: &[File; 3], dir| {
            for (file, name) in files.iter().zip([c"scatter", c"linear", c"domain"]) {
                dir.read_write_binary_file(name, file);
            }
        });
        Ok((KBox::pin_init(files, GFP_KERNEL)?, owner, irq, enabled))
    }
}

phyr_driver::module_pci_driver! {
    type: Driver,
    name: "rust_edu",
    authors: ["phyr developers"],
    description: "The smallest driver that does DMA by phyr, of QEMU's edu",
    license: "GPL",
}
