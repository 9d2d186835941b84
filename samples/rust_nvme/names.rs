// SPDX-License-Identifier: GPL-2.0

//! Names of a controller and identifiers of a namespace: their binary and their text form.
//!
//! Nothing here calls the kernel. The bytes come from the controller and can be anything.
//!
//! C: `nvme_process_ns_desc()` in [`drivers/nvme/host/core.c`](srctree/drivers/nvme/host/core.c),
//! `wwid_show()` and its neighbours in
//! [`drivers/nvme/host/sysfs.c`](srctree/drivers/nvme/host/sysfs.c)

use kernel::{
    fmt,
    prelude::*, //
};

/// The names of a controller, as bytes: ASCII, padded with spaces, if it follows the specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    /// PCI vendor.
    pub(crate) vendor: u16,
    pub(crate) serial: [u8; 20],
    pub(crate) model: [u8; 40],
    pub(crate) firmware: [u8; 8],
}

impl Names {
    pub(crate) const NONE: Self = Self {
        vendor: 0,
        serial: [0; 20],
        model: [0; 40],
        firmware: [0; 8],
    };
}

/// The identifiers of a namespace; those that are all zeroes it does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ids {
    pub(crate) eui64: [u8; 8],
    pub(crate) nguid: [u8; 16],
    pub(crate) uuid: [u8; 16],
    /// The command set: 0 is NVM, 2 zoned.
    pub(crate) command_set: u8,
}

impl Ids {
    pub(crate) const NONE: Self = Self {
        eui64: [0; 8],
        nguid: [0; 16],
        uuid: [0; 16],
        command_set: 0,
    };

    /// Size of the header of a descriptor: type, length of the identifier, two reserved bytes.
    const HEADER: usize = 4;
    const EUI64: u8 = 1;
    const NGUID: u8 = 2;
    const UUID: u8 = 3;
    const CSI: u8 = 4;

    /// Reads a list of Namespace Identification Descriptors, up to the first that is invalid.
    pub(crate) fn parse(mut data: &[u8]) -> Self {
        let mut ids = Self::NONE;

        while let Some((&[kind, len, _, _], rest)) = data.split_first_chunk::<{ Self::HEADER }>() {
            let Some((value, rest)) = rest.split_at_checked(len.into()) else {
                break;
            };
            if len == 0 || ids.take(kind, value).is_err() {
                break;
            }
            data = rest;
        }
        ids
    }

    /// Stores the identifier in a descriptor.
    ///
    /// # Errors
    ///
    /// [`EIO`]: it does not have the length of its kind.
    fn take(&mut self, kind: u8, value: &[u8]) -> Result {
        match kind {
            Self::EUI64 => self.eui64 = value.try_into().map_err(|_| EIO)?,
            Self::NGUID => self.nguid = value.try_into().map_err(|_| EIO)?,
            Self::UUID => self.uuid = value.try_into().map_err(|_| EIO)?,
            Self::CSI => [self.command_set] = value.try_into().map_err(|_| EIO)?,
            // Later versions have more kinds.
            _ => {}
        }
        Ok(())
    }
}

/// Controllers, by PCI vendor and device, whose namespaces have identifiers that are not unique or
/// change: `NVME_QUIRK_BOGUS_NID` of the C driver's table, as of Linux 7.3.
const NOT_UNIQUE: &[(u16, u16)] = &[
    (0x10ec, 0x5762),
    (0x10ec, 0x5763),
    (0x10ec, 0x5765),
    (0x126f, 0x2262),
    (0x126f, 0x2263),
    (0x1344, 0x6001),
    (0x144d, 0xa802),
    (0x144d, 0xa80b),
    (0x1987, 0x5012),
    (0x1987, 0x5016),
    (0x1b36, 0x0010), // QEMU: some are made up anew at each start.
    (0x1c5c, 0x174a),
    (0x1cc1, 0x33f8),
    (0x1cc1, 0x5350),
    (0x1d97, 0x1d97),
    (0x1d97, 0x2263),
    (0x1d97, 0x2269),
    (0x1dbe, 0x5216),
    (0x1dbe, 0x5236),
    (0x1e4b, 0x1001),
    (0x1e4b, 0x1002),
    (0x1e4b, 0x1202),
    (0x1e4b, 0x1602),
    (0x1f40, 0x1202),
    (0x1f40, 0x5236),
    (0x8086, 0x0a54),
    (0x8086, 0x5845), // QEMU, with an old identity.
    (0xc0a9, 0x540a),
];

/// Returns whether the identifiers of a controller's namespaces can be relied on.
pub(crate) fn are_unique(vendor: u16, device: u16) -> bool {
    !NOT_UNIQUE.contains(&(vendor, device))
}

/// Returns whether an identifier is present.
pub(crate) fn is_given(id: &[u8]) -> bool {
    id.iter().any(|&byte| byte != 0)
}

/// Returns `name` without the spaces and zeroes at the end.
fn trimmed(name: &[u8]) -> &[u8] {
    let end = name.iter().rposition(|byte| !matches!(byte, b' ' | 0));
    name.get(..end.map_or(0, |end| end + 1)).unwrap_or(name)
}

/// A name as text, with question marks for characters that are not printable.
pub(crate) struct Printable<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &byte in trimmed(self.0) {
            let printable = byte == b' ' || byte.is_ascii_graphic();
            write!(f, "{}", if printable { char::from(byte) } else { '?' })?;
        }
        Ok(())
    }
}

