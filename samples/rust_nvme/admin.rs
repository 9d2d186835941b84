// SPDX-License-Identifier: GPL-2.0

//! The admin queue: one command at a time, from process context.
//!
//! Commands are few (probe, reset, unbind), so they are waited for by polling. Each gets an
//! identifier of its own out of 65536 and nothing else is answered to: the completion of a
//! command that was given up cannot be taken for the answer to a later one.
//!
//! All commands that transfer data share one page that lives as long as the queue. A controller
//! that still writes the answer to a command long given up writes there.

use super::{
    cmd::{
        Command,
        Identify, //
    },
    completion::{
        Completion,
        Status, //
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
    io::{
        poll::read_poll_timeout,
        Io, //
    },
    prelude::*,
    sync::Arc,
    time::Delta, //
};
use phyr::fail::{
    self,
    Point, //
};

/// Entries of the admin queue.
pub(crate) const ENTRIES: u16 = 32;

/// Bytes of everything that Identify returns.
pub(crate) const IDENTIFY_BYTES: usize = 4096;

/// How long a command may take: what the C driver gives it.
const TIMEOUT: Delta = Delta::from_secs(60);

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
    /// An answer came to no command: said once before the next reset.
    warned: bool,
}

impl<'bound> Admin<'bound> {
    /// Allocates the queue. The controller learns of it in
    /// [`Ctrl::enable`](super::ctrl::Ctrl::enable).
    ///
    /// # Errors
    ///
    /// [`ENOMEM`] if memory is short.
    pub(crate) fn new(
        dev: &'bound Device<Bound>,
        bar: Arc<Bar<'bound>>,
        caps: &Capabilities,
    ) -> Result<Self> {
        let stride = caps.doorbell_stride;
        fail::at(Point::dma_alloc_attrs)?;
        Ok(Self {
            dev,
            sq: Sq::new(dev, bar.clone(), ENTRIES, sq_doorbell(0, stride))?,
            cq: Cq::new(dev, bar.clone(), ENTRIES, cq_doorbell(0, stride))?,
            data: Coherent::zeroed_slice(dev, IDENTIFY_BYTES, GFP_KERNEL)?,
            bar,
            cid: 0,
            stuck: false,
            warned: false,
        })
    }

    /// Device address of the submission ring.
    pub(crate) fn sq_addr(&self) -> u64 {
        self.sq.addr()
    }

    /// Device address of the completion ring.
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
    /// says so.
    ///
    /// # Errors
    ///
    /// - [`ENODEV`]: the controller is gone or not ready, or did not answer before.
    /// - [`ETIMEDOUT`]: no answer.
    /// - [`EINTR`]: no answer yet, and `interrupted`.
    fn execute(&mut self, command: Command, interrupted: impl Fn() -> bool) -> Result<Completion> {
        if self.stuck {
            return Err(ENODEV);
        }
        self.cid = self.cid.wrapping_add(1);
        self.sq.push(&command.with_cid(self.cid));
        self.sq.commit();

        self.wait(interrupted).inspect_err(|_| {
            self.stuck = true;
            dev_err!(
                self.dev,
                "admin command {:#04x} was not answered\n",
                command.opcode()
            );
        })
    }

    /// Runs a command and returns word 0 of its completion. Sleeps, until `interrupted` says so.
    ///
    /// # Errors
    ///
    /// [`EIO`]: the command failed. And those of [`Self::execute`].
    pub(crate) fn run(&mut self, command: Command, interrupted: impl Fn() -> bool) -> Result<u32> {
        let completion = self.execute(command, interrupted)?;
        if !completion.status.is_ok() {
            dev_err!(
                self.dev,
                "admin command {:#04x} failed: {}\n",
                command.opcode(),
                completion.status
            );
            return Err(EIO);
        }
        Ok(completion.result)
    }

    /// Waits for the completion of the command `self.cid`.
    fn wait(&mut self, interrupted: impl Fn() -> bool) -> Result<Completion> {
        fail::at(Point::read_poll_timeout)?;
        let completion = read_poll_timeout(
            || self.poll(),
            |completion| completion.is_some() || interrupted(),
            Delta::from_micros(50),
            TIMEOUT,
        )?;
        completion.ok_or(EINTR)
    }

    fn poll(&mut self) -> Result<Option<Completion>> {
        let mut found = None;

        // One turn of the ring: a controller that never stops shall not hold the CPU.
        for _ in 0..ENTRIES {
            let Some(completion) = self.cq.pop() else {
                break;
            };
            if completion.cid == self.cid {
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

    /// Runs an Identify that the controller may refuse, which is not worth a message. Returns the
    /// structure, or the status.
    ///
    /// # Errors
    ///
    /// Those of [`Self::execute`], and [`ENOMEM`].
    pub(crate) fn try_identify(
        &mut self,
        what: Identify,
        interrupted: impl Fn() -> bool,
    ) -> Result<Result<KVec<u8>, Status>> {
        let mut out = KVec::from_elem(0, IDENTIFY_BYTES, GFP_KERNEL)?;

        let command = Command::identify(what, self.data.dma_address());
        let completion = self.execute(command, interrupted)?;
        if !completion.status.is_ok() {
            return Ok(Err(completion.status));
        }
        // PANIC: Both are of `IDENTIFY_BYTES`.
        (&self.data).copy_to_slice(&mut out);
        Ok(Ok(out))
    }
}
