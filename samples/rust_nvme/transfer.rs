// SPDX-License-Identifier: GPL-2.0

//! Transfers between a namespace and a registered buffer: a command of user space, from when it is
//! a request of the block layer.

use super::{
    buffer::Buffer,
    cmd::{
        Blocks,
        Command, //
    },
    desc::DataPointer,
    map::{
        BufferSpan,
        DataRanges, //
    },
    user_command::{
        UserCommand,
        UserOp, //
    },
};
use kernel::prelude::*;
use phyr_blk::{
    uring::CommandResult,
    HandleGuard,
    Status, //
};

/// A command of user space with its buffer, which stays registered meanwhile.
pub(crate) struct Transfer {
    buffer: HandleGuard<Buffer>,
    span: BufferSpan,
    op: UserOp,
    blocks: Blocks,
}

impl Transfer {
    /// Returns the transfer of `command` with the part `span` of `buffer`.
    #[inline]
    pub(crate) fn new(buffer: HandleGuard<Buffer>, span: BufferSpan, command: UserCommand) -> Self {
        Self {
            buffer,
            span,
            op: command.op,
            blocks: command.blocks,
        }
    }

    /// Returns the first block of the namespace.
    pub(crate) fn first_block(&self) -> u64 {
        self.blocks.first
    }

    /// Returns the number of bytes.
    pub(crate) fn len(&self) -> u32 {
        self.span.len()
    }

    /// Returns whether it goes from the buffer to the namespace.
    pub(crate) fn is_write(&self) -> bool {
        self.op != UserOp::Read
    }

    /// Returns the part of the buffer.
    pub(crate) fn span(&self) -> BufferSpan {
        self.span
    }

    /// Returns the ranges of its data.
    pub(crate) fn ranges(&self) -> DataRanges<'_> {
        self.buffer.map().ranges(self.span)
    }

    /// Returns the command for the controller, with the data that `pointer` describes.
    #[inline]
    pub(crate) fn command(&self, nsid: u32, pointer: &DataPointer) -> Command {
        match self.op {
            UserOp::Read => Command::read(nsid, self.blocks, pointer),
            UserOp::Write { fua } => Command::write(nsid, self.blocks, pointer, fua),
        }
    }

    /// Ends the transfer: the controller is done with the buffer, which is released with it, so
    /// that it can be unregistered as soon as the command has completed.
    #[inline]
    pub(crate) fn end(self, status: Status) -> CommandResult {
        let len = self.span.len();
        Result::from(status).map(|()| len).into()
    }
}
