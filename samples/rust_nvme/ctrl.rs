// SPDX-License-Identifier: GPL-2.0

//! The controller: on, off, and the commands that it takes for itself.
//!
//! C: `nvme_enable_ctrl()`, `nvme_disable_ctrl()` in
//! [`drivers/nvme/host/core.c`](srctree/drivers/nvme/host/core.c)
//!
//! ```text
//!            enable()               shut_down(), disable()
//! disabled ------------> enabled ---------------------------> disabled
//!                         |   ^
//!              no answer, |   |  reset ...
//!          fatal status,  |   |    (again and again)
//!        reset by others  v   |
//!                       resetting ------> dead    (all I/O fails)
//!                             ^             |
//!                             '-------------'
//!                              reset by others
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
    completion::{
        Status,
        CQE_SHIFT, //
    },
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
    /// Later. If nobody holds the lock of the reset, it waits for the one who is to finish it.
    pub(super) const RESETTING: u32 = 1;
    /// Not before somebody else has reset the controller.
    pub(super) const DEAD: u32 = 2;
    /// Never again: the machine shuts down.
    pub(super) const OFF: u32 = 3;
}

/// The state of a controller after a reset.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It takes commands.
    Live,
    /// It is stopped, and its commands wait: somebody else goes on from here.
    Unfinished,
    /// It was given up, which is said once.
    Dead,
    /// It was shut down, for good.
    Off,
}

/// A reset that is going on.
pub(crate) struct Resetting<'a, 'bound> {
    ctrl: &'a Ctrl<'bound>,
    /// The state before.
    was: u32,
    _guard: MutexGuard<'a, ()>,
}

impl Resetting<'_, '_> {
    /// Returns whether commands could be submitted before.
    pub(crate) fn was_live(&self) -> bool {
        self.was == state::LIVE
    }

    /// Returns whether it was shut down before.
    pub(crate) fn was_off(&self) -> bool {
        self.was == state::OFF
    }

    /// Nothing was reset, as it need not be, and nothing taken from the controller: it goes on.
    pub(crate) fn cancel(self) {
        self.ctrl.state.store(self.was, Relaxed);
    }

