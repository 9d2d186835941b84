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
//! A request is allocated before the buffer is looked up, so that the end of a buffer's mapping
//! does not wait for commands that cannot even have a request. It waits for those with a request,
//! which may still wait in the queue for a driver tag (with an I/O scheduler it is allocated at
//! dispatch) or for a reset.

use super::{
    admin_dev::Controller,
    buffer::{
        Buffer,
        BufferAccess, //
    },
    layout::Layout,
    map::BufferSpan,
    namespace::Namespace,
    nvme_ioctl,
    passthru::{
        Form,
        Target, //
    },
    payload::Payload,
    request::NvmeBlk,
    transfer::Transfer,
    uapi,
    user_command::{
        UserCommand,
        UserOp, //
    },
    user_copy, //
};
use kernel::{
    prelude::*,
    sync::Arc,
    uaccess::UserPtr, //
};
use phyr::DataDirection;
use phyr_blk::{
    uring::{
        UringCmd, //
        UringResult,
    },
    CharFile,
    FileMode,
    HandleGuard,
    HandleTable,
    LookupError,
    PassthroughRequest, //
    RequestQueue,
};
use phyr_dma_buf::DmaBuf;
use phyr_driver::binding::Binding;

/// The character device of a namespace; its open files share it.
pub(crate) struct Generic {
    pub(crate) queue: RequestQueue<NvmeBlk>,
    pub(crate) namespace: Namespace,
    pub(crate) layout: Layout,
    pub(crate) binding: Arc<Binding>,
    pub(crate) controller: Arc<Controller>,
}

impl Generic {
    /// Returns the most ranges of a command on a buffer, which is of whole pages or not.
    fn max_ranges(&self, is_paged: bool) -> u32 {
        let layout = &self.layout;
        layout.format.max_ranges(is_paged, layout.max_segments)
    }
}

/// An open file.
pub(crate) struct OpenFile {
    generic: Arc<Generic>,
    mode: FileMode,
    buffers: Arc<HandleTable<Buffer>>,
}

impl OpenFile {
    /// Checks that the driver is bound.
    ///
    /// # Errors
    ///
    /// [`ENODEV`]: the controller was unbound.
    fn check_bound(&self) -> Result {
        if self.generic.binding.is_over() {
            return Err(ENODEV);
        }
        Ok(())
    }

    /// Registers a dma-buf: `RNVME_IOC_REGISTER`.
    fn register(&self, arg: UserPtr) -> Result {
        self.check_bound()?;
        let mut args: uapi::Register = user_copy::read(arg)?;
        let access = BufferAccess::from_flags(args.flags)?;
        if args.reserved != 0 {
            return Err(EINVAL);
        }
        let buf = DmaBuf::get(args.fd)?;
        let generic = &self.generic;
        let needs_pages = generic.layout.format.needs_pages();
        let (users, buffer) =
            Buffer::new(&generic.binding, &self.buffers, buf, access, needs_pages)?;
        args.handle = self.buffers.insert(users, buffer)?;
        user_copy::write(arg, &args).inspect_err(|_| {
            self.buffers.remove(args.handle);
        })
    }

    /// Registers memory of the calling process: `RNVME_IOC_REGISTER_MEMORY`.
    fn register_memory(&self, arg: UserPtr) -> Result {
        self.check_bound()?;
        let mut args: uapi::RegisterMemory = user_copy::read(arg)?;
        let access = BufferAccess::from_flags(args.flags)?;
        // No descriptor could tell the controller.
        if (args.addr | args.len) % 4 != 0 {
            return Err(EINVAL);
        }
        let addr = usize::try_from(args.addr).map_err(|_| EFAULT)?;
        let len = usize::try_from(args.len).map_err(|_| EFAULT)?;
        let generic = &self.generic;
        let needs_pages = generic.layout.format.needs_pages();
        let (users, buffer) = Buffer::pin(
            &generic.binding,
            &self.buffers,
            UserPtr::from_addr(addr),
            len,
            access,
            needs_pages,
        )?;
        args.handle = self.buffers.insert(users, buffer)?;
        user_copy::write(arg, &args).inspect_err(|_| {
            self.buffers.remove(args.handle);
        })
    }

    /// Unregisters a buffer: `RNVME_IOC_UNREGISTER`. Works after the controller was unbound, too:
    /// the handle and the buffer are still the file's.
    fn unregister(&self, arg: UserPtr) -> Result {
        let args: uapi::Unregister = user_copy::read(arg)?;
        if args.reserved != 0 {
            return Err(EINVAL);
        }
        if !self.buffers.remove(args.handle) {
            return Err(ENOENT);
        }
        Ok(())
    }

