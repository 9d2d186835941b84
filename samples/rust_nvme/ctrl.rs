// SPDX-License-Identifier: GPL-2.0

//! The controller: on, off, and the commands that it takes for itself.
//!
//! C: `nvme_enable_ctrl()`, `nvme_disable_ctrl()` in
//! [`drivers/nvme/host/core.c`](srctree/drivers/nvme/host/core.c)
//!
//! ```text
//!            enable()               shut_down(), disable()
//! disabled ------------> enabled ---------------------------> disabled
//!                           |  no answer, fatal status, unplugged
//!                           v
//!                          dead    (stays; all I/O fails)
//! ```
//!
//! While it is enabled the controller may access all memory it was told of. So [`Enabled`], whose
//! drop disables it, must be gone before that memory is.

use super::{
    admin::{
        self,
        Admin, //
    },
    cmd::{
        Command,
        Identify,
        SQE_SHIFT, //
    },
    completion::CQE_SHIFT,
    identify::Identity,
    layout::PAGE_SHIFT,
    regs::{
        Bar,
        Capabilities,
        ACQ_HI,
        ACQ_LO,
        AQA,
        ASQ_HI,
        ASQ_LO,
        CC,
        CSTS,
        VS, //
    },
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    io::{
        poll::read_poll_timeout,
        Io, //
    },
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex,
        MutexGuard, //
    },
    time::Delta, //
};
use phyr::fail::{
    self,
    Point, //
};

/// Whether commands can be submitted.
mod state {
    pub(super) const LIVE: u32 = 0;
    /// Later.
    pub(super) const RESETTING: u32 = 1;
    /// Never again.
    pub(super) const DEAD: u32 = 2;
}

/// A reset that is going on.
pub(crate) struct Resetting<'a, 'bound> {
    ctrl: &'a Ctrl<'bound>,
    was_dead: bool,
    _guard: MutexGuard<'a, ()>,
}

impl Resetting<'_, '_> {
    /// Whether the controller had been given up before.
    pub(crate) fn was_dead(&self) -> bool {
        self.was_dead
    }

    /// Nothing was reset, as it need not be, and nothing taken from the controller: it goes on.
    pub(crate) fn cancel(self) {
        self.ctrl.state.store(state::LIVE, Relaxed);
    }

    /// Ends the reset, after which no command from before is in flight: the controller is `alive`,
    /// or is given up, which is said once.
    pub(crate) fn end(self, alive: bool) {
        let state = if alive { state::LIVE } else { state::DEAD };
        if !alive && !self.was_dead {
            dev_err!(
                self.ctrl.dev,
                "the controller is dead; all I/O fails from now on\n"
            );
        }
        // Only changed under the lock that this holds.
        let generation = self.ctrl.generation().wrapping_add(1);
        self.ctrl.generation.store(generation, Relaxed);
        self.ctrl.state.store(state, Relaxed);
    }
}

/// A controller.
#[pin_data]
pub(crate) struct Ctrl<'bound> {
    dev: &'bound Device<Bound>,
    bar: Arc<Bar<'bound>>,
    power: phyr::pci::Enabled<'bound>,
    caps: Capabilities,
    /// A [`State`], as a number.
    state: Atomic<u32>,
    /// How many resets there were.
    generation: Atomic<u32>,
    /// How long a shutdown may take, in seconds.
    shutdown_secs: Atomic<u32>,
    #[pin]
    admin: Mutex<Admin<'bound>>,
    /// Held during a reset.
    #[pin]
    resetting: Mutex<()>,
}

impl<'bound> Ctrl<'bound> {
    /// Allocates what the admin queue needs. The controller is left as it is.
    ///
    /// # Errors
    ///
    /// - [`ENODEV`]: it has no memory pages of 4 KiB, or not the NVM command set.
    /// - [`ENOMEM`]: memory is short.
    pub(crate) fn new(
        dev: &'bound Device<Bound>,
        power: phyr::pci::Enabled<'bound>,
        bar: Arc<Bar<'bound>>,
        caps: Capabilities,
    ) -> Result<Arc<Self>> {
        if caps.min_page_shift > PAGE_SHIFT || !caps.nvm {
            dev_err!(dev, "no NVM command set with pages of 4 KiB\n");
            return Err(ENODEV);
        }
        let admin = Admin::new(dev, bar.clone(), &caps)?;

        Arc::pin_init(
            pin_init!(Self {
                dev,
                bar,
                power,
                caps,
                state: Atomic::new(state::LIVE),
                generation: Atomic::new(0),
                shutdown_secs: Atomic::new(Identity::MIN_SHUTDOWN_SECS),
                admin <- new_mutex!(admin),
                resetting <- new_mutex!(()),
            }),
            GFP_KERNEL,
        )
    }

