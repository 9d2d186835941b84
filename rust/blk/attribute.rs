// SPDX-License-Identifier: GPL-2.0

//! Attributes of a disk in sysfs: files in `/sys/block/NAME` with the driver's data.
//!
//! C: `struct device_attribute` ([`include/linux/device.h`](srctree/include/linux/device.h)),
//! handed to `device_add_disk()` in a group.

use super::types::DriverTypes;
use core::{
    ptr,
    slice, //
};
use kernel::{
    bindings,
    container_of,
    ffi::c_char,
    fmt::{
        self,
        Write, //
    },
    page::PAGE_SIZE,
    prelude::*, //
};

/// Function that writes the text of an [`Attribute`] from the driver's data of the disk.
pub type Show<T> =
    for<'a, 'bound> fn(&'a <T as DriverTypes>::DiskData<'bound>, &mut Text<'_>) -> Result;

/// Function that returns whether a disk has an [`Attribute`], from the driver's data of the disk.
pub type IsVisible<T> = for<'a, 'bound> fn(&'a <T as DriverTypes>::DiskData<'bound>) -> bool;

/// A file in the disk's folder in sysfs, which everybody can read.
///
/// A driver lists those of its disks in [`Operations::ATTRIBUTES`](super::Operations::ATTRIBUTES).
/// They are there from the moment that the disk is, so that a rule of udev can read them, and until
/// it is removed, which waits for readers. A function that shows an attribute thus has the disk's
/// data, and everything that refers to; it must not wait for the removal of the disk.
///
/// # Examples
///
/// ```
/// use kernel::{fmt::Write, prelude::*};
/// use phyr_blk::{Attribute, Operations, Text};
///
/// struct Data {
///     serial: u64,
///     slot: Option<u8>,
/// }
///
/// fn show_serial(data: &Data, text: &mut Text<'_>) -> Result {
///     write!(text, "{:016x}", data.serial)?;
///     Ok(())
/// }
///
/// fn show_slot(data: &Data, text: &mut Text<'_>) -> Result {
///     write!(text, "{}", data.slot.ok_or(ENODATA)?)?;
///     Ok(())
/// }
///
/// struct Attributes<T>(core::marker::PhantomData<T>);
///
/// impl<T: for<'bound> Operations<DiskData<'bound> = Data>> Attributes<T> {
///     /// As a driver has it in its `Operations`, there of `Attribute<Self>`.
///     const ATTRIBUTES: &'static [Attribute<T>] = &[
///         Attribute::new(c"serial", show_serial),
///         Attribute::<T>::new(c"slot", show_slot).visible_if(|data| data.slot.is_some()),
///     ];
/// }
/// ```
///
/// # Invariants
///
/// `attr.show` is the function `show` of the same attribute's type.
#[repr(C)]
pub struct Attribute<T: DriverTypes> {
    /// First, so that a pointer to it is one to the whole.
    attr: bindings::device_attribute,
    name: &'static CStr,
    show: Show<T>,
    is_visible: Option<IsVisible<T>>,
}

impl<T: DriverTypes> Attribute<T> {
    /// Makes a file of this name, whose content `show` writes.
    ///
    /// The name must differ from those that the block layer has in the folder, such as `size`: with
    /// one that is taken [`GenDiskBuilder::build`](super::GenDiskBuilder::build) fails with
    /// `EEXIST`, and with one that is empty or has a slash, with `EINVAL`.
    pub const fn new(name: &'static CStr, show: Show<T>) -> Self {
        // SAFETY: the structure of C is one of integers, pointers and optional functions. (Where
        // lockdep is on, it has a bit field, which `Zeroable` does not know.)
        let mut attr: bindings::device_attribute = unsafe { core::mem::zeroed() };
        // CAST: a `c_char` is a byte.
        attr.attr.name = name.to_bytes_with_nul().as_ptr().cast();
        // CAST: permissions, of 12 bits.
        attr.attr.mode = bindings::S_IRUGO as bindings::umode_t;
        // INVARIANT: it is this one.
        attr.__bindgen_anon_1.show = Some(Self::show);
        Self {
            attr,
            name,
            show,
            is_visible: None,
        }
    }

    /// Leaves the file out if `is_visible` returns false. It is called once, before the disk is
    /// there.
    pub const fn visible_if(mut self, is_visible: IsVisible<T>) -> Self {
        self.is_visible = Some(is_visible);
        self
    }

    /// # Safety
    ///
    /// sysfs calls this with the device of a disk of `T` that was added and is not deleted yet,
    /// with the [`Attribute::attr`] of an attribute of `T`, and with a page of zeroes.
    unsafe extern "C" fn show(
        dev: *mut bindings::device,
        attr: *mut bindings::device_attribute,
        page: *mut c_char,
    ) -> isize {
        // SAFETY: `dev` is the device of a disk, and so in the block device of the whole disk.
        let bdev = unsafe { container_of!(dev, bindings::block_device, bd_device) };
        // SAFETY: `bdev` is valid, and its disk was added, so that it has a queue.
        let q = unsafe { (*(*bdev).bd_disk).queue };
        // SAFETY: `GenDisk` set the data of `q` to a `DiskData`. That is dropped after
        // `del_gendisk()` only, which waits for this call.
        let data = unsafe { &*(*q).queuedata.cast::<T::DiskData<'_>>() };
        // SAFETY: `attr` is the first field of an `Attribute<T>`, whose memory is static.
        let attribute = unsafe { &*attr.cast_const().cast::<Self>() };
        // SAFETY: `page` is `PAGE_SIZE` bytes that sysfs has zeroed, and ours during the call.
        let mut text = Text::new(unsafe { slice::from_raw_parts_mut(page, PAGE_SIZE) });
        match (attribute.show)(data, &mut text) {
            // CAST: at most a page.
            Ok(()) => text.finish() as isize,
            // CAST: an errno.
            Err(e) => e.to_errno() as isize,
        }
    }
}

/// Buffer for the text of an [`Attribute`].
///
/// Text that does not fit in a page is an error. A newline at the end is added if there is none.
pub struct Text<'a> {
    /// The last two bytes are left for the newline and for a zero that ends the string.
    page: &'a mut [u8],
    len: usize,
}

impl<'a> Text<'a> {
    fn new(page: &'a mut [u8]) -> Self {
        Self { page, len: 0 }
    }

    /// Ends the text with a newline, and returns its length.
    fn finish(self) -> usize {
        let end = self.len.saturating_sub(1);
        if self.page.get(end) == Some(&b'\n') {
            return self.len;
        }
        match self.page.get_mut(self.len) {
            Some(byte) => {
                *byte = b'\n';
                self.len + 1
            }
            None => self.len,
        }
    }
}

impl Write for Text<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let room = self.page.len().saturating_sub(2);
        let end = self.len.checked_add(s.len()).ok_or(fmt::Error)?;
        if end > room {
            return Err(fmt::Error);
        }
        self.page
            .get_mut(self.len..end)
            .ok_or(fmt::Error)?
            .copy_from_slice(s.as_bytes());
        self.len = end;
        Ok(())
    }
}

