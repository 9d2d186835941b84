// SPDX-License-Identifier: GPL-2.0

//! A bound controller: its parts, in the order of their making and unmaking.
//!
//! Whatever step of [`Controller::new`] fails, the steps before it are undone by the drop of what
//! they made, last first. Unbinding drops the same values in the same order, which is that of the
//! fields of [`Controller`].

use super::{
    cmd::Cid,
    ctrl::{
        Ctrl,
        Enabled, //
    },
    generic::{
        Generic,
        OpenFile, //
    },
    identify::{
        Identity,
        Namespace, //
    },
    instance::Instance,
    io::{
        Interrupt,
        IoQueue,
        Nvme, //
    },
    layout::{
        Format,
        Layout,
        PAGE_SIZE, //
    },
    limits, module_parameters, ns,
    regs::{
        Bar,
        Capabilities, //
    },
    reset::{
        self,
        Pause, //
    },
};
use kernel::{
    cpu::nr_cpu_ids,
    device::Core,
    page,
    pci,
    prelude::*,
    sync::Arc,
    time::Delta, //
};
use phyr::{
    fail::{
        self,
        Point, //
    },
    memory,
    Limits,
    Mapper, //
};
use phyr_blk::{
    Affinity,
    CharDevice,
    Config,
    Disk,
    DiskBuilder,
    TagSet, //
};
use phyr_driver::{
    binding::{
        Binding,
        BindingOwner, //
    },
    irq::{
        Irq,
        Types,
        Vectors, //
    },
    pci::{
        ChannelState,
        Recovery, //
    },
    scope::Scope, //
};

/// The largest transfer, in bytes, whatever the controller allows. Requests of this size cost
/// nothing any more that is per request; larger ones only keep more memory waiting. And the PRP
/// list of 4 MiB, at 12 KiB for each command of each queue, is about what is decent to reserve.
const MAX_TRANSFER: usize = 4 << 20;

/// The share of the memory that is available which the queues of a controller may take: an eighth.
const MEMORY_SHARE: usize = 8;

/// The most segments of a request that may go by SGL: a list of one page, as in the C driver. To
/// PRPs it does not matter how many segments there are.
const MAX_SGL_SEGMENTS: usize = PAGE_SIZE / 16;

/// The longest DMA range: what an SGL descriptor can say, in whole pages.
// CAST: Both get wider, or stay as wide.
const MAX_RANGE: u64 = (u32::MAX as u64 + 1) - PAGE_SIZE as u64;

/// A controller with its disks.
pub(crate) struct Controller<'bound> {
    /// No more files are opened,
    _generics: KVec<CharDevice<'bound, OpenFile>>,
    /// and those that are open get no more at the device.
    _binding: BindingOwner<'bound>,
    /// Removing a disk waits for its requests, so everything below still works.
    disks: KVec<Disk<'bound, Nvme>>,
    /// The queues are deleted,
    _created: Created<'bound>,
    /// so there are no more interrupts; a running handler ends.
    _irqs: KVec<Irq<'bound, Interrupt<'bound>>>,
    /// The controller is shut down and disabled, and may not master the bus any more.
    _enabled: Enabled<'bound>,
    /// For resets from outside.
    pause: Pin<KBox<Pause<'bound>>>,
    /// With the last references the memory goes that the controller could access.
    tags: Arc<TagSet<'bound, Nvme>>,
    ctrl: Arc<Ctrl<'bound>>,
    _instance: Instance,
}

