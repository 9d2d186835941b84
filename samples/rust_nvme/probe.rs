// SPDX-License-Identifier: GPL-2.0

//! Binding: the parts of a bound controller, and the order in which they come and go.
//!
//! If a step of [`NvmeDevice::new`] fails, the steps before it are undone as the values that they
//! made are dropped, last first. Unbinding drops the same values in the same order, which is that
//! of the fields of [`NvmeDevice`].

use super::{
    admin_dev::{
        AdminFile,
        Controller, //
    },
    admin_queue::{
        AdminQueue,
        NvmeAdmin, //
    },
    cmd::Cid,
    ctrl::{
        Ctrl,
        EnabledController, //
    },
    desc::PAGE_SIZE,
    disk,
    effects::Effects,
    format::Format,
    generic::OpenFile,
    identify::ControllerIdentity,
    io::Interrupt,
    layout::{
        self,
        Layout, //
    },
    module_parameters,
    queues::{
        self,
        CreatedQueues,
        Queues, //
    },
    regs::{
        Bar,
        Capabilities, //
    },
    request::NvmeBlk,
    reset::{
        self,
        ExternalReset, //
    },
};
use kernel::{
    device::Core,
    page,
    pci,
    prelude::*,
    sync::Arc,
    time::Delta, //
};
use phyr::Mapper;
use phyr_blk::{
    CharDevice,
    DiskNumbers,
    GenDisk,
    Queue,
    TagSet, //
};
use phyr_driver::{
    binding::{
        Binding,
        BindingOwner, //
    },
    irq::Irq,
    pci::{
        ChannelState,
        Enabled,
        Recovery, //
    },
    scope::Scope, //
};

/// Numbers of controllers: the first `0` in `rnvme0n1`.
static NUMBERS: DiskNumbers = DiskNumbers::new();

/// The longest transfer, in bytes, whatever the controller allows. At this size the costs of a
/// request are those of its data; longer ones would only reserve more memory: the PRP list of 4 MiB
/// takes 12 KiB for each command of each queue.
const MAX_TRANSFER: usize = 4 << 20;

/// A bound controller. Its parts are torn down from first to last.
pub(crate) struct NvmeDevice<'bound> {
    /// No more files are opened.
    _generics: KVec<CharDevice<'bound, OpenFile>>,
    _admin_dev: CharDevice<'bound, AdminFile>,
    /// Open files no longer reach the device.
    _binding: BindingOwner<'bound>,
    /// Admin commands of user space are waited for.
    _admin_queue: Queue<'bound, NvmeAdmin>,
    /// Removing a disk waits for its requests, so everything below still works.
    disks: KVec<GenDisk<'bound, NvmeBlk>>,
    /// The queues are deleted, and there are no more interrupts.
    _created: CreatedQueues<'bound>,
    /// Handlers that still run are waited for.
    _irqs: KVec<Irq<'bound, Interrupt<'bound>>>,
    /// The controller is shut down and disabled, and may not master the bus any more.
    _enabled: EnabledController<'bound>,
    /// Resets from outside.
    external: Pin<KBox<ExternalReset<'bound>>>,
    /// The last references free the memory that the controller could access.
    tags: Arc<TagSet<'bound, NvmeBlk>>,
    ctrl: Arc<Ctrl<'bound>>,
}

