// SPDX-License-Identifier: GPL-2.0

//! The controller: on, off, and the commands that it takes for itself.
//!
//! C: `nvme_enable_ctrl()`, `nvme_disable_ctrl()` in
//! [`drivers/nvme/host/core.c`](srctree/drivers/nvme/host/core.c)
//!
//! While it is enabled the controller may access all memory whose address it was given. So
//! [`EnabledController`], whose drop disables it, must be dropped before that memory is freed.

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
        Completion,
        NvmeStatus,
        CQE_SHIFT, //
    },
    desc::PAGE_SHIFT,
    identify::ControllerIdentity,
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
    state::State,
    user_entry::UserCommandEntry, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    io::Io,
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    },
    time::Delta, //
};
use phyr_driver::{
    fallible::read_poll_timeout,
    pci::Enabled, //
};

/// The time that a command of user space has left as the controller is unbound: more than most
/// take, and less than who unbinds it waits for.
const USER_GRACE: Delta = Delta::from_secs(3);

/// A controller.
#[pin_data]
pub(crate) struct Ctrl<'bound> {
    dev: &'bound Device<Bound>,
    bar: Arc<Bar<'bound>>,
    power: Enabled<'bound>,
    caps: Capabilities,
    #[pin]
    state: State<'bound>,
    /// The time that a shutdown may take, in seconds.
    shutdown_secs: Atomic<u32>,
    #[pin]
    admin: Mutex<Admin<'bound>>,
}

impl<'bound> Ctrl<'bound> {
    /// Allocates the admin queue. The controller is left as it is.
    ///
    /// # Errors
    ///
    /// - [`ENODEV`]: it lacks what this driver needs.
    /// - [`ENOMEM`]: memory is short.
    pub(crate) fn new(
        dev: &'bound Device<Bound>,
        power: Enabled<'bound>,
        bar: Arc<Bar<'bound>>,
        caps: Capabilities,
    ) -> Result<Arc<Self>> {
        Self::check(dev, &caps)?;
        let admin = Admin::new(dev, bar.clone(), &caps)?;

        Arc::pin_init(
            pin_init!(Self {
                dev,
                bar,
                power,
                caps,
                state <- State::new(dev),
                shutdown_secs: Atomic::new(ControllerIdentity::MIN_SHUTDOWN_SECS),
                admin <- new_mutex!(admin),
            }),
            GFP_KERNEL,
        )
    }

    /// Checks that the controller has what this driver needs. The log has the field that is the
    /// reason why not.
    ///
    /// # Errors
    ///
    /// [`ENODEV`]: it has not.
    fn check(dev: &Device<Bound>, caps: &Capabilities) -> Result {
        if !caps.nvm {
            dev_err!(dev, "CAP.CSS has no NVM command set\n");
        } else if caps.min_page_shift > PAGE_SHIFT {
            let shift = caps.min_page_shift;
            dev_err!(
                dev,
                "CAP.MPSMIN demands pages of 2^{shift} bytes: not 4 KiB\n"
            );
        } else if caps.max_entries < 2 {
            dev_err!(dev, "CAP.MQES is 0: a queue of one entry is never full\n");
        } else {
            return Ok(());
        }
        Err(ENODEV)
    }