    /// Describes the namespace and a buffer: `RNVME_IOC_INFO`.
    fn info(&self, arg: UserPtr) -> Result {
        self.check_bound()?;
        let uapi::Info {
            handle, reserved, ..
        } = user_copy::read(arg)?;
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
            // CAST: A `usize` fits in 64 bits.
            args.ranges = buffer.map().count() as u64;
            args.gap = buffer.map().gap().unwrap_or(0);
        }
        args.blocks = generic.namespace.blocks;
        args.block_size = 1 << generic.namespace.shift;
        // CAST: At most 4 MiB.
        args.max_bytes = generic.layout.max_transfer as u32;
        args.max_ranges = generic.max_ranges(false);
        user_copy::write(arg, &args)
    }

    /// Looks a buffer up, which stays registered until the result is dropped.
    ///
    /// # Errors
    ///
    /// - [`ENOENT`]: there is no such handle.
    /// - [`EOWNERDEAD`]: the buffer was revoked or moved.
    /// - [`ENODEV`]: the controller was unbound.
    fn buffer(&self, handle: u32) -> Result<HandleGuard<Buffer>> {
        self.buffers.get(handle).map_err(|missing| match missing {
            LookupError::NotFound => ENOENT,
            // The binding ends before buffers are closed because of it.
            LookupError::Killed if self.generic.binding.is_over() => ENODEV,
            LookupError::Killed => EOWNERDEAD,
        })
    }

    /// Reads the command, and checks it as far as possible without its buffer.
    fn command(&self, issued: &UringCmd<'_>) -> Result<UserCommand> {
        let op = issued.op();
        if !UserCommand::is_command(op) {
            return Err(ENOTTY);
        }
        if issued.is_fixed() {
            return Err(EINVAL);
        }
        let generic = &self.generic;
        let cmd = issued.command()?;
        UserCommand::new(op, &cmd, self.mode, &generic.namespace, &generic.layout)
    }

    /// Returns the namespace as a target of pass-through.
    fn target(&self) -> Target<'_, NvmeBlk> {
        let generic = &*self.generic;
        Target {
            queue: &generic.queue,
            namespace: Some(&generic.namespace),
            effects: &generic.controller.effects,
            may_write: self.mode.write,
        }
    }

    /// Does everything that can fail before a command is sent.
    fn prepare(&self, issued: &UringCmd<'_>) -> Result<Prepared> {
        let command = self.command(issued)?;
        let direction = match command.op {
            UserOp::Read => DataDirection::FromDevice,
            UserOp::Write { .. } => DataDirection::ToDevice,
        };
        let request = self.generic.queue.alloc(direction, issued.may_wait())?;

        let buffer = self.buffer(command.handle)?;
        let access = buffer.access();
        let is_allowed = match command.op {
            UserOp::Read => access.write,
            UserOp::Write { .. } => access.read,
        };
        if !is_allowed {
            return Err(EACCES);
        }
        let span = buffer.map().span(command.offset, command.len)?;
        if span.count() > self.generic.max_ranges(buffer.map().is_paged()) {
            return Err(E2BIG);
        }
        Ok(Prepared {
            request,
            buffer,
            span,
            command,
        })
    }
}

/// A command that can be sent.
struct Prepared {
    request: PassthroughRequest<NvmeBlk>,
    buffer: HandleGuard<Buffer>,
    span: BufferSpan,
    command: UserCommand,
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        // The buffers refer to the table: this breaks the cycle.
        self.buffers.clear();
    }
}

impl CharFile for OpenFile {
    type Module = super::DriverModule;
    type Device = Generic;

    const FIXED_BUFFERS: bool = true;

    fn open(generic: &Arc<Generic>, mode: FileMode) -> Result<Self> {
        Ok(Self {
            generic: generic.clone(),
            mode,
            buffers: Arc::pin_init(HandleTable::new(), GFP_KERNEL_ACCOUNT)?,
        })
    }

    fn ioctl(&self, op: u32, arg: UserPtr) -> Result<u32> {
        match op {
            uapi::IOC_REGISTER => self.register(arg)?,
            uapi::IOC_REGISTER_MEMORY => self.register_memory(arg)?,
            uapi::IOC_UNREGISTER => self.unregister(arg)?,
            uapi::IOC_INFO => self.info(arg)?,
            nvme_ioctl::ID => return Ok(self.generic.namespace.id),
            nvme_ioctl::SUBMIT_IO | nvme_ioctl::SUBMIT_IO32 => return self.target().submit_io(arg),
            nvme_ioctl::IO_CMD => return self.target().command(arg),
            nvme_ioctl::IO64_CMD => return self.target().command64(arg, Form::Range),
            nvme_ioctl::IO64_CMD_VEC => return self.target().command64(arg, Form::Vector),
            _ => return self.generic.controller.ioctl(op, arg),
        }
        Ok(0)
    }

    fn uring_cmd<'a>(&self, issued: UringCmd<'a>) -> UringResult<'a> {
        match issued.op() {
            nvme_ioctl::URING_CMD_IO => return self.target().uring_cmd(issued, Form::Range),
            nvme_ioctl::URING_CMD_IO_VEC => return self.target().uring_cmd(issued, Form::Vector),
            _ => {}
        }
        match self.prepare(&issued) {
            Ok(Prepared {
                request,
                buffer,
                span,
                command,
            }) => {
                let transfer = Transfer::new(buffer, span, command);
                request.execute_command(issued, None, Payload::Transfer(transfer))
            }
            Err(e) => issued.done(Err(e)),
        }
    }
}