impl<'bound> Controller<'bound> {
    /// Brings up a controller and shows its disks.
    ///
    /// # Errors
    ///
    /// - [`ENODEV`]: it does not answer, or lacks what this driver needs.
    /// - [`EINVAL`]: it transfers less than a page at once.
    /// - [`EIO`], [`ETIMEDOUT`]: it does not do as it is told.
    /// - [`ENOSPC`]: it has no interrupts but INTx.
    /// - [`ENOMEM`]: memory is short.
    pub(crate) fn new(scope: Scope<'bound>, pdev: &'bound pci::Device<Core<'_>>) -> Result<Self> {
        let instance = Instance::new()?;
        let power = phyr_driver::pci::Enabled::new(scope, pdev)?;
        fail::at(Point::pci_iomap)?;
        let bar: Bar<'bound> = pdev.iomap_region_sized(0, c"rust_nvme")?;
        let caps = Capabilities::read(&bar)?;
        let ctrl = Ctrl::new(pdev.as_ref(), power, Arc::new(bar, GFP_KERNEL)?, caps)?;
        let enabled = Enabled::new(ctrl.clone())?;
        let identity = ctrl.identity()?;

        let mapper = Mapper::new(scope.device(), limits()?)?;
        let layout = layout(&identity, &caps, &mapper)?;
        if mapper.max_mapping_size() != usize::MAX {
            dev_warn!(
                pdev,
                "memory may be bounced: dma-bufs are copies then, which not all exporters sync\n"
            );
        }
        let Queues {
            vectors,
            tags,
            layout,
            count,
        } = Queues::new(scope, pdev, &ctrl, Arc::new(mapper, GFP_KERNEL)?, layout)?;
        // Moved behind the rings: should anything below fail, the controller is off before they are
        // freed.
        let enabled = enabled;
        let pause = Pause::new()?;
        let irqs = request(&vectors, &tags)?;
        let created = Created::new(tags.clone())?;
        let disks = disks(&ctrl, &identity, &tags, layout, &instance)?;
        let (binding, owner) = Binding::new(scope)?;
        let generics = generics(scope, &disks, &binding, layout, &instance)?;

        dev_info!(
            pdev,
            "rnvme{}: {} queues of {}, up to {} KiB in {} segments by {}, {} namespaces\n",
            instance.number(),
            count,
            layout.depth(),
            layout.max_transfer >> 10,
            layout.max_segments,
            layout.format,
            disks.len()
        );
        Ok(Self {
            _generics: generics,
            _binding: owner,
            disks,
            _created: created,
            _irqs: irqs,
            _enabled: enabled,
            pause,
            tags,
            ctrl,
            _instance: instance,
        })
    }

    /// Called before the function is reset from outside.
    pub(crate) fn reset_prepare(&self) {
        self.pause.prepare(&self.ctrl, self.tags.clone());
    }

    /// Called when the function was reset from outside.
    pub(crate) fn reset_done(&self) {
        self.pause.done(&self.ctrl, self.tags.clone());
    }

    /// Called when the PCI core has seen an error.
    pub(crate) fn error_detected(&self, state: ChannelState) -> Recovery {
        match state {
            // What the controller itself makes of it shows in its commands.
            ChannelState::Normal => Recovery::CanRecover,
            ChannelState::Frozen => {
                dev_warn!(
                    self.ctrl.device(),
                    "the link has failed; it is to be reset\n"
                );
                self.reset_prepare();
                Recovery::NeedReset
            }
            ChannelState::Failed => {
                dev_warn!(self.ctrl.device(), "the link has failed for good\n");
                reset::abandon(&self.ctrl, self.tags.clone(), &self.pause);
                Recovery::Disconnect
            }
        }
    }

    /// Called when the link was reset.
    pub(crate) fn slot_reset(&self) -> Recovery {
        if self.pause.done(&self.ctrl, self.tags.clone()) {
            Recovery::Recovered
        } else {
            Recovery::Disconnect
        }
    }

    /// Called as the machine shuts down.
    pub(crate) fn shut_down(&self) {
        let patience = Delta::from_secs(io_timeout_secs().into());
        reset::shut_down(&self.ctrl, self.tags.clone(), &self.pause, patience);
    }

    /// Called before the drop. If the controller was pulled out nobody shall wait for it.
    pub(crate) fn prepare_removal(&self) {
        if reset::abandon_failed(&self.ctrl, self.tags.clone(), &self.pause) {
            self.disks.iter().for_each(Disk::mark_dead);
        }
    }
}

