// SPDX-License-Identifier: GPL-2.0

//! The character device of a controller: admin commands of user space.
//!
//! C: `/dev/nvme0`, `nvme_dev_ioctl()` and `nvme_dev_uring_cmd()` in
//! [`drivers/nvme/host/ioctl.c`](srctree/drivers/nvme/host/ioctl.c)

use super::{
    admin_queue::NvmeAdmin,
    effects::Effects,
    nvme_ioctl,
    passthru::{
        Form,
        Target, //
    }, //
};
use kernel::{
    prelude::*,
    sync::Arc,
    uaccess::UserPtr, //
};
use phyr_blk::{
    uring::{
        UringCmd,
        UringResult, //
    },
    CharFile,
    FileMode,
    RequestQueue, //
};

/// A controller, for all of its character devices.
pub(crate) struct Controller {
    pub(crate) queue: RequestQueue<NvmeAdmin>,
    pub(crate) effects: Effects,
}

impl Controller {
    /// Returns the admin queue as a target of pass-through.
    fn target(&self) -> Target<'_, NvmeAdmin> {
        Target {
            queue: &self.queue,
            namespace: None,
            effects: &self.effects,
            may_write: true,
        }
    }

    /// Performs an ioctl of the controller's.
    ///
    /// # Errors
    ///
    /// [`ENOTTY`]: it is none of these. And those of [`Target::command`].
    pub(crate) fn ioctl(&self, op: u32, arg: UserPtr) -> Result<u32> {
        match op {
            nvme_ioctl::ADMIN_CMD => self.target().command(arg),
            nvme_ioctl::ADMIN64_CMD => self.target().command64(arg, Form::Range),
            _ => Err(ENOTTY),
        }
    }
}

/// An open file.
pub(crate) struct AdminFile(Arc<Controller>);

impl CharFile for AdminFile {
    type Module = super::DriverModule;
    type Device = Controller;

    const FIXED_BUFFERS: bool = true;

    fn open(controller: &Arc<Controller>, _mode: FileMode) -> Result<Self> {
        Ok(Self(controller.clone()))
    }

    fn ioctl(&self, op: u32, arg: UserPtr) -> Result<u32> {
        self.0.ioctl(op, arg)
    }

    fn uring_cmd<'a>(&self, issued: UringCmd<'a>) -> UringResult<'a> {
        match issued.op() {
            nvme_ioctl::URING_CMD_ADMIN => self.0.target().uring_cmd(issued, Form::Range),
            nvme_ioctl::URING_CMD_ADMIN_VEC => self.0.target().uring_cmd(issued, Form::Vector),
            _ => issued.done(Err(ENOTTY)),
        }
    }
}