    pub(crate) fn device(&self) -> &'bound Device<Bound> {
        self.dev
    }

    pub(crate) fn bar(&self) -> &Arc<Bar<'bound>> {
        &self.bar
    }

    pub(crate) fn caps(&self) -> &Capabilities {
        &self.caps
    }

    /// Whether commands can be submitted.
    #[inline]
    pub(crate) fn is_live(&self) -> bool {
        self.state.load(Relaxed) == state::LIVE
    }

    /// Whether the driver gave the controller up.
    pub(crate) fn is_dead(&self) -> bool {
        self.state.load(Relaxed) == state::DEAD
    }

    /// Changes whenever a reset has emptied the queues.
    pub(crate) fn generation(&self) -> u32 {
        self.generation.load(Relaxed)
    }

    /// Waits for a reset that is going on. Then begins one, unless one ended after `generation`,
    /// if that is given.
    pub(crate) fn begin_reset(&self, generation: Option<u32>) -> Option<Resetting<'_, 'bound>> {
        let guard = self.resetting.lock();
        if generation.is_some_and(|generation| generation != self.generation()) {
            return None;
        }
        let was = self.state.xchg(state::RESETTING, Relaxed);
        Some(Resetting {
            ctrl: self,
            was_dead: was == state::DEAD,
            _guard: guard,
        })
    }

    /// The version of NVMe that it follows, major and minor.
    fn version(&self) -> (u32, u32) {
        let version = self.bar.read(VS);
        (version.major().into(), version.minor().into())
    }

    /// Whether Identify has a list of the active namespaces: version 1.1 and later.
    pub(crate) fn has_namespace_list(&self) -> bool {
        self.version() >= (1, 1)
    }

    /// Whether Identify has limits of the NVM command set: version 2.0 and later.
    fn has_nvm_limits(&self) -> bool {
        self.version() >= (2, 0)
    }

    /// Whether the hardware itself says that it executes no commands: unplugged, fatal status, or
    /// not ready.
    pub(crate) fn has_failed(&self) -> bool {
        !self.bar.read(CSTS).is_working()
    }

    /// Whether the hardware is off the bus, so that not even a reset helps.
    pub(crate) fn is_gone(&self) -> bool {
        self.bar.read(CSTS).is_gone()
    }

    /// Waits until the status is as `done` wants it, the controller is gone or time is up.
    fn wait(&self, timeout: Delta, done: impl Fn(CSTS) -> bool) -> Result {
        fail::at(Point::read_poll_timeout)?;
        let status = read_poll_timeout(
            || Ok(self.bar.read(CSTS)),
            |status| status.is_gone() || done(*status),
            Delta::from_millis(1),
            timeout,
        )?;
        if status.is_gone() {
            return Err(ENODEV);
        }
        Ok(())
    }

    fn change_timeout(&self) -> Delta {
        Delta::from_millis(self.caps.timeout_ms)
    }

    /// Disables the controller. It does not touch memory any more when this returns `Ok`.
    ///
    /// # Errors
    ///
    /// - [`ENODEV`]: it is gone.
    /// - [`ETIMEDOUT`]: it does not stop; only turning bus mastering off does now.
    pub(crate) fn disable(&self) -> Result {
        let config = self.bar.read(CC);

        self.bar
            .write_reg(config.with_const_shn::<0>().with_en(false));
        self.wait(self.change_timeout(), |status| !status.rdy())
    }

    /// Ends all DMA of the controller, whatever it thinks. It can only be enabled again by a new
    /// probe.
    pub(crate) fn stop_dma(&self) {
        self.power.stop_dma();
    }

    /// Tells the controller that power may go, and waits until it has everything on the medium.
    fn shut_down(&self) -> Result {
        let config = self.bar.read(CC);
        let timeout = Delta::from_secs(self.shutdown_secs.load(Relaxed).into());

        self.bar.write_reg(config.with_const_shn::<1>());
        self.wait(timeout, |status| {
            u32::from(status.shst()) == CSTS::SHST_COMPLETE
        })
    }

    /// Enables a disabled controller, with an empty admin queue.
    ///
    /// # Errors
    ///
    /// - [`ENODEV`]: it is gone.
    /// - [`ETIMEDOUT`]: it does not get ready.
    pub(crate) fn enable(&self) -> Result {
        let bar = &*self.bar;
        let mut admin = self.admin.lock();

        admin.reset();
        let (sq, cq) = (admin.sq_addr(), admin.cq_addr());
        // CAST: The same small constant twice.
        bar.write_reg(
            AQA::zeroed()
                .with_const_asqs::<{ admin::ENTRIES as u32 - 1 }>()
                .with_const_acqs::<{ admin::ENTRIES as u32 - 1 }>(),
        );
        // CAST: Each half on purpose.
        bar.write_reg(ASQ_LO::from(sq as u32));
        bar.write_reg(ASQ_HI::from((sq >> 32) as u32));
        bar.write_reg(ACQ_LO::from(cq as u32));
        bar.write_reg(ACQ_HI::from((cq >> 32) as u32));

        // All zero: the NVM command set, round robin arbitration, pages of 4 KiB.
        let config = CC::zeroed()
            .with_const_iosqes::<SQE_SHIFT>()
            .with_const_iocqes::<CQE_SHIFT>();
        bar.write_reg(config);
        bar.write_reg(config.with_en(true));
        self.wait(self.change_timeout(), |status| status.rdy() || status.cfs())?;
        if self.has_failed() {
            return Err(ENODEV);
        }
        Ok(())
    }

    /// Runs an admin command; see [`Admin::run`]. Sleeps.
    ///
    /// # Errors
    ///
    /// Those of [`Admin::run`], and [`ENODEV`] if the controller was given up.
    pub(crate) fn run(&self, command: Command) -> Result<u32> {
        if self.is_dead() {
            return Err(ENODEV);
        }
        self.admin.lock().run(command)
    }

    /// Runs Identify; see [`Admin::identify`]. Sleeps.
    pub(crate) fn identify(&self, what: Identify) -> Result<KVec<u8>> {
        self.admin.lock().identify(what)
    }

    /// Asks the controller what it can do.
    ///
    /// # Errors
    ///
    /// Those of [`Admin::identify`].
    pub(crate) fn identity(&self) -> Result<Identity> {
        let data = self.identify(Identify::Controller)?;
        let mut identity = Identity::parse(&data, self.caps.min_page_shift)?;

        if self.has_nvm_limits() {
            match self.identify(Identify::NvmLimits) {
                Ok(data) => identity.add_nvm_limits(&data, self.caps.min_page_shift)?,
                // It answers, but not this.
                Err(EIO) => dev_warn!(
                    self.dev,
                    "limits of discard and write zeroes are not known\n"
                ),
                Err(e) => return Err(e),
            }
        }
        self.shutdown_secs.store(identity.shutdown_secs, Relaxed);
        Ok(identity)
    }

    /// Asks for `wanted` I/O queue pairs and returns how many there may be, at most `wanted`.
    pub(crate) fn set_queue_count(&self, wanted: u16) -> Result<u16> {
        let granted = self.run(Command::set_queue_count(wanted))?;
        // Both halves are one less than the number. CAST: 65535 at most.
        let granted = (granted & 0xffff).min(granted >> 16) as u16;

        Ok(granted.saturating_add(1).min(wanted))
    }
}