/// Bytes in hexadecimal, with a separator.
pub(crate) struct Hex<'a>(pub(crate) &'a [u8], pub(crate) &'static str);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if at != 0 {
                f.write_str(self.1)?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// A UUID as text, as C's `%pU` writes it.
pub(crate) struct Uuid<'a>(pub(crate) &'a [u8; 16]);

impl fmt::Display for Uuid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// The unique name of a namespace: its best identifier or, where identifiers are not reliable, the
/// names of its controller.
pub(crate) struct Wwid<'a> {
    pub(crate) names: &'a Names,
    pub(crate) ids: Option<&'a Ids>,
    pub(crate) nsid: u32,
}

impl fmt::Display for Wwid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (names, ids) = (self.names, self.ids.unwrap_or(&Ids::NONE));
        if is_given(&ids.uuid) {
            return f.write_fmt(fmt!("uuid.{}", Uuid(&ids.uuid)));
        }
        if is_given(&ids.nguid) {
            return f.write_fmt(fmt!("eui.{}", Hex(&ids.nguid, "")));
        }
        if is_given(&ids.eui64) {
            return f.write_fmt(fmt!("eui.{}", Hex(&ids.eui64, "")));
        }
        f.write_fmt(fmt!(
            "nvme.{:04x}-{}-{}-{:08x}",
            names.vendor,
            Hex(trimmed(&names.serial), ""),
            Hex(trimmed(&names.model), ""),
            self.nsid
        ))
    }
}

#[kunit_tests(rust_nvme_names)]
mod tests {
    // PANIC: An `unwrap` or an index that fails is a failed test.

    use super::{
        super::tests::is_written,
        *, //
    };

    /// Makes a list of descriptors: kind, length, and the byte that all of it is.
    fn list(of: &[(u8, u8, u8)]) -> KVec<u8> {
        let mut data = KVec::new();
        for &(kind, len, value) in of {
            for byte in [kind, len, 0, 0] {
                data.push(byte, GFP_KERNEL).unwrap();
            }
            for _ in 0..len {
                data.push(value, GFP_KERNEL).unwrap();
            }
        }
        data
    }

    #[test]
    fn descriptors_are_read_as_far_as_they_make_sense() {
        let all = [(1, 8, 1), (9, 3, 9), (2, 16, 2), (4, 1, 2), (3, 16, 3)];
        let ids = Ids {
            eui64: [1; 8],
            nguid: [2; 16],
            uuid: [3; 16],
            command_set: 2,
        };
        assert_eq!(Ids::parse(&list(&all)), ids);
        for wrong in [
            // A length that is not its kind's; none; nothing.
            &[(1, 7, 1), (3, 16, 3)][..],
            &[(2, 17, 1), (3, 16, 3)],
            &[(4, 2, 1), (3, 16, 3)],
            &[(5, 0, 0), (3, 16, 3)],
            &[],
        ] {
            assert_eq!(Ids::parse(&list(wrong)), Ids::NONE);
        }
        // The last one is cut short.
        let data = list(&[(4, 1, 2), (3, 16, 3)]);
        for cut in 1..20 {
            let ids = Ids::parse(&data[..data.len() - cut]);
            assert_eq!((ids.command_set, ids.uuid), (2, [0; 16]));
        }
    }

    #[test]
    fn names_are_written_without_their_padding() {
        for (name, text) in [
            (&b"abc  "[..], "abc"),
            (b" a b\0\0", " a b"),
            (b"    ", ""),
            (b"", ""),
            (b"a\nb\xff\x7f ", "a?b??"),
        ] {
            assert!(is_written(fmt!("{}", Printable(name)), text));
        }
    }

    #[test]
    fn identifiers_are_written_as_c_writes_them() {
        let bytes = core::array::from_fn(|at| [1, 0x23, 0xef, 0][at % 4]);
        let uuid = "0123ef00-0123-ef00-0123-ef000123ef00";
        assert!(is_written(fmt!("{}", Uuid(&bytes)), uuid));
        assert!(is_written(fmt!("{}", Hex(&bytes[..3], " ")), "01 23 ef"));
        assert!(is_written(fmt!("{}", Hex(&[], " ")), ""));
    }

    #[test]
    fn the_best_identifier_is_the_name() {
        let mut names = Names::NONE;
        names.vendor = 0x1b36;
        names.serial = *b"phyr0               ";
        names.model[..4].copy_from_slice(b"QEMU");
        let mut ids = Ids::NONE;
        let is = |ids: &Ids, text: &str| {
            let wwid = Wwid {
                names: &names,
                ids: Some(ids),
                nsid: 0x21,
            };
            is_written(fmt!("{wwid}"), text)
        };
        assert!(is(&ids, "nvme.1b36-7068797230-51454d55-00000021"));
        ids.eui64 = [0x5a; 8];
        assert!(is(&ids, "eui.5a5a5a5a5a5a5a5a"));
        ids.nguid = [0xa5; 16];
        assert!(is(&ids, "eui.a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5"));
        ids.uuid = [1; 16];
        assert!(is(&ids, "uuid.01010101-0101-0101-0101-010101010101"));

        let wwid = Wwid {
            names: &names,
            ids: None,
            nsid: 1,
        };
        let text = "nvme.1b36-7068797230-51454d55-00000001";
        assert!(is_written(fmt!("{wwid}"), text));
    }

    #[test]
    fn some_identifiers_are_not_unique() {
        assert!(!are_unique(0x1b36, 0x0010));
        assert!(!are_unique(0xc0a9, 0x540a));
        assert!(are_unique(0x1b36, 0x0011));
        assert!(are_unique(0, 0));
    }
}
