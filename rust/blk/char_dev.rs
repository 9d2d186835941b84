// SPDX-License-Identifier: GPL-2.0

//! Character devices that take commands through io_uring.
//!
//! [`kernel::miscdevice`] has no such operation, and its devices have no data of their own: here
//! each has some, that all of its files share.
//!
//! A file can stay open when the device is gone, and then still holds what its driver gave it. That
//! has no lifetime of the driver's binding, so that it cannot get at the device but by what checks:
//! [`Queue`](super::Queue), [`Binding`](phyr_driver::binding::Binding).
//!
//! C header: [`include/linux/miscdevice.h`](srctree/include/linux/miscdevice.h)

use super::{
    bindings as own,
    uring::{
        refuse,
        Answer,
        Issued, //
    },
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::to_result,
    fmt,
    module::{
        this_module,
        ModuleMetadata, //
    },
    prelude::*,
    str::CString,
    sync::Arc,
    types::{
        ForeignOwnable,
        Opaque, //
    },
    uaccess::UserPtr, //
};
use phyr::fail::{
    self,
    Point, //
};
use phyr_driver::{
    bound::Guarded,
    scope::Scope, //
};

/// `FMODE_READ`; bindgen does not see through the cast in the macro.
const FMODE_READ: u32 = 1 << 0;
/// `FMODE_WRITE`
const FMODE_WRITE: u32 = 1 << 1;

/// What a file was opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
}

/// An open file of a character device.
///
/// C: `struct file_operations`.
///
/// # Examples
///
/// A file for whose commands the driver sends requests of its own:
///
/// ```
/// use kernel::{dma::DataDirection, prelude::*, sync::Arc, uaccess::UserPtr};
/// use phyr_blk::{
///     uring::{Answer, Issued, Pending},
///     CharFile, Mode, Operations, Passthrough, Queue, Status,
/// };
///
/// /// What a request carries: whom to tell of its end.
/// struct Ping(Pending);
///
/// impl Passthrough for Ping {
///     fn end(self, status: Status) {
///         self.0.complete(Result::from(status).map(|()| 0));
///     }
/// }
///
/// struct File<T: Operations>(Arc<Queue<T>>);
///
/// impl<T: Operations<Passthrough = Ping>> CharFile for File<T> {
///     type Module = T::Module;
///     type Device = Queue<T>;
///
///     fn open(queue: &Arc<Queue<T>>, _mode: Mode) -> Result<Self> {
///         Ok(Self(queue.clone()))
///     }
///
///     fn ioctl(&self, _op: u32, _arg: UserPtr) -> Result {
///         Err(ENOTTY)
///     }
///
///     fn uring_cmd<'a>(&self, cmd: Issued<'a>) -> Answer<'a> {
///         // All that can fail comes first.
///         match self.0.alloc(DataDirection::ToDevice, cmd.may_wait()) {
///             Ok(request) => {
///                 let (pending, answer) = cmd.pend();
///                 request.execute(Ping(pending));
///                 answer
///             }
///             Err(e) => cmd.done(Err(e)),
///         }
///     }
/// }
/// ```
pub trait CharFile: Send + Sync + Sized + 'static {
    /// The module with the driver's code. It cannot be unloaded while a file is open.
    type Module: ModuleMetadata;

    /// What all files of a device share.
    type Device: Send + Sync + 'static;

    /// Opens `device`. What this returns is dropped when the last reference to the file is: no
    /// command is pending then.
    ///
    /// Context: sleeps, with a lock that is held for any `open` of such a device.
    ///
    /// # Errors
    ///
    /// They fail the `open`.
    fn open(device: &Arc<Self::Device>, mode: Mode) -> Result<Self>;

    /// `ioctl` number `op`, on `arg`.
    ///
    /// Context: sleeps.
    ///
    /// # Errors
    ///
    /// They fail the `ioctl`. One for a number that is not known is `ENOTTY`.
    fn ioctl(&self, op: u32, arg: UserPtr) -> Result;

    /// A command of io_uring, which asks for nothing that [`uring`](super::uring) has not.
    ///
    /// Context: process context; sleeps only if it [may](Issued::may_wait).
    fn uring_cmd<'a>(&self, cmd: Issued<'a>) -> Answer<'a>;
}

