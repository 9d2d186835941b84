// SPDX-License-Identifier: GPL-2.0

//! The character device of a namespace: I/O straight into and out of dma-bufs.
//!
//! C: the generic character devices `/dev/ng0n1`,
//! [`drivers/nvme/host/ioctl.c`](srctree/drivers/nvme/host/ioctl.c)
//!
//! ```text
//! ioctl       dma-buf -> Buffer, in the table of the open file
//!
//! uring_cmd   check ---> alloc() ---> look up, check ---> execute()
//!             the entry  a request    the Buffer          |
//!                                                         v
//!                          the I/O path of all requests (io)
//!                                                         |
//!             complete() <---- end(): leave the Buffer <--'
//! ```
//!
//! A request is allocated before the buffer is looked up, so that one who waits for the buffer's
//! users does not wait for those who cannot even have a request. What it waits for is the
//! controller, and its queue: a request with the buffer in it may still wait there for a driver tag
//! (with an I/O scheduler that is taken at dispatch) or for a reset.

use super::{
    buffer::{
        Access,
        Buffer, //
    },
    cmd::Command,
    desc::Pointer,
    identify::Namespace,
    io::Nvme,
    layout::{
        Format,
        Layout, //
    },
    map::{
        Ranges,
        Span, //
    },
    plan::{
        Plan,
        Way, //
    },
    uapi, //
};
use kernel::{
    prelude::*,
    sync::Arc,
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};
use phyr::DataDirection;
use phyr_blk::{
    uring::{
        Answer,
        Issued,
        Pending, //
    },
    CharFile,
    Handles,
    Missing,
    Mode,
    Pass,
    Passthrough,
    Queue,
    Status,
    Unsent, //
};
use phyr_dma_buf::DmaBuf;
use phyr_driver::binding::Binding;
use zerocopy::Immutable;

/// What all open files of a namespace share.
pub(crate) struct Generic {
    pub(crate) queue: Queue<Nvme>,
    pub(crate) namespace: Namespace,
    pub(crate) layout: Layout,
    pub(crate) binding: Arc<Binding>,
}

impl Generic {
    /// How many ranges a command may have in a buffer of which PRPs can describe any part, or not.
    fn max_ranges(&self, is_paged: bool) -> u32 {
        match self.layout.format {
            Format::Prp | Format::Either if is_paged => u32::MAX,
            _ => self.layout.max_segments.into(),
        }
    }
}

/// An open file.
pub(crate) struct OpenFile {
    generic: Arc<Generic>,
    mode: Mode,
    buffers: Arc<Handles<Buffer>>,
}

impl OpenFile {
    /// # Errors
    ///
    /// [`ENODEV`]: the controller was unbound.
    fn check_bound(&self) -> Result {
        if self.generic.binding.is_over() {
            return Err(ENODEV);
        }
        Ok(())
    }

    fn register(&self, arg: UserPtr) -> Result {
        self.check_bound()?;
        let mut args: uapi::Register = read(arg)?;
        let access = Access::from_flags(args.flags)?;
        if args.reserved != 0 {
            return Err(EINVAL);
        }
        let buf = DmaBuf::get(args.fd)?;
        let generic = &self.generic;
        let needs_pages = generic.layout.format == Format::Prp;
        let (gate, buffer) =
            Buffer::new(&generic.binding, &self.buffers, buf, access, needs_pages)?;
        args.handle = self.buffers.insert(gate, buffer)?;
        write(arg, &args).inspect_err(|_| {
            self.buffers.remove(args.handle);
        })
    }

    /// Also when the controller was unbound: the number, and the buffer, are still the file's.
    fn unregister(&self, arg: UserPtr) -> Result {
        let args: uapi::Unregister = read(arg)?;
        if args.reserved != 0 {
            return Err(EINVAL);
        }
        if !self.buffers.remove(args.handle) {
            return Err(ENOENT);
        }
        Ok(())
    }

    fn info(&self, arg: UserPtr) -> Result {
        self.check_bound()?;
        let uapi::Info {
            handle, reserved, ..
        } = read(arg)?;
        if reserved != 0 {
            return Err(EINVAL);
        }
        let generic = &self.generic;
        let mut args = uapi::Info {
            handle,
            ..uapi::Info::default()
        };
        if handle != 0 {
            let buffer = self.buffer(handle)?;
            args.flags = buffer.access().flags();
            args.bytes = buffer.map().len();
            // CAST: It counts what is in memory.
            args.ranges = buffer.map().count() as u64;
            args.gap = buffer.map().gap().unwrap_or(0);
        }
        args.blocks = generic.namespace.blocks;
        args.block_size = 1 << generic.namespace.shift;
        // CAST: At most 4 MiB.
        args.max_bytes = generic.layout.max_transfer as u32;
        args.max_ranges = generic.max_ranges(false);
        write(arg, &args)
    }

    /// # Errors
    ///
    /// - [`ENOENT`]: there is no such handle.
    /// - [`EOWNERDEAD`]: the buffer was revoked or moved.
    /// - [`ENODEV`]: the controller was unbound.
    fn buffer(&self, handle: u32) -> Result<Pass<Buffer>> {
        self.buffers.get(handle).map_err(|missing| match missing {
            Missing::Unknown => ENOENT,
            // It was closed before, if that is why.
            Missing::Closed if self.generic.binding.is_over() => ENODEV,
            Missing::Closed => EOWNERDEAD,
        })
    }

