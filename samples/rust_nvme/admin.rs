// SPDX-License-Identifier: GPL-2.0

//! The admin queue: one command at a time, from process context.
//!
//! Commands are few (probe, reset, unbind), so they are waited for by polling. Each gets an
//! identifier of its own out of 65536, and other completions are ignored: that of a command that
//! was given up cannot be taken for the answer to a later one.
//!
//! All commands that transfer data share one page that lives as long as the queue. A controller
//! that still writes the answer to a command long given up writes there.

use super::{
    cmd::{
        Command,
        Identify,
        SubmissionEntry, //
    },
    completion::{
        Completion,
        NvmeStatus, //
    },
    queue::{
        Cq,
        Sq, //
    },
    regs::{
        cq_doorbell,
        sq_doorbell,
        Bar,
        Capabilities,
        CSTS, //
    },
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    dma::Coherent,
    io::Io,
    prelude::*,
    sync::Arc,
    time::Delta, //
};
use phyr_driver::fallible::{
    coherent_slice,
    read_poll_timeout, //
};

/// Entries of the admin queue.
pub(crate) const ENTRIES: u16 = 32;

/// Bytes of everything that Identify returns.
pub(crate) const IDENTIFY_BYTES: usize = 4096;

/// Time that a command may take, as in the C driver.
pub(crate) const TIMEOUT: Delta = Delta::from_secs(60);

/// The admin queue pair.
pub(crate) struct Admin<'bound> {
    dev: &'bound Device<Bound>,
    bar: Arc<Bar<'bound>>,
    sq: Sq<'bound>,
    cq: Cq<'bound>,
    data: Coherent<[u8]>,
    cid: u16,
    /// A command was never answered: the queue is of no use before the next reset.
    stuck: bool,
    /// An answer came to no command, which was logged. Once between two resets.
    warned: bool,
}

impl<'bound> Admin<'bound> {
    /// Allocates the queue. [`Ctrl::restart`](super::ctrl::Ctrl::restart) passes it to the
    /// controller.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`]: memory is short.
    pub(crate) fn new(
        dev: &'bound Device<Bound>,
        bar: Arc<Bar<'bound>>,
        caps: &Capabilities,
    ) -> Result<Self> {
        let stride = caps.doorbell_stride;
        Ok(Self {
            dev,
            sq: Sq::new(dev, bar.clone(), ENTRIES, sq_doorbell(0, stride))?,
            cq: Cq::new(dev, bar.clone(), ENTRIES, cq_doorbell(0, stride))?,
            data: coherent_slice(dev, IDENTIFY_BYTES, GFP_KERNEL)?,
            bar,
            cid: 0,
            stuck: false,
            warned: false,
        })
    }

    /// Returns the device address of the submission ring.
    pub(crate) fn sq_addr(&self) -> u64 {
        self.sq.addr()
    }

    /// Returns the device address of the completion ring.
    pub(crate) fn cq_addr(&self) -> u64 {
        self.cq.addr()
    }

    /// Empties the queue. The controller must be disabled.
    pub(crate) fn reset(&mut self) {
        self.sq.reset();
        self.cq.reset();
        self.stuck = false;
        self.warned = false;
    }

    /// Runs a command and returns its completion, also if it failed. Sleeps, until `interrupted`
    /// returns true.
    ///
    /// # Errors
    ///
    /// - [`ENODEV`]: the controller is gone or not ready, or did not answer before.
    /// - [`ETIMEDOUT`]: no answer.
    /// - [`EINTR`]: no answer yet, and `interrupted`.
    fn execute(&mut self, command: Command, interrupted: impl Fn() -> bool) -> Result<Completion> {
        self.execute_within(command, TIMEOUT, interrupted)
    }

    /// Runs a command as [`Self::execute`] does, which may take `timeout`. If it fails the
    /// controller may access the command's data at any time until it is reset.
    pub(crate) fn execute_within(
        &mut self,
        command: impl SubmissionEntry,
        timeout: Delta,
        interrupted: impl Fn() -> bool,
    ) -> Result<Completion> {
        if self.stuck {
            return Err(ENODEV);
        }
        self.cid = self.cid.wrapping_add(1);
        self.sq.push(command.with_cid(self.cid));
        self.sq.commit();

        self.wait(timeout, interrupted).inspect_err(|_| {
            self.stuck = true;
            dev_err!(
                self.dev,
                "admin command {:#04x} was not answered: CSTS is {:#x}\n",
                command.opcode(),
                self.bar.read(CSTS).into_raw()
            );
        })
    }