impl<'bound> NvmeDevice<'bound> {
    /// Brings up a controller and shows its disks.
    ///
    /// # Errors
    ///
    /// - [`ENODEV`]: it does not answer, or lacks what this driver needs.
    /// - [`EINVAL`]: it transfers less than a page at once.
    /// - [`EIO`], [`ETIMEDOUT`]: an admin command fails, or is not answered.
    /// - [`ENOSPC`]: it has no interrupts but INTx.
    /// - [`ENOMEM`]: memory is short.
    pub(crate) fn new(scope: Scope<'bound>, pdev: &'bound pci::Device<Core<'_>>) -> Result<Self> {
        let kept = NUMBERS.alloc()?;
        let number = kept.get();
        // It can be used again when nothing of this controller is left.
        scope.keep(kept)?;
        let power = Enabled::new(scope, pdev)?;
        let bar: Bar<'bound> = power.iomap_region_sized(0, c"rust_nvme")?;
        let caps = Capabilities::read(&bar)
            .inspect_err(|_| dev_err!(pdev, "CAP is all ones: nothing answers\n"))?;
        let ctrl = Ctrl::new(pdev.as_ref(), power, Arc::new(bar, GFP_KERNEL)?, caps)?;
        let enabled = EnabledController::new(ctrl.clone())?;
        let identity = ctrl.identity()?;

        let mapper = Mapper::new(scope.device(), layout::limits()?)?;
        let layout = choose_layout(&identity, &caps, &mapper)?;
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
        // Rebound so that a failure below disables the controller before the rings are freed.
        let enabled = enabled;
        let external = ExternalReset::new()?;
        let irqs = queues::request_irqs(&vectors, &tags)?;
        let created = CreatedQueues::new(tags.clone())?;
        let disks = disk::disks(&ctrl, &identity, &tags, layout, number)?;
        let (binding, owner) = Binding::new(scope)?;
        let admin_queue = AdminQueue::build(scope, &ctrl, &tags, &layout)?;
        let controller = Controller {
            queue: admin_queue.requests().try_clone()?,
            effects: effects(&ctrl, &identity)?,
        };
        let controller = Arc::new(controller, GFP_KERNEL)?;
        let generics = disk::generics(scope, &disks, &binding, &controller, layout, number)?;
        let admin_dev = CharDevice::new(scope, fmt!("rnvme{number}"), controller)?;

        dev_info!(
            pdev,
            "rnvme{}: {} queues of {}, up to {} KiB in {} segments by {}, {} namespaces\n",
            number,
            count,
            layout.depth(),
            layout.max_transfer >> 10,
            layout.max_segments,
            layout.format,
            disks.len()
        );
        Ok(Self {
            _generics: generics,
            _admin_dev: admin_dev,
            _binding: owner,
            _admin_queue: admin_queue,
            disks,
            _created: created,
            _irqs: irqs,
            _enabled: enabled,
            external,
            tags,
            ctrl,
        })
    }

    /// Stops the controller before the function is reset from outside.
    pub(crate) fn reset_prepare(&self) {
        self.external.prepare(&self.ctrl, self.tags.clone());
    }

    /// Starts the controller after the function was reset from outside.
    pub(crate) fn reset_done(&self) {
        self.external.done(&self.ctrl, self.tags.clone());
    }

    /// Handles an error that the PCI core has detected.
    pub(crate) fn error_detected(&self, state: ChannelState) -> Recovery {
        match state {
            // Its effects on the controller show in the commands.
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
                reset::abandon(&self.ctrl, self.tags.clone(), &self.external);
                Recovery::Disconnect
            }
        }
    }

    /// Starts the controller after the link was reset.
    pub(crate) fn slot_reset(&self) -> Recovery {
        if self.external.done(&self.ctrl, self.tags.clone()) {
            Recovery::Recovered
        } else {
            Recovery::Disconnect
        }
    }

    /// Shuts the controller down, as the machine shuts down.
    pub(crate) fn shut_down(&self) {
        let timeout = Delta::from_secs(queues::io_timeout_secs().into());
        reset::shut_down(&self.ctrl, self.tags.clone(), &self.external, timeout);
    }

    /// Ends commands of user space, and gives up a controller that was pulled out, so that nobody
    /// waits for either in the drop.
    pub(crate) fn prepare_removal(&self) {
        self.ctrl.end_user_commands();
        if reset::abandon_failed(&self.ctrl, self.tags.clone(), &self.external) {
            self.disks.iter().for_each(GenDisk::mark_dead);
        }
    }
}

/// Reads the commands that the controller has, and their effects, if it has a log of them.
fn effects(ctrl: &Ctrl<'_>, identity: &ControllerIdentity) -> Result<Effects> {
    if !identity.has_effects_log {
        return Ok(Effects::new(KVec::new()));
    }
    Ok(Effects::new(ctrl.effects_log()?.unwrap_or_default()))
}

/// Returns the sizes of the I/O queues.
///
/// # Errors
///
/// [`EINVAL`]: a page of the CPU does not fit in a transfer, which the block layer demands.
fn choose_layout(
    identity: &ControllerIdentity,
    caps: &Capabilities,
    mapper: &Mapper<'_>,
) -> Result<Layout> {
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
    let format = Format::choose(module_parameters::use_sgl.value(), identity.has_sgl);

    Ok(Layout {
        // CAST: 4096 at most. Two entries are the least that a queue can have.
        entries: depth.clamp(2, Cid::TAGS.into()).min(caps.max_entries) as u16,
        max_transfer,
        max_segments: format.max_segments(max_transfer),
        format,
    })
}