    /// Reads the command, and checks it as far as that goes without its buffer.
    fn plan(&self, issued: &Issued<'_>) -> Result<Plan> {
        let op = issued.op();
        if !Plan::is_command(op) {
            return Err(ENOTTY);
        }
        let generic = &self.generic;
        let cmd = issued.command()?;
        Plan::new(op, &cmd, self.mode, &generic.namespace, &generic.layout)
    }

    /// Everything that can fail.
    fn prepare(&self, issued: &Issued<'_>) -> Result<(Unsent<Nvme>, Draft)> {
        let plan = self.plan(issued)?;
        let direction = match plan.way {
            Way::Read => DataDirection::FromDevice,
            Way::Write { .. } => DataDirection::ToDevice,
        };
        let request = self.generic.queue.alloc(direction, issued.may_wait())?;

        let buffer = self.buffer(plan.handle)?;
        let access = buffer.access();
        let may = match plan.way {
            Way::Read => access.write,
            Way::Write { .. } => access.read,
        };
        if !may {
            return Err(EACCES);
        }
        let span = buffer.map().span(plan.offset, plan.len)?;
        if span.count() > self.generic.max_ranges(buffer.map().is_paged()) {
            return Err(E2BIG);
        }
        let draft = Draft { buffer, span, plan };
        Ok((request, draft))
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        // The buffers know the table, too.
        self.buffers.clear();
    }
}

impl CharFile for OpenFile {
    type Module = super::DriverModule;
    type Device = Generic;

    fn open(generic: &Arc<Generic>, mode: Mode) -> Result<Self> {
        Ok(Self {
            generic: generic.clone(),
            mode,
            buffers: Arc::pin_init(Handles::new(), GFP_KERNEL_ACCOUNT)?,
        })
    }

    fn ioctl(&self, op: u32, arg: UserPtr) -> Result {
        match op {
            uapi::IOC_REGISTER => self.register(arg),
            uapi::IOC_UNREGISTER => self.unregister(arg),
            uapi::IOC_INFO => self.info(arg),
            _ => Err(ENOTTY),
        }
    }

    fn uring_cmd<'a>(&self, issued: Issued<'a>) -> Answer<'a> {
        match self.prepare(&issued) {
            Ok((request, draft)) => {
                let (pending, answer) = issued.pend();
                request.execute(Transfer { draft, pending });
                answer
            }
            Err(e) => issued.done(Err(e)),
        }
    }
}

/// A transfer that can be described.
struct Draft {
    buffer: Pass<Buffer>,
    span: Span,
    plan: Plan,
}

/// What the request of a command carries.
pub(crate) struct Transfer {
    draft: Draft,
    pending: Pending,
}

impl Transfer {
    /// Returns the first block of the namespace.
    pub(crate) fn first_block(&self) -> u64 {
        self.draft.plan.blocks.first
    }

    /// Returns the number of bytes.
    pub(crate) fn len(&self) -> u32 {
        self.draft.plan.len
    }

    /// Returns whether it goes from the buffer to the namespace.
    pub(crate) fn is_write(&self) -> bool {
        self.draft.plan.way != Way::Read
    }

    /// Has `describe` describe its data, by the buffer's ranges, and returns the command.
    ///
    /// # Errors
    ///
    /// What `describe` fails with.
    pub(crate) fn command<'a, E>(
        &'a self,
        nsid: u32,
        describe: impl FnOnce(Ranges<'a>, Span) -> Result<Pointer, E>,
    ) -> Result<Command, E> {
        let Draft {
            ref buffer,
            span,
            plan,
        } = self.draft;
        let pointer = describe(buffer.map().ranges(span), span)?;
        Ok(match plan.way {
            Way::Read => Command::read(nsid, plan.blocks, &pointer),
            Way::Write { fua } => Command::write(nsid, plan.blocks, &pointer, fua),
        })
    }
}

impl Passthrough for Transfer {
    fn end(self, status: Status) {
        let len = self.draft.span.len();
        // The controller is done with the buffer. Whoever learns that from the command can count on
        // it.
        drop(self.draft);
        self.pending.complete(Result::from(status).map(|()| len));
    }
}

/// More bytes than the largest structure has.
const MAX: usize = 64;

/// Reads a structure of user space.
///
/// # Errors
///
/// [`EFAULT`]: it is not there.
fn read<T: FromBytes>(from: UserPtr) -> Result<T> {
    const { assert!(size_of::<T>() <= MAX) };
    let mut bytes = [0; MAX];
    // PANIC: Just checked.
    let bytes = &mut bytes[..size_of::<T>()];
    UserSlice::new(from, bytes.len())
        .reader()
        .read_slice(bytes)?;
    T::read_from_bytes(bytes).map_err(|_| EINVAL)
}

/// Writes a structure of user space.
///
/// # Errors
///
/// [`EFAULT`]: it is not there.
fn write<T: IntoBytes + Immutable>(to: UserPtr, value: &T) -> Result {
    let bytes = value.as_bytes();
    UserSlice::new(to, bytes.len()).writer().write_slice(bytes)
}
