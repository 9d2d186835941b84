// SPDX-License-Identifier: GPL-2.0

//! Adds to [`kernel::miscdevice`]: commands of io_uring, data of each device that its files share,
//! a name made at run time, a parent, and removal before the driver's scope ends.
//!
//! Opening, ioctls and releasing are the kernel's [`MiscDevice`].
//!
//! A file can stay open when the device is gone, and then still holds what its driver gave it. That
//! has no lifetime of the driver's binding, so that it can get at the device only by types that
//! check: [`RequestQueue`](super::RequestQueue), [`Binding`](phyr_driver::binding::Binding).
//!
//! C header: [`include/linux/miscdevice.h`](srctree/include/linux/miscdevice.h)

use super::{
    bindings as own,
    uring::{
        refuse,
        UringCmd,
        UringResult, //
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
    fs::{
        file::flags::O_ACCMODE,
        File, //
    },
    miscdevice::{
        MiscDevice,
        MiscDeviceOptions,
        MiscDeviceRegistration, //
    },
    module::ModuleMetadata,
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
    scope::{
        Registration,
        Scope, //
    }, //
};

/// The access for which a file was opened. C: `fmode_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMode {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
}

impl FileMode {
    /// Returns the mode in which `file` was opened: C's `OPEN_FMODE`.
    fn new(file: &File) -> Self {
        let access = (file.flags() & O_ACCMODE) + 1;
        Self {
            read: access & 1 != 0,
            write: access & 2 != 0,
        }
    }
}

/// Returns whether the calling task has `CAP_SYS_ADMIN`. A task that has not is audited for it.
///
/// Context: process context.
pub fn is_sys_admin() -> bool {
    // SAFETY: this looks at the credentials of the task that calls it.
    unsafe { own::phyr_blk_helper_is_sys_admin() }
}

/// An open file of a character device.
///
/// # Examples
///
/// A file for whose commands the driver sends requests of its own:
///
/// ```
/// use kernel::{dma::DataDirection, prelude::*, sync::Arc, uaccess::UserPtr};
/// use phyr_blk::{
///     uring::{CommandResult, UringCmd, UringResult},
///     CharFile, FileMode, Operations, Passthrough, RequestQueue, Status,
/// };
///
/// /// Payload of a request.
/// struct Ping;
///
/// impl Passthrough for Ping {
///     fn end(self, status: Status) -> CommandResult {
///         status.into()
///     }
/// }
///
/// struct File<T: Operations>(Arc<RequestQueue<T>>);
///
/// impl<T: Operations<Passthrough = Ping>> CharFile for File<T> {
///     type Module = T::Module;
///     type Device = RequestQueue<T>;
///
///     fn open(queue: &Arc<RequestQueue<T>>, _mode: FileMode) -> Result<Self> {
///         Ok(Self(queue.clone()))
///     }
///
///     fn ioctl(&self, _op: u32, _arg: UserPtr) -> Result<u32> {
///         Err(ENOTTY)
///     }
///
///     fn uring_cmd<'a>(&self, cmd: UringCmd<'a>) -> UringResult<'a> {
///         match self.0.alloc(DataDirection::ToDevice, cmd.may_wait()) {
///             Ok(request) => request.execute_command(cmd, None, Ping),
///             Err(e) => cmd.done(Err(e)),
///         }
///     }
/// }
/// ```
pub trait CharFile: Send + Sync + Sized + 'static {
    /// The module with the driver's code. It cannot be unloaded while a file is open.
    type Module: ModuleMetadata;

    /// The data of a device, which its files share.
    type Device: Send + Sync + 'static;

    /// True if commands may [have](UringCmd::is_fixed) their data in a buffer that was registered
    /// with the ring; otherwise one that does fails with `EINVAL`.
    const FIXED_BUFFERS: bool = false;

    /// Opens `device`. The file is dropped with the last reference to it: no command is pending
    /// then.
    ///
    /// Context: sleeps, with a lock that is held for any `open` of such a device.
    ///
    /// # Errors
    ///
    /// They fail the `open`.
    fn open(device: &Arc<Self::Device>, mode: FileMode) -> Result<Self>;

    /// Performs `ioctl` number `op` on `arg`. Returns the result, mostly zero.
    ///
    /// Context: sleeps.
    ///
    /// # Errors
    ///
    /// They fail the `ioctl`. Return `ENOTTY` for an unknown number.
    fn ioctl(&self, op: u32, arg: UserPtr) -> Result<u32>;

    /// Starts a command of io_uring, or ends it. It asks for nothing that [`uring`](super::uring)
    /// does not have.
    ///
    /// Context: process context; sleeps only if it [may](UringCmd::may_wait).
    fn uring_cmd<'a>(&self, cmd: UringCmd<'a>) -> UringResult<'a>;
}