/// Returns what the controller asks of a DMA range.
pub(crate) fn limits() -> Result<Limits> {
    // Bounced memory must keep its offset in a controller page, or PRPs do not fit it.
    // CAST: A controller page is 4 KiB.
    Limits::NONE
        .with_max_segment(MAX_RANGE)
        .and_then(|limits| limits.with_min_align_mask(PAGE_SIZE as u32 - 1))
        .ok_or(EINVAL)
}

/// The size of everything.
///
/// # Errors
///
/// [`EINVAL`]: a page of the CPU does not fit in a transfer, which the block layer cannot do with.
fn layout(identity: &Identity, caps: &Capabilities, mapper: &Mapper<'_>) -> Result<Layout> {
    let limit = match identity.max_transfer {
        0 => MAX_TRANSFER,
        max => max.min(MAX_TRANSFER),
    };
    // Bounce buffers: nothing larger can be mapped.
    let max_transfer = limit.min(mapper.max_mapping_size() & !(PAGE_SIZE - 1));
    if max_transfer < page::PAGE_SIZE {
        dev_err!(
            mapper.device(),
            "transfers of up to {} bytes are too small for pages of {}\n",
            max_transfer,
            page::PAGE_SIZE
        );
        return Err(EINVAL);
    }
    let depth = u32::from(module_parameters::io_queue_depth.value());
    let format = match module_parameters::use_sgl.value() {
        1 => Format::Prp,
        _ if !identity.has_sgl => Format::Prp,
        2 => Format::Sgl,
        _ => Format::Either,
    };

    // One more for an offset in the first page.
    let pages = max_transfer / PAGE_SIZE + 1;
    let max_segments = match format {
        Format::Prp => pages,
        _ => pages.min(MAX_SGL_SEGMENTS),
    };

    Ok(Layout {
        // CAST: 4096 at most. Two entries are the least that a queue can have.
        entries: depth.clamp(2, Cid::TAGS.into()).min(caps.max_entries) as u16,
        max_transfer,
        // CAST: `MAX_TRANSFER` has 1025 pages.
        max_segments: max_segments as u16,
        format,
        chain: module_parameters::test_chain.value(),
    })
}

/// The I/O queues, not yet known to the controller, and their interrupt vectors.
struct Queues<'bound> {
    vectors: Vectors<'bound>,
    tags: Arc<TagSet<'bound, Nvme>>,
    layout: Layout,
    count: u16,
}

impl<'bound> Queues<'bound> {
    /// Allocates as many queues as there are processors, vectors, and the controller allows;
    /// shallower ones and then fewer if memory is short.
    ///
    /// # Errors
    ///
    /// - [`ENOSPC`]: there are no vectors.
    /// - [`ENOMEM`]: there is no memory for the smallest queue.
    fn new(
        scope: Scope<'bound>,
        pdev: &'bound pci::Device<Core<'_>>,
        ctrl: &Arc<Ctrl<'bound>>,
        mapper: Arc<Mapper<'bound>>,
        wanted: Layout,
    ) -> Result<Self> {
        let cpus = u16::try_from(nr_cpu_ids()).unwrap_or(u16::MAX);
        let most = match module_parameters::max_io_queues.value() {
            0 => cpus,
            max => max.min(cpus),
        };
        let granted = ctrl.set_queue_count(most)?;
        let (mut layout, count) = wanted.fit(granted, memory::available() / MEMORY_SHARE);
        // Not more vectors than queues: all of them are spread over the processors.
        let mut short = layout.entries < wanted.entries || count < granted;
        let (vectors, mut count) = vectors(scope, pdev, count)?;

        let tags = loop {
            match tags(scope, ctrl, mapper.clone(), layout, &vectors, count) {
                Err(ENOMEM) => {
                    (layout, count) = layout.smaller(count).ok_or(ENOMEM)?;
                    short = true;
                }
                result => break result?,
            }
        };
        if short {
            dev_warn!(
                pdev,
                "memory is short: {} queues of {}, not {} of {}\n",
                count,
                layout.depth(),
                granted,
                wanted.depth()
            );
        }
        Ok(Self {
            vectors,
            tags,
            layout,
            count,
        })
    }
}

