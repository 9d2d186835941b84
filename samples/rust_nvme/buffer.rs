// SPDX-License-Identifier: GPL-2.0

//! Registered dma-bufs: mapped once, read and written many times.
//!
//! The DMA ranges of a buffer are copied out of the attachment when it is registered:
//! [`BufferMap`].
//!
//! Each command is one of the buffer's [`Users`] from looking the buffer up to its end. The mapping
//! ends only after the users were drained, which waits for those commands: when the exporter
//! revokes the buffer ([`Revoke`]), when it is taken out of its file's table, and when the driver
//! is unbound. None of these waits for ever: a command completes, or times out, and then the
//! controller is reset.

use super::{
    map::BufferMap,
    uapi, //
};
use core::ptr;
use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    }, //
};
use phyr::DataDirection;
use phyr_blk::HandleTable;
use phyr_dma_buf::{
    Attachment,
    DmaBuf,
    Invalidate, //
};
use phyr_driver::{
    binding::Binding,
    users::Users, //
};

/// Rights of the controller to a buffer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct BufferAccess {
    /// Read it: commands that write to the namespace.
    pub(crate) read: bool,
    /// Write it: commands that read from the namespace.
    pub(crate) write: bool,
}

impl BufferAccess {
    /// Returns the rights that `RNVME_BUF_*` flags stand for.
    ///
    /// # Errors
    ///
    /// [`EINVAL`]: there is an unknown flag, or none.
    pub(crate) fn from_flags(flags: u32) -> Result<Self> {
        if flags == 0 || flags & !(uapi::BUF_READ | uapi::BUF_WRITE) != 0 {
            return Err(EINVAL);
        }
        Ok(Self {
            read: flags & uapi::BUF_READ != 0,
            write: flags & uapi::BUF_WRITE != 0,
        })
    }

    /// Returns the `RNVME_BUF_*` flags.
    pub(crate) fn flags(self) -> u32 {
        let mut flags = 0;
        if self.read {
            flags |= uapi::BUF_READ;
        }
        if self.write {
            flags |= uapi::BUF_WRITE;
        }
        flags
    }

    fn direction(self) -> DataDirection {
        match (self.read, self.write) {
            (true, true) => DataDirection::Bidirectional,
            (false, true) => DataDirection::FromDevice,
            _ => DataDirection::ToDevice,
        }
    }
}

/// Callback of the exporter when the mapping is to end.
pub(crate) struct Revoke {
    users: Arc<Users>,
    binding: Arc<Binding>,
    /// The buffers of the file. It empties the table when it is closed, which breaks the cycle of
    /// references.
    buffers: Arc<HandleTable<Buffer>>,
    buf: ARef<DmaBuf>,
}

impl Invalidate for Revoke {
    fn invalidate(&self) {
        // Draining takes a grace period. Others that are to be drained next share it: all if the
        // driver is being unbound, else all registrations of this buffer.
        if !self.users.is_dying() {
            let all = self.binding.is_over();
            self.buffers
                .kill(|other| all || ptr::eq(other.attachment.dma_buf(), &*self.buf));
        }
        // Even if the exporter only moves the buffer: it is not mapped again.
        self.users.drain();
    }
}

/// A buffer that commands can use.
pub(crate) struct Buffer {
    map: BufferMap,
    access: BufferAccess,
    /// Dropped when the buffer has no users any more.
    attachment: Attachment<Revoke>,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // Nobody revokes it: other registrations of the same memory stay.
        self.attachment.unmap();
    }
}

impl Buffer {
    /// Maps `buf` for the controller. Returns it with the count of its users.
    ///
    /// Context: sleeps.
    ///
    /// # Errors
    ///
    /// Those of `RNVME_IOC_REGISTER`; see `rust_nvme.h`.
    pub(crate) fn new(
        binding: &Arc<Binding>,
        buffers: &Arc<HandleTable<Self>>,
        buf: ARef<DmaBuf>,
        access: BufferAccess,
        needs_pages: bool,
    ) -> Result<(Arc<Users>, Self)> {
        let users = Arc::pin_init(Users::new(), GFP_KERNEL_ACCOUNT)?;
        let revoke = Revoke {
            users: users.clone(),
            binding: binding.clone(),
            buffers: buffers.clone(),
            buf: buf.clone(),
        };
        let revoke = Arc::new(revoke, GFP_KERNEL_ACCOUNT)?;
        // Memory of another device will do: only the controller accesses it.
        let attachment = binding.with(|dev| Attachment::dynamic(dev, buf, true, revoke))?;
        attachment.map(access.direction())?;
        let mut buffer = Self {
            map: BufferMap::default(),
            access,
            attachment,
        };

        let mut map = Ok(BufferMap::default());
        buffer
            .attachment
            .dma_vecs(|vec| {
                if let Ok(so_far) = &mut map {
                    if let Err(e) = so_far.push(vec) {
                        map = Err(e);
                    }
                }
            })
            // It was revoked meanwhile.
            .map_err(|e| if e == ENXIO { ENODEV } else { e })?;
        let map = map?;
        if !map.is_aligned() || needs_pages && !map.is_paged() {
            return Err(EOPNOTSUPP);
        }
        buffer.map = map;
        Ok((users, buffer))
    }

    /// Returns the rights of the controller.
    pub(crate) fn access(&self) -> BufferAccess {
        self.access
    }

    /// Returns the DMA ranges.
    pub(crate) fn map(&self) -> &BufferMap {
        &self.map
    }
}