/// A file as a [`MiscDevice`]. Private: the kernel's registration of one would not be a
/// [`Registered`].
struct Opened<F>(F);

#[vtable]
impl<F: CharFile> MiscDevice for Opened<F> {
    type OwnerModule = F::Module;
    type Ptr = KBox<Self>;

    fn open(file: &File, misc: &MiscDeviceRegistration<Self>) -> Result<KBox<Self>> {
        fail::at(Point::generic_file_open)?;
        // SAFETY: nobody but `Registered::new` registers the operations of an `Opened<F>`. `misc`
        // is the first field of the `Registered<F>`, which cannot be removed while it is being
        // opened.
        let registered = unsafe { &*misc.as_raw().cast::<Registered<F>>() };
        let opened = F::open(&registered.device, FileMode::new(file))?;
        Ok(KBox::new(Self(opened), GFP_KERNEL_ACCOUNT)?)
    }

    fn ioctl(this: &Self, _file: &File, cmd: u32, arg: usize) -> Result<isize> {
        let result = this.0.ioctl(cmd, UserPtr::from_addr(arg))?;
        // CAST: for a machine of 32 bits, where C casts as well.
        Ok(result as isize)
    }
}

/// The operations of the files of a device.
struct FileOperations<F>(PhantomData<F>);

impl<F: CharFile> FileOperations<F> {
    /// The operations of the kernel's `MiscDevice`, and `uring_cmd`.
    const TABLE: bindings::file_operations = bindings::file_operations {
        uring_cmd: Some(Self::uring_cmd),
        // SAFETY: the operations of a miscdevice are a constant.
        ..unsafe { *MiscDeviceOptions { name: c"" }.into_raw::<Opened<F>>().fops }
    };

    /// # Safety
    ///
    /// io_uring calls this to issue a command to a file that the operations of `MiscDevice` opened.
    unsafe extern "C" fn uring_cmd(cmd: *mut bindings::io_uring_cmd, flags: c_uint) -> c_int {
        // CAST: the same bits; the highest is one of the flags.
        let flags = flags as i32;
        if flags & own::io_uring_cmd_flags_IO_URING_F_CANCEL != 0 {
            // Not issued, but to be cancelled. No command is marked as one that can be; it ends by
            // itself. The result is ignored.
            return 0;
        }
        // SAFETY: io_uring issues the command by this call.
        let asks = unsafe { own::phyr_blk_helper_uring_cmd_flags(cmd) };
        if let Err(e) = refuse(asks, flags, F::FIXED_BUFFERS) {
            return e.to_errno();
        }
        // SAFETY: the command holds its file, which is valid.
        let private = unsafe { (*own::phyr_blk_helper_uring_cmd_file(cmd)).private_data };
        // SAFETY: `MiscDevice::open` stored a `KBox<Opened<F>>`, which the file keeps.
        let opened = unsafe { KBox::<Opened<F>>::borrow(private) };
        // SAFETY: io_uring never passes null.
        let cmd = unsafe { NonNull::new_unchecked(cmd) };
        // SAFETY: these are the arguments of the call.
        let cmd = unsafe { UringCmd::new(cmd, flags) };
        opened.0.uring_cmd(cmd).into_raw()
    }
}

/// A device that user space can open.
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
            fops: &FileOperations::<F>::TABLE,
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
        // SAFETY: by the type invariants it is registered. When this returns nobody is opening it
        // any more.
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
    _registered: Registration<'bound, Pin<KBox<Registered<F>>>>,
}

impl<'bound, F: CharFile> CharDevice<'bound, F> {
    /// Registers the device, as a child of the scope's device.
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
        let parent = phyr::raw::device(scope.device());
        let registered = KBox::pin_init(Registered::<F>::new(parent, name, device), GFP_KERNEL)?;
        Ok(Self {
            _registered: scope.register(registered)?,
        })
    }
}