    /// Returns the device.
    pub(crate) fn device(&self) -> &'bound Device<Bound> {
        self.dev
    }

    /// Returns the registers.
    pub(crate) fn bar(&self) -> &Arc<Bar<'bound>> {
        &self.bar
    }

    /// Returns the capabilities.
    pub(crate) fn caps(&self) -> &Capabilities {
        &self.caps
    }

    /// Returns the state.
    #[inline]
    pub(crate) fn state(&self) -> &State<'bound> {
        &self.state
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

    /// Returns whether Identify may be asked for the limits of the NVM command set. Since version
    /// 1.2 a controller that has none refuses; some have them that claim an older version than the
    /// limits came with.
    fn has_nvm_limits(&self) -> bool {
        self.version() >= (1, 2)
    }

    /// Returns whether the registers show that no commands are executed: unplugged, fatal status,
    /// or not ready.
    pub(crate) fn has_failed(&self) -> bool {
        !self.bar.read(CSTS).is_working()
    }

    /// Reads the status.
    ///
    /// # Errors
    ///
    /// [`ENODEV`]: the registers are out of reach. They read as all ones or, where nothing answers
    /// on the bus, as zeroes, which are also the status of a disabled controller; but there is no
    /// version 0.
    fn status(&self) -> Result<CSTS> {
        let status = self.bar.read(CSTS);

        if status.is_gone() || (status.into_raw() == 0 && self.bar.read(VS).into_raw() == 0) {
            return Err(ENODEV);
        }
        Ok(status)
    }

    /// Waits until `done` returns true for the status.
    ///
    /// # Errors
    ///
    /// - [`ENODEV`]: the controller is gone.
    /// - [`ETIMEDOUT`]: time is up.
    /// - [`EINTR`]: somebody waits in [`State::begin_reset`].
    fn wait(&self, timeout: Delta, done: impl Fn(CSTS) -> bool) -> Result {
        let status = read_poll_timeout(
            || self.status(),
            |status| done(*status) || self.state.is_awaited(),
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
    /// - [`EINTR`]: it has not stopped, and somebody waits in [`State::begin_reset`].
    pub(crate) fn disable(&self) -> Result {
        let config = self.bar.read(CC);

        self.bar
            .write_reg(config.with_const_shn::<0>().with_en(false));
        self.wait(self.change_timeout(), |status| !status.rdy())
    }

    /// Ends all DMA of the controller, whatever its state, until [`Ctrl::restart`].
    pub(crate) fn stop_dma(&self) {
        self.power.stop_dma();
    }

    /// Notifies the controller that power may go, and waits until all data is on the medium.
    pub(crate) fn shut_down(&self) {
        let config = self.bar.read(CC);
        let timeout = Delta::from_secs(self.shutdown_secs.load(Relaxed).into());

        self.bar.write_reg(config.with_const_shn::<1>());
        let done = self.wait(timeout, |status| {
            u32::from(status.shst()) == CSTS::SHST_COMPLETE
        });
        if done.is_err() {
            self.log_status("shut down");
        }
    }

    /// Enables the controller, whatever state it was left in, with an empty admin queue.
    ///
    /// # Errors
    ///
    /// Those of [`Ctrl::disable`] and [`Ctrl::enable`].
    pub(crate) fn restart(&self) -> Result {
        self.disable().inspect_err(|_| self.log_status("reset"))?;
        // Not before it has forgotten all rings and commands.
        self.power.start_dma();
        self.enable().inspect_err(|_| self.log_status("get ready"))
    }

    /// Logs that the controller does not do what it was told, with its status.
    #[cold]
    fn log_status(&self, what: &str) {
        let (status, version) = (self.bar.read(CSTS).into_raw(), self.bar.read(VS).into_raw());
        dev_err!(
            self.dev,
            "the controller does not {what}: CSTS is {status:#x}, VS is {version:#x}\n"
        );
    }

    /// Enables a disabled controller, with an empty admin queue.
    ///
    /// # Errors
    ///
    /// - [`ENODEV`]: it is gone.
    /// - [`ETIMEDOUT`]: it does not get ready.
    /// - [`EINTR`]: it is not ready, and somebody waits in [`State::begin_reset`].
    fn enable(&self) -> Result {
        let bar = &*self.bar;
        let mut admin = self.admin.lock();

        admin.reset();
        let (sq, cq) = (admin.sq_addr(), admin.cq_addr());
        // CAST: `ENTRIES` is a small constant.
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
        // Else namespaces of other command sets are not listed, and the log cannot have the reason
        // why they get no disk.
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
        if self.state.is_dead() {
            return Err(ENODEV);
        }
        self.admin.lock().run(command, || self.state.is_awaited())
    }

    /// Runs Identify; see [`Admin::identify`]. Again, if a reset has come in between. Sleeps.
    ///
    /// The caller holds no [`Reset`](super::state::Reset).
    pub(crate) fn identify(&self, what: Identify) -> Result<KVec<u8>> {
        self.again(|admin| admin.identify(what, || self.state.is_awaited()))
    }

    /// Runs an Identify that the controller may refuse; see [`Admin::try_identify`]. Again, as
    /// [`Self::identify`].
    pub(crate) fn try_identify(&self, what: Identify) -> Result<Result<KVec<u8>, NvmeStatus>> {
        self.again(|admin| admin.try_identify(what, || self.state.is_awaited()))
    }

    /// Reads the Commands Supported and Effects log, which the controller may refuse.
    pub(crate) fn effects_log(&self) -> Result<Result<KVec<u8>, NvmeStatus>> {
        self.again(|admin| admin.try_read(Command::get_effects_log, || self.state.is_awaited()))
    }

    /// Runs an admin command of user space, whose data is mapped, within `timeout`. Sleeps.
    ///
    /// # Errors
    ///
    /// [`UserError`]
    pub(crate) fn run_user(
        &self,
        command: UserCommandEntry,
        timeout: Delta,
    ) -> Result<Completion, UserError> {
        let mut admin = self.admin.lock();
        let generation = self.state.live_generation().ok_or(UserError::NotLive)?;
        if self.state.refuses_user_commands() {
            return Err(UserError::NotLive);
        }
        admin
            .execute_within(command, timeout, || {
                self.state.is_user_command_over(generation)
            })
            .map_err(|error| UserError::Unanswered { generation, error })
    }

    /// Ends commands of user space, of which one may take any time: new ones fail, and the one that
    /// the controller has is given up after [`USER_GRACE`]. Sleeps.
    pub(crate) fn end_user_commands(&self) {
        self.state.refuse_user_commands();
        // One that takes longer is given up below.
        let _ = read_poll_timeout(
            || Ok(self.admin.try_lock().is_some()),
            |is_idle| *is_idle,
            Delta::from_millis(1),
            USER_GRACE,
        );
        self.state.abort_user_commands();
    }

    /// Calls `f`, and again where it fails because a reset has come in between.
    fn again<R>(&self, f: impl Fn(&mut Admin<'bound>) -> Result<R>) -> Result<R> {
        loop {
            let generation = self.state.generation();
            let result = f(&mut self.admin.lock());
            match result {
                Err(ENODEV | ETIMEDOUT) if self.state.was_reset(generation) => {}
                _ => return result,
            }
        }
    }

    /// Asks the controller for its identity.
    ///
    /// # Errors
    ///
    /// Those of [`Admin::identify`].
    pub(crate) fn identity(&self) -> Result<ControllerIdentity> {
        let data = self.identify(Identify::Controller)?;
        let mut identity = ControllerIdentity::parse(&data, self.caps.min_page_shift)?;

        if self.has_nvm_limits() {
            // Many controllers have no such limits.
            if let Ok(data) = self.try_identify(Identify::NvmLimits)? {
                identity.add_nvm_limits(&data, self.caps.min_page_shift)?;
            }
        }
        self.shutdown_secs.store(identity.shutdown_secs, Relaxed);
        Ok(identity)
    }

    /// Requests `wanted` I/O queue pairs and returns the number that is granted, at most `wanted`.
    pub(crate) fn set_queue_count(&self, wanted: u16) -> Result<u16> {
        let granted = self.run(Command::set_queue_count(wanted))?;
        // Both halves are one less than the number.
        // CAST: 65535 at most.
        let granted = (granted & 0xffff).min(granted >> 16) as u16;

        Ok(granted.saturating_add(1).min(wanted))
    }
}

/// Reasons why an admin command of user space has no completion.
pub(crate) enum UserError {
    /// The controller was not given it.
    NotLive,
    /// It may access the command's data until it is reset after `generation`.
    Unanswered { generation: u32, error: Error },
}

/// A controller that is on. Dropping this shuts it down, disables it and ends its DMA.
pub(crate) struct EnabledController<'bound> {
    ctrl: Arc<Ctrl<'bound>>,
}

impl<'bound> EnabledController<'bound> {
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

impl Drop for EnabledController<'_> {
    fn drop(&mut self) {
        let ctrl = &self.ctrl;

        if !ctrl.state.is_dead() && !ctrl.has_failed() {
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