    /// Runs a command and returns word 0 of its completion. Sleeps, until `interrupted` returns
    /// true.
    ///
    /// # Errors
    ///
    /// [`EIO`]: the command failed. And those of [`Self::execute`].
    pub(crate) fn run(&mut self, command: Command, interrupted: impl Fn() -> bool) -> Result<u32> {
        let completion = self.execute(command, interrupted)?;
        if !completion.status().is_ok() {
            dev_err!(
                self.dev,
                "admin command {:#04x} failed: {}\n",
                command.opcode(),
                completion.status()
            );
            return Err(EIO);
        }
        // CAST: Word 0.
        Ok(completion.result as u32)
    }

    /// Waits for the completion of the command `self.cid`.
    fn wait(&mut self, timeout: Delta, interrupted: impl Fn() -> bool) -> Result<Completion> {
        let completion = read_poll_timeout(
            || self.poll(),
            |completion| completion.is_some() || interrupted(),
            Delta::from_micros(50),
            timeout,
        )?;
        completion.ok_or(EINTR)
    }

    /// Takes the completions that are there, and returns that of the command `self.cid`.
    ///
    /// # Errors
    ///
    /// [`ENODEV`]: there is none, and the controller does not work.
    fn poll(&mut self) -> Result<Option<Completion>> {
        let mut found = None;

        // One turn of the ring, so that a broken controller cannot occupy the CPU for ever.
        for _ in 0..ENTRIES {
            let Some(completion) = self.cq.pop() else {
                break;
            };
            if completion.cid() == self.cid {
                found = Some(completion);
            } else if !core::mem::replace(&mut self.warned, true) {
                dev_warn!(self.dev, "late admin completion ignored\n");
            }
        }
        self.cq.commit();

        if found.is_none() && !self.bar.read(CSTS).is_working() {
            return Err(ENODEV);
        }
        Ok(found)
    }

    /// Runs Identify and returns the structure.
    ///
    /// # Errors
    ///
    /// Those of [`Admin::run`], and [`ENOMEM`].
    pub(crate) fn identify(
        &mut self,
        what: Identify,
        interrupted: impl Fn() -> bool,
    ) -> Result<KVec<u8>> {
        let mut out = KVec::from_elem(0, IDENTIFY_BYTES, GFP_KERNEL)?;

        self.run(
            Command::identify(what, self.data.dma_address()),
            interrupted,
        )?;
        // PANIC: Both are of `IDENTIFY_BYTES`.
        (&self.data).copy_to_slice(&mut out);
        Ok(out)
    }

    /// Runs an Identify that the controller may refuse, without a message. Returns the structure,
    /// or the status.
    ///
    /// # Errors
    ///
    /// Those of [`Self::execute`], and [`ENOMEM`].
    pub(crate) fn try_identify(
        &mut self,
        what: Identify,
        interrupted: impl Fn() -> bool,
    ) -> Result<Result<KVec<u8>, NvmeStatus>> {
        self.try_read(|addr| Command::identify(what, addr), interrupted)
    }

    /// Runs a command that writes up to 4 KiB to an address, and that the controller may refuse,
    /// without a message. Returns what it has written, or the status.
    ///
    /// # Errors
    ///
    /// Those of [`Self::execute`], and [`ENOMEM`].
    pub(crate) fn try_read(
        &mut self,
        command: impl FnOnce(u64) -> Command,
        interrupted: impl Fn() -> bool,
    ) -> Result<Result<KVec<u8>, NvmeStatus>> {
        let mut out = KVec::from_elem(0, IDENTIFY_BYTES, GFP_KERNEL)?;

        let command = command(self.data.dma_address());
        let completion = self.execute(command, interrupted)?;
        if !completion.status().is_ok() {
            return Ok(Err(completion.status()));
        }
        // PANIC: Both are of `IDENTIFY_BYTES`.
        (&self.data).copy_to_slice(&mut out);
        Ok(Ok(out))
    }
}