/// The operations of the files of a device.
struct Fops<F>(PhantomData<F>);

impl<F: CharFile> Fops<F> {
    const TABLE: bindings::file_operations = bindings::file_operations {
        owner: this_module::<F::Module>().as_ptr(),
        open: Some(Self::open),
        release: Some(Self::release),
        unlocked_ioctl: Some(Self::ioctl),
        #[cfg(CONFIG_COMPAT)]
        compat_ioctl: bindings::compat_ptr_ioctl,
        uring_cmd: Some(Self::uring_cmd),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `file` is being opened, for a device that [`Registered`] has registered.
    unsafe extern "C" fn open(inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        let opened = fail::at(Point::generic_file_open).and_then(|()| {
            // SAFETY: by the safety requirements.
            to_result(unsafe { bindings::generic_file_open(inode, file) })
        });
        if let Err(e) = opened {
            return e.to_errno();
        }
        // SAFETY: `misc_open` made the private data point to the device, which is the field of a
        // `Registered`, and cannot be deregistered while it opens it.
        let registered = unsafe { &*(*file).private_data.cast::<Registered<F>>() };
        // SAFETY: a file that is being opened is valid.
        let mode = unsafe { (*file).f_mode };
        let mode = Mode {
            read: mode & FMODE_READ != 0,
            write: mode & FMODE_WRITE != 0,
        };
        match F::open(&registered.device, mode).and_then(|f| Ok(KBox::new(f, GFP_KERNEL_ACCOUNT)?))
        {
            Ok(content) => {
                // SAFETY: the private data of a file that is being opened is ours.
                unsafe { (*file).private_data = content.into_foreign() };
                0
            }
            Err(e) => e.to_errno(),
        }
    }

    /// # Safety
    ///
    /// `file` was opened by [`Self::open`], and nobody uses it any more.
    unsafe extern "C" fn release(_inode: *mut bindings::inode, file: *mut bindings::file) -> c_int {
        // SAFETY: by the safety requirements `open` made it of a box.
        drop(unsafe { KBox::<F>::from_foreign((*file).private_data) });
        0
    }

    /// # Safety
    ///
    /// `file` was opened by [`Self::open`], and stays open for `'f`.
    unsafe fn content<'f>(file: *const bindings::file) -> &'f F {
        // SAFETY: by the safety requirements `open` made it of a box.
        unsafe { KBox::<F>::borrow((*file).private_data) }
    }

    /// # Safety
    ///
    /// `file` was opened by [`Self::open`].
    unsafe extern "C" fn ioctl(file: *mut bindings::file, op: c_uint, arg: c_ulong) -> c_long {
        // SAFETY: by the safety requirements.
        match unsafe { Self::content(file) }.ioctl(op, UserPtr::from_addr(arg)) {
            Ok(()) => 0,
            // CAST: a `long` has no fewer bits.
            Err(e) => e.to_errno() as c_long,
        }
    }

    /// # Safety
    ///
    /// io_uring calls this to issue a command to a file that was opened by [`Self::open`].
    unsafe extern "C" fn uring_cmd(cmd: *mut bindings::io_uring_cmd, flags: c_uint) -> c_int {
        // CAST: the same bits; the highest is one of the flags.
        let flags = flags as i32;
        if flags & own::io_uring_cmd_flags_IO_URING_F_CANCEL != 0 {
            // Not issued: it is to be cancelled. None is marked as one that can be; it ends by
            // itself. Nobody looks at what is returned.
            return 0;
        }
        // SAFETY: io_uring issues the command by this call.
        let asks = unsafe { own::phyr_blk_helper_uring_cmd_flags(cmd) };
        if let Err(e) = refuse(asks, flags) {
            return e.to_errno();
        }
        // SAFETY: by the safety requirements. The command holds the file.
        let content = unsafe { Self::content(own::phyr_blk_helper_uring_cmd_file(cmd)) };
        // SAFETY: io_uring never passes null.
        let cmd = unsafe { NonNull::new_unchecked(cmd) };
        // SAFETY: these are the arguments of the call.
        let issued = unsafe { Issued::new(cmd, flags) };
        content.uring_cmd(issued).into_raw()
    }
}

/// A device that is there for the world.
///
/// # Invariants
///
/// `misc` is registered, with the operations of `F`, and is the first field.
#[repr(C)]
#[pin_data(PinnedDrop)]
struct Registered<F: CharFile> {
    #[pin]
    misc: Opaque<bindings::miscdevice>,
    name: CString,
    device: Arc<F::Device>,
}

// SAFETY: a registration belongs to no thread; the name is plain data, and the device is shared.
unsafe impl<F: CharFile> Send for Registered<F> {}

impl<F: CharFile> Registered<F> {
    fn new(
        parent: *mut bindings::device,
        name: CString,
        device: Arc<F::Device>,
    ) -> impl PinInit<Self, Error> {
        let misc = bindings::miscdevice {
            // CAST: a small constant.
            minor: bindings::MISC_DYNAMIC_MINOR as c_int,
            // The text stays where it is when its owner moves.
            name: name.as_char_ptr(),
            fops: &Fops::<F>::TABLE,
            parent,
            mode: 0o600,
            ..pin_init::zeroed()
        };
        try_pin_init!(Self {
            name,
            device,
            // The last one: it can be opened from here on.
            misc <- Opaque::try_ffi_init(move |slot: *mut bindings::miscdevice| {
                fail::at(Point::misc_register)?;
                // SAFETY: the memory is there, and does not move any more.
                unsafe { slot.write(misc) };
                // INVARIANT: it is registered if this succeeds.
                //
                // SAFETY: it was filled in just now; the name is dropped after `misc`.
                to_result(unsafe { bindings::misc_register(slot) })
            }),
        })
    }
}

#[pinned_drop]
impl<F: CharFile> PinnedDrop for Registered<F> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: by the type invariants. When this returns nobody is opening it any more.
        unsafe { bindings::misc_deregister(self.misc.get()) };
    }
}

