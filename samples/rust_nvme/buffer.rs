// SPDX-License-Identifier: GPL-2.0

//! Registered buffers, dma-bufs and memory of programs: mapped once, read and written many times.
//!
//! The DMA ranges of a buffer are copied out of its mapping when it is registered: [`BufferMap`].
//!
//! Each command is one of the buffer's [`Users`] from looking the buffer up to its end. The mapping
//! ends only after the users were drained, which waits for those commands: when the exporter
//! revokes the buffer ([`Revoke`]), when it is taken out of its file's table, and when the driver
//! is unbound. None of these waits for ever: a command completes, or times out, and then the
//! controller is reset.

use super::{
    layout,
    map::BufferMap,
    uapi, //
};
use core::ptr;
use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
    uaccess::UserPtr, //
};
use phyr::{
    memory::UserPages,
    DataDirection,
    DmaVec,
    DmaVecs, //
};
use phyr_blk::HandleTable;
use phyr_dma_buf::{
    Attachment,
    DmaBuf,
    Invalidate, //
};
use phyr_driver::{
    binding::Binding,
    registered::RegisteredMemory,
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

/// The users of a buffer, who are waited for before its mapping ends.
struct Stop {
    users: Arc<Users>,
    binding: Arc<Binding>,
    /// The buffers of the file. It empties the table when it is closed, which breaks the cycle of
    /// references.
    buffers: Arc<HandleTable<Buffer>>,
}

impl Stop {
    /// Returns the stop of a new buffer, which has no users.
    ///
    /// # Errors
    ///
    /// [`ENOMEM`]: memory is short.
    fn new(binding: &Arc<Binding>, buffers: &Arc<HandleTable<Buffer>>) -> Result<Self> {
        Ok(Self {
            users: Arc::pin_init(Users::new(), GFP_KERNEL_ACCOUNT)?,
            binding: binding.clone(),
            buffers: buffers.clone(),
        })
    }

    /// Waits for the users; there are no new ones. Others that are to be drained next share the
    /// grace period: all if the driver is being unbound, else those that are `related`.
    fn drain(&self, related: impl Fn(&Backing) -> bool) {
        if !self.users.is_dying() {
            let all = self.binding.is_over();
            self.buffers.kill(|other| all || related(&other.backing));
        }
        self.users.drain();
    }
}

/// Callback of the exporter when the mapping is to end.
pub(crate) struct Revoke {
    stop: Stop,
    buf: ARef<DmaBuf>,
}

impl Invalidate for Revoke {
    fn invalidate(&self) {
        // Even if the exporter only moves the buffer: it is not mapped again. Its other
        // registrations end as well.
        self.stop.drain(|other| other.is(&self.buf));
    }
}

/// The memory of a buffer, and its mapping.
enum Backing {
    DmaBuf(Attachment<Revoke>),
    User(#[expect(dead_code, reason = "Dropped with the buffer")] RegisteredMemory),
}

impl Backing {
    /// Returns whether it is `buf`.
    fn is(&self, buf: &DmaBuf) -> bool {
        match self {
            Self::DmaBuf(attachment) => ptr::eq(attachment.dma_buf(), buf),
            Self::User(_) => false,
        }
    }
}

/// A buffer that commands can use.
pub(crate) struct Buffer {
    map: BufferMap,
    access: BufferAccess,
    /// Dropped when the buffer has no users any more.
    backing: Backing,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Backing::DmaBuf(attachment) = &self.backing {
            // Nobody revokes it: other registrations of the same memory stay.
            attachment.unmap();
        }
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
        let stop = Stop::new(binding, buffers)?;
        let users = stop.users.clone();
        let revoke = Revoke {
            stop,
            buf: buf.clone(),
        };
        let revoke = Arc::new(revoke, GFP_KERNEL_ACCOUNT)?;
        // Memory of another device will do: only the controller accesses it.
        let attachment = binding.with(|dev| Attachment::dynamic(dev, buf, true, revoke))?;
        attachment.map(access.direction())?;
        let mut map = MapBuilder::new();
        let read = attachment.dma_vecs(|vec| map.push(vec));
        // Unmaps where one of the next fails.
        let mut buffer = Self {
            map: BufferMap::default(),
            access,
            backing: Backing::DmaBuf(attachment),
        };
        // It was revoked meanwhile.
        read.map_err(|e| if e == ENXIO { ENODEV } else { e })?;
        buffer.map = map.build(needs_pages)?;
        Ok((users, buffer))
    }

    /// Pins `len` bytes of the calling process from `addr` on, and maps them for the controller.
    /// Returns them with the count of their users.
    ///
    /// Context: sleeps until a signal comes.
    ///
    /// # Errors
    ///
    /// Those of `RNVME_IOC_REGISTER_MEMORY`; see `rust_nvme.h`.
    pub(crate) fn pin(
        binding: &Arc<Binding>,
        buffers: &Arc<HandleTable<Self>>,
        addr: UserPtr,
        len: usize,
        access: BufferAccess,
        needs_pages: bool,
    ) -> Result<(Arc<Users>, Self)> {
        let stop = Stop::new(binding, buffers)?;
        let users = stop.users.clone();
        let dir = access.direction();
        let memory = UserPages::pin(addr, len, dir)?;
        let stop = move || stop.drain(|_| false);
        let see = |dma_vecs: DmaVecs<'_>| {
            let mut map = MapBuilder::new();
            dma_vecs.for_each(|vec| map.push(vec));
            map.build(needs_pages)
        };
        let limits = layout::limits()?;
        let (registered, map) = binding.with(|dev| {
            RegisteredMemory::new(dev, limits, memory, dir, GFP_KERNEL_ACCOUNT, stop, see)
        })?;
        let buffer = Self {
            map,
            access,
            backing: Backing::User(registered),
        };
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

/// A [`BufferMap`] in the making, which remembers the first error.
struct MapBuilder(Result<BufferMap>);

impl MapBuilder {
    fn new() -> Self {
        Self(Ok(BufferMap::default()))
    }

    /// Appends a range.
    fn push(&mut self, vec: DmaVec) {
        if let Ok(map) = &mut self.0 {
            if let Err(e) = map.push(vec) {
                self.0 = Err(e);
            }
        }
    }

    /// Returns the map.
    ///
    /// # Errors
    ///
    /// - [`EOPNOTSUPP`]: the controller cannot take such a buffer.
    /// - Those of [`BufferMap::push`].
    fn build(self, needs_pages: bool) -> Result<BufferMap> {
        let map = self.0?;
        if !map.is_aligned() || needs_pages && !map.is_paged() {
            return Err(EOPNOTSUPP);
        }
        Ok(map)
    }
}
