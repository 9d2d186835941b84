// SPDX-License-Identifier: GPL-2.0

//! The structures of the Identify command that describe a namespace: Identify Namespace, and
//! those of the NVM command set and of all command sets.
//!
//! Nothing here calls the kernel. The bytes come from the controller and can be anything. Fields
//! are read in the order in which a structure has them.
//!
//! C header: [`include/linux/nvme.h`](srctree/include/linux/nvme.h), `struct nvme_id_ns`,
//! `struct nvme_id_ns_nvm`, `struct nvme_id_ns_cs_indep`

use super::{
    identify::{
        array,
        byte,
        le16,
        le32,
        le64, //
    },
    names::{
        Ids,
        Names, //
    }, //
};
use kernel::{
    fmt,
    prelude::*, //
};

/// Reasons why a namespace gets no disk: the field that tells, and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NamespaceError {
    /// The structure is cut short.
    Short,
    /// The controller refused to identify it, with this status.
    Unidentified(u16),
    /// It has a command set other than NVM.
    CommandSet(u8),
    /// It is not ready, or not there.
    NotReady(u8),
    /// It has no capacity, or no blocks.
    Empty,
    /// The blocks have metadata of `bytes` bytes, perhaps with protection information.
    Metadata { bytes: u16, protection: u8 },
    /// A logical block is not 512 bytes to 4 KiB, but two to the power of this.
    BlockSize(u8),
    /// Its size in bytes overflows.
    TooLarge { blocks: u64, shift: u8 },
}

impl From<Error> for NamespaceError {
    fn from(_: Error) -> Self {
        Self::Short
    }
}

impl fmt::Display for NamespaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Short => f.write_str("its Identify structure is cut short"),
            Self::Unidentified(code) => {
                write!(
                    f,
                    "Identify fails, sct {:#x} / sc {:#x}",
                    code >> 8,
                    code & 0xff
                )
            }
            Self::CommandSet(2) => f.write_str("CSI is 2: a zoned namespace"),
            Self::CommandSet(set) => write!(f, "CSI is {set}: not the NVM command set"),
            Self::NotReady(status) => write!(f, "NSTAT is {status:#x}: not ready"),
            Self::Empty => f.write_str("NCAP or NSZE is 0: not there"),
            Self::Metadata { bytes, protection } => {
                write!(f, "MS is {bytes}: blocks have metadata; ")?;
                write!(f, "DPS is {protection:#x}: ")?;
                match protection & Namespace::DPS_TYPE {
                    0 => f.write_str("no protection information"),
                    kind => write!(f, "protection information of type {kind}"),
                }
            }
            Self::BlockSize(shift) => {
                write!(f, "LBADS is {shift}: blocks are not 512 to 4096 bytes")
            }
            Self::TooLarge { blocks, shift } => {
                write!(
                    f,
                    "NSZE is {blocks:#x}, of blocks of 2^{shift} bytes: 2^63 bytes or more"
                )
            }
        }
    }
}

/// Hints of a namespace on efficient and on atomic writes, in logical blocks. 0 is no hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hints {
    /// Preferred write granularity, and optimal write size.
    pub(crate) write_granularity: u32,
    pub(crate) write_size: u32,
    /// Preferred granularity and alignment of deallocation.
    pub(crate) discard_granularity: u32,
    pub(crate) discard_alignment: u32,
    /// I/O across multiples of this is slower.
    pub(crate) boundary: u16,
    /// Longest write that is atomic, even if power fails.
    pub(crate) atomic: u32,
    /// Writes that cross a multiple of this are not atomic.
    pub(crate) atomic_boundary: u32,
    /// The boundary is counted from another block than the first; no write is atomic then.
    pub(crate) has_atomic_offset: bool,
}

impl Hints {
    pub(crate) const NONE: Self = Self {
        write_granularity: 0,
        write_size: 0,
        discard_granularity: 0,
        discard_alignment: 0,
        boundary: 0,
        atomic: 0,
        atomic_boundary: 0,
        has_atomic_offset: false,
    };
}