/// The longest name of a device. The driver core has room for more, but not in each of its messages
/// to user space, and warns then.
const MAX_NAME: usize = 63;

/// A character device `/dev/<name>` that only root can open at first.
///
/// It is removed when this is dropped, and before the scope ends also if this is leaked. Files that
/// are open stay so.
pub struct CharDevice<'bound, F: CharFile> {
    _registered: Guarded<'bound, Pin<KBox<Registered<F>>>>,
}

impl<'bound, F: CharFile> CharDevice<'bound, F> {
    /// Shows the device to the world, as a child of the scope's device.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: the name is empty, or longer than 63 bytes.
    /// - `EEXIST`: there is one of that name.
    /// - `EBUSY`: there are too many.
    /// - `ENOMEM`: no memory.
    pub fn new(
        scope: Scope<'bound>,
        name: fmt::Arguments<'_>,
        device: Arc<F::Device>,
    ) -> Result<Self> {
        let name = CString::try_from_fmt(name)?;
        if !(1..=MAX_NAME).contains(&name.to_bytes().len()) {
            return Err(EINVAL);
        }
        let raw = phyr::raw::device(scope.device());
        let registered = KBox::pin_init(Registered::<F>::new(raw, name, device), GFP_KERNEL)?;
        Ok(Self {
            _registered: Guarded::new(scope, registered)?,
        })
    }
}