/// Allocates the interrupt vectors of up to `most` queues. Returns them and the number of queues
/// that have one.
///
/// The admin queue has vector 0 and no handler: it is polled. The others are spread over the
/// processors. All share the vector of a controller that has but one.
fn vectors<'bound>(
    scope: Scope<'bound>,
    pdev: &'bound pci::Device<Core<'_>>,
    most: u16,
) -> Result<(Vectors<'bound>, u16)> {
    let types = Types::MESSAGES;
    let vectors = match Vectors::alloc_affinity(scope, pdev, 1, 2, u32::from(most) + 1, types) {
        Err(ENOSPC) => Vectors::alloc(scope, pdev, 1, 1, types),
        result => result,
    }
    .inspect_err(|_| dev_err!(pdev, "no message signalled interrupts\n"))?;
    let usable = u16::try_from(vectors.len() - 1).unwrap_or(u16::MAX);

    Ok((vectors, most.min(usable.max(1))))
}

/// The vector of queue `qid`: its own, unless there is but one.
fn vector(vectors: &Vectors<'_>, qid: u16) -> u16 {
    if vectors.len() == 1 {
        0
    } else {
        qid
    }
}

/// Allocates `count` queue pairs and all that their requests need.
fn tags<'bound>(
    scope: Scope<'bound>,
    ctrl: &Arc<Ctrl<'bound>>,
    mapper: Arc<Mapper<'bound>>,
    layout: Layout,
    vectors: &Vectors<'bound>,
    count: u16,
) -> Result<Arc<TagSet<'bound, Nvme>>> {
    let mut queues = KVec::with_capacity(count.into(), GFP_KERNEL)?;
    for qid in 1..=count {
        let queue = IoQueue::new(ctrl.clone(), qid, vector(vectors, qid), layout)?;
        queues.push(queue, GFP_KERNEL)?;
    }

    // A processor submits to the queue whose interrupt it gets, if each vector has a queue.
    let affinity = if vectors.len() == usize::from(count) + 1 {
        Affinity::Interrupts { first: 1 }
    } else {
        Affinity::Spread
    };
    let config = Config::new(layout.depth(), layout.max_segments)
        .timeout(io_timeout_secs() * 1000)
        .affinity(affinity);
    TagSet::new(scope, mapper, queues, config)
}

/// Returns the seconds that a request may take.
fn io_timeout_secs() -> u32 {
    module_parameters::io_timeout.value().clamp(1, 3600)
}

/// Registers the interrupt handlers of all queues.
fn request<'bound>(
    vectors: &Vectors<'bound>,
    tags: &Arc<TagSet<'bound, Nvme>>,
) -> Result<KVec<Irq<'bound, Interrupt<'bound>>>> {
    let mut irqs = KVec::new();
    for (index, hw) in tags.hw_queues().iter().enumerate() {
        let handler = Interrupt {
            tags: tags.clone(),
            index,
        };
        let vector = usize::from(hw.queue().vector());
        irqs.push(vectors.request(vector, c"rust_nvme", handler)?, GFP_KERNEL)?;
    }
    Ok(irqs)
}

/// Queues that the controller knows of. It forgets them when this is dropped.
struct Created<'bound> {
    tags: Arc<TagSet<'bound, Nvme>>,
}

impl<'bound> Created<'bound> {
    fn new(tags: Arc<TagSet<'bound, Nvme>>) -> Result<Self> {
        for hw in tags.hw_queues() {
            hw.queue().create()?;
        }
        Ok(Self { tags })
    }
}

impl Drop for Created<'_> {
    fn drop(&mut self) {
        for hw in self.tags.hw_queues() {
            // Where that fails disabling the controller does it.
            if hw.queue().delete().is_err() {
                return;
            }
        }
    }
}