/// A controller that is on. Dropping this shuts it down, disables it and ends its DMA.
pub(crate) struct Enabled<'bound> {
    ctrl: Arc<Ctrl<'bound>>,
}

impl<'bound> Enabled<'bound> {
    /// Turns the controller on, whatever state it was left in.
    ///
    /// # Errors
    ///
    /// Those of [`Ctrl::disable`] and [`Ctrl::enable`].
    pub(crate) fn new(ctrl: Arc<Ctrl<'bound>>) -> Result<Self> {
        ctrl.disable()
            .inspect_err(|_| dev_err!(ctrl.dev, "the controller does not reset\n"))?;
        // Not before it has forgotten the rings of whoever drove it last.
        ctrl.power.start_dma();
        let enabled = Self { ctrl };
        enabled
            .ctrl
            .enable()
            .inspect_err(|_| dev_err!(enabled.ctrl.dev, "the controller does not get ready\n"))?;
        Ok(enabled)
    }
}

impl Drop for Enabled<'_> {
    fn drop(&mut self) {
        let ctrl = &self.ctrl;

        if !ctrl.is_dead() && !ctrl.has_failed() && ctrl.shut_down().is_err() {
            dev_warn!(ctrl.dev, "the controller does not shut down\n");
        }
        match ctrl.disable() {
            // A controller that is gone does no DMA.
            Ok(()) | Err(ENODEV) => {}
            Err(_) => dev_err!(ctrl.dev, "the controller does not stop\n"),
        }
        ctrl.stop_dma();
    }
}
