// SPDX-License-Identifier: GPL-2.0

//! A dma-buf heap that scatters its buffers on purpose.
//!
//! `/dev/dma_heap/rust_dma_buf` looks like the kernel's own heaps: a program that allocates from
//! `/dev/dma_heap/system` can allocate from it. By default its buffers are single pages of which no
//! two neighbours adjoin in physical memory: the worst case for importers. Commands of its own
//! change that, revoke a buffer, and describe it.
//!
//! The entry point is [`OpenHeap::ioctl`](MiscDevice::ioctl):
//!
//! ```text
//!  DMA_HEAP_IOCTL_ALLOC  alloc     Chunks -> pattern -> export() -> file descriptor
//!  SET_PATTERN           pattern   the order of chunks in later allocations
//!  REVOKE, INFO          control   a buffer's file descriptor -> Exported<Buffer>
//! ```
//!
//! `rust_dma_buf.h` documents the commands for programs in C:
//!
//! ```c
//! struct dma_heap_allocation_data data = { .len = 1 << 20, .fd_flags = O_RDWR | O_CLOEXEC };
//! int heap = open(RUST_DMA_BUF_DEVICE, O_RDWR);
//!
//! ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data);
//! p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, data.fd, 0);
//! ioctl(heap, RUST_DMA_BUF_IOCTL_REVOKE, &data.fd);
//! ```
//!
//! The memory is zeroed, and accounted to the memory cgroup of the process that allocates it. The
//! module cannot be unloaded while the device is open or a buffer is left.
//!
//! It is a misc device of the same name and commands, not one of `dma_heap_add()`: there is no
//! `dma_heap_remove()`, and this module can be unloaded.
//!
//! C: [`drivers/dma-buf/dma-heap.c`](srctree/drivers/dma-buf/dma-heap.c),
//! [`drivers/dma-buf/heaps/system_heap.c`](srctree/drivers/dma-buf/heaps/system_heap.c)

use kernel::{
    fs::File,
    ioctl::{
        _IOC_NR,
        _IOC_TYPE,
        _IOW,
        _IOWR, //
    },
    miscdevice::{
        MiscDevice,
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    new_mutex,
    prelude::*,
    sync::Mutex,
    uaccess::UserPtr, //
};
use phyr::memory::Chunks;
use phyr_dma_buf::{
    AttachmentRef,
    Exporter,
    MmapVmap, //
};

mod alloc;
mod control;
mod pattern;

use self::pattern::Pattern;

/// The type of a heap's commands: `DMA_HEAP_IOC_MAGIC`.
const MAGIC: u32 = b'H' as u32;
/// The number of `DMA_HEAP_IOCTL_ALLOC`, whose argument may have any size.
const ALLOC: u32 = 0;
const SET_PATTERN: u32 = _IOW::<[u8; 16]>(MAGIC, 0x80);
const REVOKE: u32 = _IOW::<i32>(MAGIC, 0x81);
const INFO: u32 = _IOWR::<[u8; 40]>(MAGIC, 0x82);

module! {
    type: Heap,
    name: "rust_dma_buf",
    authors: ["phyr developers"],
    description: "A dma-buf heap that scatters its buffers",
    license: "GPL",
}

#[pin_data]
struct Heap {
    #[pin]
    _device: MiscDeviceRegistration<OpenHeap>,
}

impl kernel::InPlaceModule for Heap {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        let options = MiscDeviceOptions {
            // devtmpfs makes a folder of the part before the mark.
            name: c"dma_heap!rust_dma_buf",
        };

        try_pin_init!(Self {
            _device <- MiscDeviceRegistration::register(options),
        })
    }
}

/// An open file of the heap.
#[pin_data]
struct OpenHeap {
    #[pin]
    pattern: Mutex<Pattern>,
}

#[vtable]
impl MiscDevice for OpenHeap {
    type Ptr = Pin<KBox<Self>>;

    fn open(_file: &File, _misc: &MiscDeviceRegistration<Self>) -> Result<Pin<KBox<Self>>> {
        KBox::pin_init(
            pin_init!(Self {
                pattern <- new_mutex!(Pattern::default()),
            }),
            GFP_KERNEL,
        )
    }

    fn ioctl(me: Pin<&Self>, _file: &File, cmd: u32, arg: usize) -> Result<isize> {
        let arg = UserPtr::from_addr(arg);

        match cmd {
            SET_PATTERN => {
                let pattern = Pattern::read(arg)?;
                *me.pattern.lock() = pattern;
            }
            REVOKE => control::revoke(arg)?,
            INFO => control::info(arg)?,
            _ if _IOC_TYPE(cmd) != MAGIC => return Err(ENOTTY),
            _ if _IOC_NR(cmd) == ALLOC => {
                let pattern = *me.pattern.lock();
                alloc::allocate(pattern, cmd, arg)?;
            }
            // As the kernel's heaps do; other drivers return ENOTTY.
            _ => return Err(EINVAL),
        }
        Ok(0)
    }
}

/// A buffer's exporter.
struct Buffer {
    /// Number of chunks that were allocated.
    chunks: usize,
    /// Number of physically contiguous pieces that the chunks are.
    runs: usize,
    /// Importers that cannot be told of a revocation are refused.
    is_revocable: bool,
}

impl Exporter for Buffer {
    type Module = LocalModule;
    type Memory = Chunks;
    type CpuMapping = MmapVmap;

    fn attach(&self, attachment: &AttachmentRef<'_>) -> Result {
        if self.is_revocable && !attachment.is_revocable() {
            dev_warn!(attachment.device(), "cannot be told to end a mapping\n");
            return Err(EOPNOTSUPP);
        }
        Ok(())
    }
}