/// A namespace that can be a disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Namespace {
    pub(crate) id: u32,
    /// A logical block is `1 << shift` bytes.
    pub(crate) shift: u32,
    /// Size in logical blocks.
    pub(crate) blocks: u64,
    /// Deallocated blocks read as zeroes, and write zeroes may deallocate.
    pub(crate) zeroes_when_deallocated: bool,
    /// Write protected.
    pub(crate) read_only: bool,
    /// On a rotational medium.
    pub(crate) rotational: bool,
    /// It has no write cache, even if the controller has one.
    pub(crate) no_write_cache: bool,
    /// The structure of the NVM command set may have more hints on deallocation.
    pub(crate) has_large_hints: bool,
    pub(crate) hints: Hints,
    pub(crate) ids: Ids,
    /// No other namespace has one of them.
    pub(crate) has_unique_ids: bool,
    /// Names of its controller.
    pub(crate) names: Names,
}

impl Namespace {
    const NSZE: usize = 0;
    const NCAP: usize = 8;
    const NSFEAT: usize = 24;
    const NLBAF: usize = 25;
    const FLBAS: usize = 26;
    const DPS: usize = 29;
    const DLFEAT: usize = 33;
    const NAWUPF: usize = 36;
    const NABO: usize = 42;
    const NABSPF: usize = 44;
    const NOIOB: usize = 46;
    const NPWG: usize = 64;
    const NPDG: usize = 68;
    const NPDA: usize = 70;
    const NOWS: usize = 72;
    const NSATTR: usize = 99;
    const NGUID: usize = 104;
    const EUI64: usize = 120;
    const LBAF: usize = 128;

    /// `NSFEAT`: the namespace has atomic write units of its own.
    const NSFEAT_ATOMICS: u8 = 1 << 1;
    /// `NSFEAT`: hints of write and deallocation are there; since 2.1 two bits.
    const NSFEAT_OPTPERF: u8 = 4;
    const OPTPERF: u8 = 1 << 0;
    const OPTPERF_LARGE: u8 = 1 << 1;

    /// `NSATTR`: write protected.
    const NSATTR_READ_ONLY: u8 = 0x1;

    /// `DPS`: type of the protection information.
    const DPS_TYPE: u8 = 0x7;

    /// `DLFEAT`: deallocated blocks read as zeroes.
    const DLFEAT_ZEROES: u8 = 0x1;
    /// `DLFEAT`: write zeroes may deallocate.
    const DLFEAT_WRITE_ZEROES: u8 = 0x8;

    /// Fields of namespaces of all command sets: attributes, status, features.
    const ANY_NSFEAT: usize = 0;
    const ANY_NSATTR: usize = 8;
    const ANY_NSTAT: usize = 14;
    const ANY_ROTATIONAL: u8 = 1 << 4;
    const ANY_NO_WRITE_CACHE: u8 = 1 << 5;
    const NSTAT_READY: u8 = 1 << 0;

    /// Fields of the NVM command set: granularity and alignment of deallocation.
    const NPDGL: usize = 268;
    const NPDAL: usize = 284;

    /// Reads an Identify Namespace structure of a controller that follows NVMe `version`, major and
    /// minor.
    ///
    /// # Errors
    ///
    /// The reason why it gets no disk.
    pub(crate) fn parse(
        id: u32,
        version: (u32, u32),
        mut ids: Ids,
        data: &[u8],
    ) -> Result<Self, NamespaceError> {
        let known = match version {
            version if version >= (2, 1) => Self::OPTPERF | Self::OPTPERF_LARGE,
            _ => Self::OPTPERF,
        };
        let blocks = le64(data, Self::NSZE)?;
        let capacity = le64(data, Self::NCAP)?;
        let nsfeat = byte(data, Self::NSFEAT)?;
        let optperf = nsfeat >> Self::NSFEAT_OPTPERF & known;
        let nlbaf = byte(data, Self::NLBAF)?;
        let flbas = byte(data, Self::FLBAS)?;
        let protection = byte(data, Self::DPS)?;
        let dlfeat = byte(data, Self::DLFEAT)?;
        let hints = Self::hints(nsfeat & Self::NSFEAT_ATOMICS != 0, optperf, data)?;
        let nsattr = byte(data, Self::NSATTR)?;
        // Identifiers in the list of descriptors have precedence.
        if version >= (1, 2) && ids.nguid == [0; 16] {
            ids.nguid = array(data, Self::NGUID)?;
        }
        if version >= (1, 1) && ids.eui64 == [0; 8] {
            ids.eui64 = array(data, Self::EUI64)?;
        }
        // Bits 6:5 are the upper ones of the index, where there are more than 16 formats.
        let upper = match nlbaf {
            0..=15 => 0,
            _ => flbas >> 5 & 3,
        };
        let format = Self::LBAF + 4 * usize::from(upper << 4 | flbas & 0xf);
        let bytes = le16(data, format)?;
        let shift = byte(data, format + 2)?;

        if blocks == 0 || capacity == 0 {
            return Err(NamespaceError::Empty);
        }
        if bytes != 0 {
            return Err(NamespaceError::Metadata { bytes, protection });
        }
        if !(9..=12).contains(&shift) {
            return Err(NamespaceError::BlockSize(shift));
        }
        // CAST: A positive number.
        if blocks > i64::MAX as u64 >> shift {
            return Err(NamespaceError::TooLarge { blocks, shift });
        }

        Ok(Self {
            id,
            shift: shift.into(),
            blocks,
            zeroes_when_deallocated: dlfeat & 0x7 == Self::DLFEAT_ZEROES
                && dlfeat & Self::DLFEAT_WRITE_ZEROES != 0,
            read_only: nsattr & Self::NSATTR_READ_ONLY != 0,
            rotational: false,
            no_write_cache: false,
            has_large_hints: optperf & Self::OPTPERF_LARGE != 0,
            hints,
            ids,
            has_unique_ids: true,
            names: Names::NONE,
        })
    }