    /// Ends the reset, after which no command from before is in flight.
    pub(crate) fn end(self, end: End) {
        let state = match end {
            End::Live => state::LIVE,
            End::Unfinished => state::RESETTING,
            End::Dead => state::DEAD,
            End::Off => state::OFF,
        };
        if end == End::Dead && self.was < state::DEAD {
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
    power: phyr_driver::pci::Enabled<'bound>,
    caps: Capabilities,
    /// One of [`state`].
    state: Atomic<u32>,
    /// Count of resets.
    generation: Atomic<u32>,
    /// The time that a shutdown may take, in seconds.
    shutdown_secs: Atomic<u32>,
    #[pin]
    admin: Mutex<Admin<'bound>>,
    /// Held during a reset.
    #[pin]
    resetting: Mutex<()>,
    /// Count of those who wait for it, other than for the sake of a command.
    waiting: Atomic<u32>,
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
        power: phyr_driver::pci::Enabled<'bound>,
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
                waiting: Atomic::new(0),
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

    /// Returns whether commands can be submitted.
    #[inline]
    pub(crate) fn is_live(&self) -> bool {
        self.state.load(Relaxed) == state::LIVE
    }

    /// Returns whether the driver gave the controller up, or has shut it down.
    pub(crate) fn is_dead(&self) -> bool {
        self.state.load(Relaxed) >= state::DEAD
    }

    /// Changes whenever a reset has emptied the queues.
    pub(crate) fn generation(&self) -> u32 {
        self.generation.load(Relaxed)
    }

    /// Waits for a reset that is going on, which does not wait for the controller any more. Then
    /// begins one.
    pub(crate) fn begin_reset(&self) -> Resetting<'_, 'bound> {
        self.waiting.fetch_add(1, Relaxed);
        let guard = self.resetting.lock();
        self.waiting.fetch_sub(1, Relaxed);
        self.begin(guard)
    }

    /// Waits for a reset that is going on. Then begins one for a command that the controller does
    /// not complete, unless one ended after `generation`, or is not finished.
    pub(crate) fn begin_recovery(&self, generation: u32) -> Option<Resetting<'_, 'bound>> {
        let guard = self.resetting.lock();
        if generation != self.generation() || !self.is_live() {
            return None;
        }
        Some(self.begin(guard))
    }

    fn begin<'a>(&'a self, guard: MutexGuard<'a, ()>) -> Resetting<'a, 'bound> {
        Resetting {
            ctrl: self,
            was: self.state.xchg(state::RESETTING, Relaxed),
            _guard: guard,
        }
    }

    /// Returns whether somebody waits in [`Ctrl::begin_reset`] before `timeout` is over.
    pub(crate) fn is_awaited_within(&self, timeout: Delta) -> bool {
        read_poll_timeout(
            || Ok(self.is_awaited()),
            |awaited| *awaited,
            Delta::from_millis(10),
            timeout,
        )
        .is_ok()
    }

    fn is_awaited(&self) -> bool {
        self.waiting.load(Relaxed) != 0
    }

    /// Waits for a reset that is going on. Returns whether one ended after `generation`, and well.
    fn was_reset(&self, generation: u32) -> bool {
        let _guard = self.resetting.lock();
        self.is_live() && self.generation() != generation
    }

    /// Returns the version of NVMe that it follows, major and minor.
    pub(crate) fn version(&self) -> (u32, u32) {
        let version = self.bar.read(VS);
        (version.major().into(), version.minor().into())
    }

    /// Returns whether Identify has a list of the active namespaces: version 1.1 and later.
    pub(crate) fn has_namespace_list(&self) -> bool {
        self.version() >= (1, 1)
    }

    /// Returns whether Identify has limits of the NVM command set, or can say that it has not:
    /// since version 1.2 a byte of the command says what is asked for. Controllers that claim an
    /// older version than that of the limits have them, too.
    fn has_nvm_limits(&self) -> bool {
        self.version() >= (1, 2)
    }

    /// Whether the hardware itself says that it executes no commands: unplugged, fatal status, or
    /// not ready.
    pub(crate) fn has_failed(&self) -> bool {
        !self.bar.read(CSTS).is_working()
    }

    /// Reads the status.
    ///
    /// # Errors
    ///
    /// [`ENODEV`]: the registers are out of reach. That reads as all ones or, where nobody answers
    /// on the bus, as zeroes, which would be the status of a controller that was disabled; but
    /// there is no version 0.
    fn status(&self) -> Result<CSTS> {
        let status = self.bar.read(CSTS);

        if status.is_gone() || (status.into_raw() == 0 && self.bar.read(VS).into_raw() == 0) {
            return Err(ENODEV);
        }
        Ok(status)
    }

    /// Waits until the status is as `done` wants it.
    ///
    /// # Errors
    ///
    /// - [`ENODEV`]: the controller is gone.
    /// - [`ETIMEDOUT`]: time is up.
    /// - [`EINTR`]: somebody waits in [`Ctrl::begin_reset`].
    fn wait(&self, timeout: Delta, done: impl Fn(CSTS) -> bool) -> Result {
        fail::at(Point::read_poll_timeout)?;
        let status = read_poll_timeout(
            || self.status(),
            |status| done(*status) || self.is_awaited(),
            Delta::from_millis(1),
            timeout,
        )?;
        if !done(status) {
            return Err(EINTR);
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
    /// - [`EINTR`]: it has not stopped, and somebody waits in [`Ctrl::begin_reset`].
    pub(crate) fn disable(&self) -> Result {
        let config = self.bar.read(CC);

        self.bar
            .write_reg(config.with_const_shn::<0>().with_en(false));
        self.wait(self.change_timeout(), |status| !status.rdy())
    }

    /// Ends all DMA of the controller, whatever it thinks, until [`Ctrl::restart`].
    pub(crate) fn stop_dma(&self) {
        self.power.stop_dma();
    }

    /// Tells the controller that power may go, and waits until it has everything on the medium.
    pub(crate) fn shut_down(&self) {
        let config = self.bar.read(CC);
        let timeout = Delta::from_secs(self.shutdown_secs.load(Relaxed).into());

        self.bar.write_reg(config.with_const_shn::<1>());
        let done = self.wait(timeout, |status| {
            u32::from(status.shst()) == CSTS::SHST_COMPLETE
        });
        if done.is_err() {
            dev_warn!(self.dev, "the controller does not shut down\n");
        }
    }

    /// Enables the controller, whatever state it was left in, with an empty admin queue.
    ///
    /// # Errors
    ///
    /// Those of [`Ctrl::disable`] and [`Ctrl::enable`].
    pub(crate) fn restart(&self) -> Result {
        self.disable()
            .inspect_err(|_| dev_err!(self.dev, "the controller does not reset\n"))?;
        // Not before it has forgotten all rings and commands that it was told of.
        self.power.start_dma();
        self.enable()
            .inspect_err(|_| dev_err!(self.dev, "the controller does not get ready\n"))
    }

    /// Enables a disabled controller, with an empty admin queue.
    ///
    /// # Errors
    ///
    /// - [`ENODEV`]: it is gone.
    /// - [`ETIMEDOUT`]: it does not get ready.
    /// - [`EINTR`]: it is not ready, and somebody waits in [`Ctrl::begin_reset`].
    fn enable(&self) -> Result {
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
        // Or namespaces of another one are not listed, and nobody learns why they are no disks.
        let config = if self.caps.other_command_sets {
            config.with_const_css::<{ CC::CSS_CSI }>()
        } else {
            config
        };
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
        self.admin.lock().run(command, || self.is_awaited())
    }

    /// Runs Identify; see [`Admin::identify`]. Again, if a reset has come in between. Sleeps.
    ///
    /// Not during a reset of the caller's.
    pub(crate) fn identify(&self, what: Identify) -> Result<KVec<u8>> {
        self.again(|admin| admin.identify(what, || self.is_awaited()))
    }

    /// Runs an Identify that the controller may refuse; see [`Admin::try_identify`]. Again, as
    /// [`Self::identify`].
    pub(crate) fn try_identify(&self, what: Identify) -> Result<Result<KVec<u8>, Status>> {
        self.again(|admin| admin.try_identify(what, || self.is_awaited()))
    }

    /// Calls `f`, and again where it fails because a reset has come in between.
    fn again<R>(&self, f: impl Fn(&mut Admin<'bound>) -> Result<R>) -> Result<R> {
        loop {
            let generation = self.generation();
            let result = f(&mut self.admin.lock());
            match result {
                Err(ENODEV | ETIMEDOUT) if self.was_reset(generation) => {}
                _ => return result,
            }
        }
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
            // Many have no limits but those of all commands.
            if let Ok(data) = self.try_identify(Identify::NvmLimits)? {
                identity.add_nvm_limits(&data, self.caps.min_page_shift)?;
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
    /// Those of [`Ctrl::restart`].
    pub(crate) fn new(ctrl: Arc<Ctrl<'bound>>) -> Result<Self> {
        let enabled = Self { ctrl };
        enabled.ctrl.restart()?;
        Ok(enabled)
    }
}

impl Drop for Enabled<'_> {
    fn drop(&mut self) {
        let ctrl = &self.ctrl;

        if !ctrl.is_dead() && !ctrl.has_failed() {
            ctrl.shut_down();
        }
        match ctrl.disable() {
            // A controller that is gone does no DMA.
            Ok(()) | Err(ENODEV) => {}
            Err(_) => dev_err!(ctrl.dev, "the controller does not stop\n"),
        }
        ctrl.stop_dma();
    }
}