/// Makes the disks of all namespaces.
fn disks<'bound>(
    ctrl: &Ctrl<'bound>,
    identity: &Identity,
    tags: &Arc<TagSet<'bound, Nvme>>,
    layout: Layout,
    instance: &Instance,
) -> Result<KVec<Disk<'bound, Nvme>>> {
    let mut disks = KVec::new();
    for id in ns::active(ctrl, identity)? {
        let Some(namespace) = Namespace::read(ctrl, identity, id)? else {
            continue;
        };
        let alignment = tags.mapper().dma_alignment();
        if alignment > 1 << namespace.shift {
            dev_warn!(
                ctrl.device(),
                "namespace {id}: only whole {alignment} bytes can be mapped; less fails\n"
            );
        }
        let built = describe(&namespace, identity, layout, alignment).build(
            fmt!("rnvme{}n{}", instance.number(), id),
            tags,
            namespace,
        );
        match built {
            Ok(disk) => disks.push(disk, GFP_KERNEL)?,
            // The others may do.
            Err(e) if e == EINVAL => dev_err!(
                ctrl.device(),
                "namespace {id} gets no disk: the block layer takes its limits for wrong\n"
            ),
            Err(e) => return Err(e),
        }
    }
    Ok(disks)
}

/// Makes the character devices of all disks.
fn generics<'bound>(
    scope: Scope<'bound>,
    disks: &[Disk<'bound, Nvme>],
    binding: &Arc<Binding>,
    layout: Layout,
    instance: &Instance,
) -> Result<KVec<CharDevice<'bound, OpenFile>>> {
    let mut generics = KVec::with_capacity(disks.len(), GFP_KERNEL)?;
    for disk in disks {
        let namespace = *disk.data();
        // It can be dead by now, with its controller: that is no reason to fail the others.
        let Ok(queue) = disk.queue() else {
            continue;
        };
        let generic = Generic {
            queue,
            namespace,
            layout,
            binding: binding.clone(),
        };
        let device = CharDevice::new(
            scope,
            fmt!("rnvme-ng{}n{}", instance.number(), namespace.id),
            Arc::new(generic, GFP_KERNEL)?,
        )?;
        generics.push(device, GFP_KERNEL)?;
    }
    Ok(generics)
}

/// Describes a namespace to the block layer. Memory is mapped in whole `alignment` bytes, a power
/// of two and at most a page, or not at all.
fn describe(
    namespace: &Namespace,
    identity: &Identity,
    layout: Layout,
    alignment: usize,
) -> DiskBuilder {
    let limits = limits::Limits::new(namespace, identity, &layout);
    let has_cache = identity.has_write_cache && !namespace.no_write_cache;
    let mut disk = DiskBuilder::new()
        .capacity_sectors(namespace.sectors())
        .logical_block_size(limits.logical_block)
        .physical_block_size(limits.physical_block)
        .io_min(limits.io_min)
        .io_opt(limits.io_opt)
        .chunk_sectors(limits.chunk_sectors)
        .read_only(namespace.read_only)
        .rotational(namespace.rotational)
        .max_hw_sectors(limits.max_sectors)
        .max_segments(layout.max_segments)
        .max_segment_size(u32::MAX)
        // Both kinds of descriptors can say multiples of 4 bytes.
        // CAST: At most a page.
        .dma_alignment(alignment.max(4) as u32 - 1)
        .write_cache(has_cache, has_cache)
        .max_write_zeroes_sectors(limits.max_zeroes_sectors)
        .write_zeroes_unmaps(namespace.zeroes_when_deallocated);

    let boundary = match layout.format {
        Format::Prp => alignment.max(PAGE_SIZE),
        _ => alignment,
    };
    if boundary > 1 {
        disk = disk.virt_boundary_mask(boundary - 1);
    }
    if let Some(discard) = limits.discard {
        disk = disk.discard(discard.max_sectors, discard.max_ranges, discard.granularity);
    }
    if let Some(atomic) = limits.atomic {
        disk = disk.atomic_writes(atomic.max, atomic.boundary);
    }
    disk
}