    /// Reads the hints.
    fn hints(has_atomics: bool, optperf: u8, data: &[u8]) -> Result<Hints> {
        // These are one less than the number that they stand for.
        let field = |at| Ok::<_, Error>(u32::from(le16(data, at)?) + 1);
        // So are these, but 0 is no hint.
        let optional = |at| match le16(data, at)? {
            0 => Ok::<_, Error>(0),
            n => Ok(u32::from(n) + 1),
        };
        let mut hints = Hints::NONE;

        if has_atomics {
            hints.atomic = optional(Self::NAWUPF)?;
        }
        hints.has_atomic_offset = le16(data, Self::NABO)? != 0;
        if hints.atomic != 0 {
            hints.atomic_boundary = optional(Self::NABSPF)?;
        }
        hints.boundary = le16(data, Self::NOIOB)?;
        if optperf != 0 {
            hints.write_granularity = field(Self::NPWG)?;
            if optperf & Self::OPTPERF != 0 {
                hints.discard_granularity = field(Self::NPDG)?;
            }
            hints.discard_alignment = field(Self::NPDA)?;
            hints.write_size = optional(Self::NOWS)?;
        }
        Ok(hints)
    }

    /// Adds the structure that is the same for all command sets.
    ///
    /// # Errors
    ///
    /// The reason why it gets no disk.
    pub(crate) fn add_any(&mut self, data: &[u8]) -> Result<(), NamespaceError> {
        let features = byte(data, Self::ANY_NSFEAT)?;
        let nsattr = byte(data, Self::ANY_NSATTR)?;
        let status = byte(data, Self::ANY_NSTAT)?;
        if status & Self::NSTAT_READY == 0 {
            return Err(NamespaceError::NotReady(status));
        }
        self.rotational = features & Self::ANY_ROTATIONAL != 0;
        self.no_write_cache = features & Self::ANY_NO_WRITE_CACHE != 0;
        self.read_only = nsattr & Self::NSATTR_READ_ONLY != 0;
        Ok(())
    }

    /// Adds the structure of the NVM command set. Only where it
    /// [has larger hints](Self::has_large_hints).
    ///
    /// # Errors
    ///
    /// [`EIO`]: `data` is cut short.
    pub(crate) fn add_nvm(&mut self, data: &[u8]) -> Result {
        let (granularity, alignment) = (le32(data, Self::NPDGL)?, le32(data, Self::NPDAL)?);
        // These are not one less. 0 is no hint.
        if granularity != 0 {
            self.hints.discard_granularity = granularity;
        }
        if alignment != 0 {
            self.hints.discard_alignment = alignment;
        }
        Ok(())
    }

    /// Returns a namespace with nothing special, for tests.
    #[cfg(CONFIG_KUNIT = "y")]
    pub(crate) const fn plain(shift: u32, blocks: u64) -> Self {
        Self {
            id: 1,
            shift,
            blocks,
            zeroes_when_deallocated: false,
            read_only: false,
            rotational: false,
            no_write_cache: false,
            has_large_hints: false,
            hints: Hints::NONE,
            ids: Ids::NONE,
            has_unique_ids: true,
            names: Names::NONE,
        }
    }

    /// Returns the size in sectors of 512 bytes.
    pub(crate) fn sectors(&self) -> u64 {
        self.blocks << (self.shift - 9)
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[path = "namespace/tests.rs"]
mod tests;