/// The attributes that one disk has, as `device_add_disk()` takes them.
///
/// # Invariants
///
/// - `attributes` are pointers to attributes of a driver, whose memory is static, and ends with
///   null.
/// - If there is a `group`, it names `attributes`; if there is a `groups`, it is `group` and null.
pub(crate) struct Groups {
    attributes: KVec<*mut bindings::attribute>,
    group: bindings::attribute_group,
    groups: [*const bindings::attribute_group; 2],
}

impl Groups {
    /// Collects the attributes that a disk with `data` has.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: a name is empty, or has a slash.
    /// - `ENOMEM`: no memory.
    pub(crate) fn new<T: DriverTypes>(
        of_driver: &'static [Attribute<T>],
        data: &T::DiskData<'_>,
    ) -> Result<KBox<Self>> {
        let mut attributes = KVec::new();
        let visible = of_driver.iter().filter(|attribute| {
            attribute
                .is_visible
                .is_none_or(|is_visible| is_visible(data))
        });
        for attribute in visible {
            let name = attribute.name.to_bytes();
            if name.is_empty() || name.contains(&b'/') {
                return Err(EINVAL);
            }
            // sysfs reads it, and lockdep takes the address of the attribute's key.
            let attr = ptr::from_ref(attribute).cast_mut().cast();
            attributes.push(attr, GFP_KERNEL)?;
        }
        if !attributes.is_empty() {
            attributes.push(ptr::null_mut(), GFP_KERNEL)?;
        }
        // INVARIANT: there is no group yet. The memory of a constant is static.
        let mut this = KBox::new(
            Self {
                attributes,
                group: pin_init::zeroed(),
                groups: [ptr::null(); 2],
            },
            GFP_KERNEL,
        )?;
        if !this.attributes.is_empty() {
            this.group.__bindgen_anon_2.attrs = this.attributes.as_mut_ptr();
            // INVARIANT: the group is the one just above; its end stays null.
            this.groups = [&raw const this.group, ptr::null()];
        }
        Ok(this)
    }

    /// Returns the argument for `device_add_disk()`, valid until the disk was deleted, if `self`
    /// is.
    pub(crate) fn as_ptr(&self) -> *mut *const bindings::attribute_group {
        if self.attributes.is_empty() {
            return ptr::null_mut();
        }
        // The kernel does not write them.
        self.groups.as_ptr().cast_mut()
    }
}

#[kunit_tests(phyr_blk_attribute)]
mod tests {
    use super::*;

    fn written(text: &[&str], page: &mut [u8]) -> Result<usize> {
        let mut to = Text::new(page);
        for part in text {
            to.write_str(part)?;
        }
        Ok(to.finish())
    }

    #[test]
    fn text_ends_with_one_newline() {
        let mut page = [0; 16];
        for (text, expected) in [
            (&["abc"][..], &b"abc\n"[..]),
            (&["abc\n"], b"abc\n"),
            (&["a", "", "bc", "\n"], b"abc\n"),
            (&["abc\n\n"], b"abc\n\n"),
            (&[], b"\n"),
            (&["\n"], b"\n"),
        ] {
            page.fill(0);
            assert_eq!(written(text, &mut page), Ok(expected.len()));
            // PANIC: the page is longer.
            assert!(&page[..expected.len()] == expected);
            assert!(page[expected.len()..].iter().all(|&byte| byte == 0));
        }
    }

    #[test]
    fn text_stays_in_its_page() {
        for (size, text, expected) in [
            (0, "", Ok(0)),
            (0, "a", Err(EINVAL)),
            (1, "", Ok(1)),
            (1, "a", Err(EINVAL)),
            (2, "a", Err(EINVAL)),
            (3, "a", Ok(2)),
            (3, "ab", Err(EINVAL)),
            (8, "abcdef", Ok(7)),
            (8, "abcdefg", Err(EINVAL)),
        ] {
            let mut page = [0; 8];
            // PANIC: no size is greater.
            assert_eq!(written(&[text], &mut page[..size]), expected);
        }
        // Text that does not fit leaves the text before it.
        let mut page = [0; 8];
        let mut text = Text::new(&mut page);
        assert!(text.write_str("abc").is_ok());
        assert!(text.write_str("defg").is_err());
        assert!(text.write_str("def").is_ok());
        assert_eq!(text.finish(), 7);
        assert!(&page == b"abcdef\n\0");
    }
}
