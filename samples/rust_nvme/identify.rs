// SPDX-License-Identifier: GPL-2.0

//! What a controller says of itself and its namespaces: Identify Controller, the limits of its NVM
//! command set, Identify Namespace and what belongs to it.
//!
//! Nothing here calls the kernel. What a controller says can be anything. Fields are read in the
//! order in which a structure has them.
//!
//! C header: [`include/linux/nvme.h`](srctree/include/linux/nvme.h), `struct nvme_id_ctrl`,
//! `struct nvme_id_ctrl_nvm`, `struct nvme_id_ns`, `struct nvme_id_ns_nvm`,
//! `struct nvme_id_ns_cs_indep`

use super::names::{
    Ids,
    Names, //
};
use kernel::{
    fmt,
    prelude::*, //
};

/// Identify Controller, as far as it is used.
pub(crate) struct Identity {
    pub(crate) names: Names,
    /// Bytes of one transfer, 0 if not limited.
    pub(crate) max_transfer: usize,
    /// Ranges of one discard, 0 if not limited.
    pub(crate) max_discard_ranges: u8,
    /// Logical blocks of one discarded range, 0 if not limited.
    pub(crate) max_discard_blocks: u32,
    /// Logical blocks of all ranges of one discard, 0 if not limited.
    pub(crate) max_discard_total: u64,
    /// Bytes of one write zeroes command, 0 if not limited.
    pub(crate) max_zeroes: usize,
    /// How long a shutdown may take, in seconds.
    pub(crate) shutdown_secs: u32,
    /// Highest namespace id.
    pub(crate) namespaces: u32,
    /// Dataset management, and so discard.
    pub(crate) has_discard: bool,
    pub(crate) has_write_zeroes: bool,
    pub(crate) has_write_cache: bool,
    /// SGLs for data of I/O commands.
    pub(crate) has_sgl: bool,
}

impl Identity {
    const VID: usize = 0;
    const SN: usize = 4;
    const MN: usize = 24;
    const FR: usize = 64;
    const MDTS: usize = 77;
    const RTD3E: usize = 88;
    const NN: usize = 516;
    const ONCS: usize = 520;
    const VWC: usize = 525;
    const SGLS: usize = 536;

    const ONCS_DSM: u16 = 1 << 2;
    const ONCS_WRITE_ZEROES: u16 = 1 << 3;
    const VWC_PRESENT: u8 = 1 << 0;
    /// 1: any alignment, 2: multiples of 4 bytes. The disk's `dma_alignment` covers both.
    const SGLS_SUPPORT: u32 = 3;

    /// Limits of the NVM command set: write zeroes; ranges of dataset management, blocks of one,
    /// blocks of all.
    const WZSL: usize = 1;
    const DMRL: usize = 3;
    const DMRSL: usize = 4;
    const DMSL: usize = 8;

    /// The shortest and the longest time that a shutdown gets: those of the C driver.
    pub(crate) const MIN_SHUTDOWN_SECS: u32 = 5;
    const MAX_SHUTDOWN_SECS: u32 = 60;

    /// Reads an Identify Controller structure.
    ///
    /// # Errors
    ///
    /// [`EIO`]: `data` is cut short.
    pub(crate) fn parse(data: &[u8], min_page_shift: u32) -> Result<Self> {
        let names = Names {
            vendor: le16(data, Self::VID)?,
            serial: array(data, Self::SN)?,
            model: array(data, Self::MN)?,
            firmware: array(data, Self::FR)?,
        };
        let mdts = byte(data, Self::MDTS)?;
        // In microseconds; 0 where it is not said.
        let shutdown_secs = le32(data, Self::RTD3E)? / 1_000_000;
        let namespaces = le32(data, Self::NN)?;
        let oncs = le16(data, Self::ONCS)?;
        let vwc = byte(data, Self::VWC)?;
        let sgls = le32(data, Self::SGLS)? & Self::SGLS_SUPPORT;

        Ok(Self {
            names,
            max_transfer: pages(mdts, min_page_shift),
            max_discard_ranges: 0,
            max_discard_blocks: 0,
            max_discard_total: 0,
            max_zeroes: 0,
            shutdown_secs: shutdown_secs.clamp(Self::MIN_SHUTDOWN_SECS, Self::MAX_SHUTDOWN_SECS),
            namespaces,
            has_discard: oncs & Self::ONCS_DSM != 0,
            has_write_zeroes: oncs & Self::ONCS_WRITE_ZEROES != 0,
            has_write_cache: vwc & Self::VWC_PRESENT != 0,
            has_sgl: sgls == 1 || sgls == 2,
        })
    }

    /// Adds what the limits of the NVM command set say.
    ///
    /// # Errors
    ///
    /// [`EIO`]: `data` is cut short.
    pub(crate) fn add_nvm_limits(&mut self, data: &[u8], min_page_shift: u32) -> Result {
        let wzsl = byte(data, Self::WZSL)?;
        let dmrl = byte(data, Self::DMRL)?;
        let dmrsl = le32(data, Self::DMRSL)?;
        let dmsl = le64(data, Self::DMSL)?;

        self.max_discard_ranges = dmrl;
        self.max_discard_blocks = dmrsl;
        self.max_discard_total = dmsl;
        self.max_zeroes = pages(wzsl, min_page_shift);
        Ok(())
    }
}

/// The reason why a namespace is no disk: the field that says so, and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The structure is cut short.
    Short,
    /// The controller says nothing of it but this status.
    Unidentified(u16),
    /// It has a command set other than NVM.
    CommandSet(u8),
    /// It is not ready, or not there.
    NotReady(u8),
    /// It has no capacity, or no blocks.
    Empty,
    /// The blocks have metadata, of so many bytes, and maybe protection information.
    Metadata { bytes: u16, protection: u8 },
    /// A logical block is not of 512 bytes up to 4 KiB, but of two to this.
    BlockSize(u8),
    /// Its size cannot be said in bytes.
    TooLarge { blocks: u64, shift: u8 },
}

impl From<Error> for Refusal {
    fn from(_: Error) -> Self {
        Self::Short
    }
}

impl fmt::Display for Refusal {
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

/// Hints of a namespace on good and on atomic writes, in logical blocks. 0 is not said.
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
    /// So many are written as a whole, or not at all, also if power fails,
    pub(crate) atomic: u32,
    /// unless they cross a multiple of this.
    pub(crate) atomic_boundary: u32,
    /// That multiple is counted from another block than the first: there are no atomic writes.
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
    /// It turns.
    pub(crate) rotational: bool,
    /// It has no write cache, whatever the controller has.
    pub(crate) no_write_cache: bool,
    /// It may say more of deallocation, in the structure of the NVM command set.
    pub(crate) has_large_hints: bool,
    pub(crate) hints: Hints,
    pub(crate) ids: Ids,
    /// No other namespace has one of them.
    pub(crate) has_unique_ids: bool,
    /// Of its controller.
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

    /// Reads an Identify Namespace structure of a controller of the version `version`, major and
    /// minor.
    ///
    /// # Errors
    ///
    /// The reason why it is no disk.
    pub(crate) fn parse(
        id: u32,
        version: (u32, u32),
        mut ids: Ids,
        data: &[u8],
    ) -> Result<Self, Refusal> {
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
        // What the list of descriptors has comes first.
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
            return Err(Refusal::Empty);
        }
        if bytes != 0 {
            return Err(Refusal::Metadata { bytes, protection });
        }
        if !(9..=12).contains(&shift) {
            return Err(Refusal::BlockSize(shift));
        }
        // CAST: A positive number.
        if blocks > i64::MAX as u64 >> shift {
            return Err(Refusal::TooLarge { blocks, shift });
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

    fn hints(has_atomics: bool, optperf: u8, data: &[u8]) -> Result<Hints> {
        // All of these are one less than what they mean.
        let field = |at| Ok::<_, Error>(u32::from(le16(data, at)?) + 1);
        // Of these 0 means nothing.
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

    /// Adds what the structure says that is the same for all command sets.
    ///
    /// # Errors
    ///
    /// The reason why it is no disk.
    pub(crate) fn add_any(&mut self, data: &[u8]) -> Result<(), Refusal> {
        let features = byte(data, Self::ANY_NSFEAT)?;
        let nsattr = byte(data, Self::ANY_NSATTR)?;
        let status = byte(data, Self::ANY_NSTAT)?;
        if status & Self::NSTAT_READY == 0 {
            return Err(Refusal::NotReady(status));
        }
        self.rotational = features & Self::ANY_ROTATIONAL != 0;
        self.no_write_cache = features & Self::ANY_NO_WRITE_CACHE != 0;
        self.read_only = nsattr & Self::NSATTR_READ_ONLY != 0;
        Ok(())
    }

    /// Adds what the structure of the NVM command set says, if it [has](Self::has_large_hints) the
    /// larger hints.
    ///
    /// # Errors
    ///
    /// [`EIO`]: `data` is cut short.
    pub(crate) fn add_nvm(&mut self, data: &[u8]) -> Result {
        let (granularity, alignment) = (le32(data, Self::NPDGL)?, le32(data, Self::NPDAL)?);
        // These are what they mean. 0 is not said.
        if granularity != 0 {
            self.hints.discard_granularity = granularity;
        }
        if alignment != 0 {
            self.hints.discard_alignment = alignment;
        }
        Ok(())
    }

    /// Returns one that says nothing else, for tests.
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

    /// Size in sectors of 512 bytes.
    pub(crate) fn sectors(&self) -> u64 {
        self.blocks << (self.shift - 9)
    }
}

/// A limit that is a power of two of the controller's smallest memory page, in bytes. 0 is none,
/// as is one that no `usize` can hold.
fn pages(power: u8, min_page_shift: u32) -> usize {
    match u32::from(power) {
        0 => 0,
        power => 1usize.checked_shl(min_page_shift + power).unwrap_or(0),
    }
}

/// A byte of an Identify structure.
fn byte(data: &[u8], at: usize) -> Result<u8> {
    data.get(at).copied().ok_or(EIO)
}

fn array<const N: usize>(data: &[u8], at: usize) -> Result<[u8; N]> {
    let bytes = data.get(at..).and_then(|rest| rest.first_chunk());
    bytes.copied().ok_or(EIO)
}

/// A 16-bit field of an Identify structure.
fn le16(data: &[u8], at: usize) -> Result<u16> {
    array(data, at).map(u16::from_le_bytes)
}

/// A 32-bit field of an Identify structure.
pub(crate) fn le32(data: &[u8], at: usize) -> Result<u32> {
    array(data, at).map(u32::from_le_bytes)
}

/// A 64-bit field of an Identify structure.
fn le64(data: &[u8], at: usize) -> Result<u64> {
    array(data, at).map(u64::from_le_bytes)
}

#[kunit_tests(rust_nvme_identify)]
mod tests {
    // PANIC: An `unwrap` or an index that fails is a failed test.
    // CAST: A `usize` has 64 bits at most.

    use super::{
        super::tests::is_written,
        *, //
    };

    /// Of the smallest memory page.
    const SHIFT: u32 = 12;

    fn zeroed() -> KVec<u8> {
        KVec::from_elem(0, 4096, GFP_KERNEL).unwrap()
    }

    /// Whether `parse` needs the first `needed` bytes of `data` and no more: cut at every length,
    /// it fails with `short` if these are not all there, and only then.
    fn needs<E: Copy + PartialEq>(
        needed: usize,
        data: &[u8],
        short: E,
        mut parse: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> bool {
        (0..=data.len()).all(|len| {
            let want = if len < needed { Err(short) } else { Ok(()) };
            parse(&data[..len]) == want
        })
    }

    #[test]
    fn a_shutdown_gets_5_to_60_seconds() {
        for (micros, secs) in [
            (0, 5),
            (5_999_999, 5),
            (6_000_000, 6),
            (60_000_000, 60),
            (61_000_000, 60),
            (u32::MAX, 60),
        ] {
            let mut data = zeroed();
            data[Identity::RTD3E..][..4].copy_from_slice(&micros.to_le_bytes());
            let identity = Identity::parse(&data, SHIFT).unwrap();
            assert_eq!(identity.shutdown_secs, secs);
        }
    }

    #[test]
    fn limits_are_powers_of_two_pages() {
        for (power, bytes) in [
            (0, 0),
            (1, 8192),
            (7, 512 << 10),
            ((usize::BITS - 13) as u8, 1 << (usize::BITS - 1)),
            ((usize::BITS - 12) as u8, 0),
            (255, 0),
        ] {
            assert_eq!(pages(power, SHIFT), bytes);
        }
    }

    #[test]
    fn nvm_limits_have_their_layout() {
        let mut data = zeroed();
        data[1] = 5;
        data[3] = 7;
        data[4..8].copy_from_slice(&0x1234_5678u32.to_le_bytes());
        data[8..16].copy_from_slice(&0x8877_6655_4433_2211u64.to_le_bytes());

        let of = |identity: &Identity| {
            (
                identity.max_zeroes,
                identity.max_discard_ranges,
                identity.max_discard_blocks,
                identity.max_discard_total,
            )
        };
        let mut identity = Identity::parse(&zeroed(), SHIFT).unwrap();
        assert_eq!(of(&identity), (0, 0, 0, 0));
        identity.add_nvm_limits(&data, SHIFT).unwrap();
        assert_eq!(
            of(&identity),
            (128 << 10, 7, 0x1234_5678, 0x8877_6655_4433_2211)
        );
        // Cut short they change nothing.
        let none = zeroed();
        let add = |data: &[u8]| {
            let mut identity = Identity::parse(&none, SHIFT)?;
            let result = identity.add_nvm_limits(data, SHIFT);
            let unchanged = of(&identity) == (0, 0, 0, 0);
            assert_eq!(unchanged, result.is_err());
            result
        };
        assert!(needs(16, &data, EIO, add));
    }

    #[test]
    fn names_have_their_layout() {
        let mut data = zeroed();
        data[..2].copy_from_slice(&0x1b36u16.to_le_bytes());
        data[4..24].copy_from_slice(b"serial              ");
        data[24..64].fill(b'm');
        data[64..72].copy_from_slice(b"firmware");
        let names = Identity::parse(&data, SHIFT).unwrap().names;
        assert_eq!(names.vendor, 0x1b36);
        assert_eq!(names.serial, *b"serial              ");
        assert_eq!(names.model, [b'm'; 40]);
        assert_eq!(names.firmware, *b"firmware");
    }

    #[test]
    fn a_short_controller_structure_is_an_error() {
        assert!(needs(540, &zeroed(), EIO, |data| {
            Identity::parse(data, SHIFT).map(|_| ())
        }));
    }

    /// An Identify structure with the format `(index, metadata, shift)` in use.
    fn identify(blocks: u64, formats: u8, format: (u8, u16, u8)) -> KVec<u8> {
        let mut data = KVec::from_elem(0, 4096, GFP_KERNEL).unwrap();
        let (index, metadata, shift) = format;
        let at = Namespace::LBAF + 4 * usize::from(index);

        data[..8].copy_from_slice(&blocks.to_le_bytes());
        data[8..16].copy_from_slice(&blocks.to_le_bytes());
        data[Namespace::NLBAF] = formats - 1;
        data[Namespace::FLBAS] = index & 0xf | index >> 4 << 5;
        data[at..at + 2].copy_from_slice(&metadata.to_le_bytes());
        data[at + 2] = shift;
        data
    }

    fn parse(data: &[u8]) -> Result<Namespace, Refusal> {
        Namespace::parse(1, (1, 4), Ids::NONE, data)
    }

    #[test]
    fn formats_are_found_or_refused() {
        // CAST: A positive number.
        const MAX: u64 = i64::MAX as u64;
        let large = |blocks, shift| Err(Refusal::TooLarge { blocks, shift });
        // Blocks, number of formats, the one in use, what becomes of it.
        let table = [
            (1, 1, (0, 0, 9), Ok(9)),
            (1, 2, (1, 0, 12), Ok(12)),
            (1, 16, (15, 0, 10), Ok(10)),
            (1, 17, (16, 0, 11), Ok(11)),
            (1, 64, (63, 0, 9), Ok(9)),
            (1, 1, (0, 0, 8), Err(Refusal::BlockSize(8))),
            (1, 1, (0, 0, 13), Err(Refusal::BlockSize(13))),
            (1, 1, (0, 0, 255), Err(Refusal::BlockSize(255))),
            (
                1,
                1,
                (0, 8, 9),
                Err(Refusal::Metadata {
                    bytes: 8,
                    protection: 0,
                }),
            ),
            (MAX >> 9, 1, (0, 0, 9), Ok(9)),
            ((MAX >> 9) + 1, 1, (0, 0, 9), large((MAX >> 9) + 1, 9)),
            (u64::MAX, 1, (0, 0, 12), large(u64::MAX, 12)),
            // Not active: all is zero.
            (0, 1, (0, 0, 0), Err(Refusal::Empty)),
        ];

        for (blocks, formats, format, want) in table {
            let got = parse(&identify(blocks, formats, format));
            assert_eq!(got.map(|namespace| namespace.shift), want);
        }
    }

    #[test]
    fn what_has_no_capacity_is_not_there() {
        let mut data = identify(1, 1, (0, 0, 9));
        data[Namespace::NCAP] = 0;
        assert_eq!(parse(&data).map(|_| ()), Err(Refusal::Empty));
    }

    #[test]
    fn refusals_name_the_field_and_its_value() {
        for (refusal, text) in [
            (
                Refusal::Unidentified(0x10b),
                "Identify fails, sct 0x1 / sc 0xb",
            ),
            (Refusal::CommandSet(2), "CSI is 2: a zoned namespace"),
            (Refusal::CommandSet(1), "CSI is 1: not the NVM command set"),
            (Refusal::NotReady(4), "NSTAT is 0x4: not ready"),
            (Refusal::Empty, "NCAP or NSZE is 0: not there"),
            (
                Refusal::Metadata {
                    bytes: 8,
                    protection: 0x8,
                },
                "MS is 8: blocks have metadata; DPS is 0x8: no protection information",
            ),
            (
                Refusal::Metadata {
                    bytes: 16,
                    protection: 3,
                },
                "MS is 16: blocks have metadata; DPS is 0x3: protection information of type 3",
            ),
            (
                Refusal::BlockSize(13),
                "LBADS is 13: blocks are not 512 to 4096 bytes",
            ),
            (
                Refusal::TooLarge {
                    blocks: 1 << 60,
                    shift: 9,
                },
                "NSZE is 0x1000000000000000, of blocks of 2^9 bytes: 2^63 bytes or more",
            ),
            (Refusal::from(EIO), "its Identify structure is cut short"),
        ] {
            assert!(is_written(fmt!("{refusal}"), text));
        }
    }

    #[test]
    fn zeroes_deallocate_where_both_are_said() {
        for (dlfeat, deallocates) in [
            (0x0, false),
            (0x1, false),
            (0x8, false),
            (0x9, true),
            (0xa, false),
            (0x1f, false),
            (0x19, true),
        ] {
            let mut data = identify(1, 1, (0, 0, 9));
            data[Namespace::DLFEAT] = dlfeat;
            assert_eq!(parse(&data).unwrap().zeroes_when_deallocated, deallocates);
        }
    }

    #[test]
    fn sizes_are_in_blocks() {
        for (shift, sectors) in [(9, 10), (10, 20), (12, 80)] {
            let namespace = parse(&identify(10, 1, (0, 0, shift))).unwrap();
            assert_eq!(namespace.sectors(), sectors);
        }
    }

    #[test]
    fn a_short_structure_is_an_error() {
        // All that may be there is: hints, atomic writes, identifiers, the last of all formats.
        let mut data = identify(1, 64, (63, 0, 9));
        data[Namespace::NSFEAT] = 3 << 4 | Namespace::NSFEAT_ATOMICS;
        data[Namespace::NAWUPF] = 1;
        assert!(needs(383, &data, Refusal::Short, |data| {
            Namespace::parse(1, (2, 1), Ids::NONE, data).map(|_| ())
        }));
        // Nothing but the first format.
        let data = identify(1, 1, (0, 0, 9));
        assert!(needs(131, &data, Refusal::Short, |data| {
            Namespace::parse(1, (1, 0), Ids::NONE, data).map(|_| ())
        }));
        // What is no disk is refused for that reason only if nothing of it is cut off.
        for (data, refusal) in [
            (identify(0, 1, (0, 0, 9)), Refusal::Empty),
            (identify(1, 1, (0, 0, 8)), Refusal::BlockSize(8)),
        ] {
            let refuse = |data: &[u8]| match parse(data).map(|_| ()) {
                Err(Refusal::Short) => Err(Refusal::Short),
                other => {
                    assert_eq!(other, Err(refusal));
                    Ok(())
                }
            };
            assert!(needs(131, &data, Refusal::Short, refuse));
        }
    }

    /// A structure with each of these 16-bit fields, which begins with `optperf` in its features.
    fn with_hints(optperf: u8, fields: &[(usize, u16)]) -> KVec<u8> {
        let mut data = identify(1, 1, (0, 0, 9));
        data[Namespace::NSFEAT] = optperf << 4;
        for &(at, value) in fields {
            data[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
        data
    }

    #[test]
    fn hints_count_where_they_are_said_to() {
        let fields = [
            (Namespace::NPWG, 7),
            (Namespace::NPDG, 15),
            (Namespace::NPDA, 31),
            (Namespace::NOWS, 63),
            (Namespace::NOIOB, 128),
            (Namespace::NAWUPF, 8),
            (Namespace::NABSPF, 16),
        ];
        let none = Hints {
            boundary: 128,
            ..Hints::NONE
        };
        let all = Hints {
            write_granularity: 8,
            write_size: 64,
            discard_granularity: 16,
            discard_alignment: 32,
            ..none
        };
        let large = Hints {
            discard_granularity: 0,
            ..all
        };
        for (version, optperf, hints, has_large) in [
            ((1, 4), 0, none, false),
            ((1, 4), 1, all, false),
            ((2, 0), 2, none, false),
            ((2, 0), 3, all, false),
            ((2, 1), 1, all, false),
            ((2, 1), 2, large, true),
            ((2, 1), 3, all, true),
            ((2, 1), 4, none, false),
        ] {
            let data = with_hints(optperf, &fields);
            let namespace = Namespace::parse(1, version, Ids::NONE, &data).unwrap();
            assert_eq!(namespace.hints, hints);
            assert_eq!(namespace.has_large_hints, has_large);
        }

        let mut data = with_hints(0, &fields);
        data[Namespace::NSFEAT] |= Namespace::NSFEAT_ATOMICS;
        let hints = parse(&data).unwrap().hints;
        assert_eq!((hints.atomic, hints.atomic_boundary), (9, 17));
        data[Namespace::NAWUPF] = 0;
        let hints = parse(&data).unwrap().hints;
        assert_eq!((hints.atomic, hints.atomic_boundary), (0, 0));
        data[Namespace::NABO] = 1;
        assert!(parse(&data).unwrap().hints.has_atomic_offset);
    }

    #[test]
    fn larger_hints_come_first() {
        let mut namespace = parse(&with_hints(1, &[(Namespace::NPDG, 15)])).unwrap();
        let of = |namespace: &Namespace| {
            let hints = namespace.hints;
            (hints.discard_granularity, hints.discard_alignment)
        };
        namespace.add_nvm(&zeroed()).unwrap();
        assert_eq!(of(&namespace), (16, 1));
        let mut data = zeroed();
        data[268..272].copy_from_slice(&0x1_0000u32.to_le_bytes());
        data[284..288].copy_from_slice(&0x2_0000u32.to_le_bytes());
        namespace.add_nvm(&data).unwrap();
        assert_eq!(of(&namespace), (0x1_0000, 0x2_0000));
        assert!(needs(288, &data, EIO, |data| namespace.add_nvm(data)));
    }

    #[test]
    fn what_all_command_sets_have_is_read() {
        let mut namespace = parse(&identify(1, 1, (0, 0, 9))).unwrap();
        let mut data = zeroed();
        assert_eq!(namespace.add_any(&data), Err(Refusal::NotReady(0)));
        data[14] = 1;
        assert_eq!(namespace.add_any(&data), Ok(()));
        assert!(!namespace.rotational && !namespace.no_write_cache && !namespace.read_only);
        data[0] = 1 << 4;
        assert_eq!(namespace.add_any(&data), Ok(()));
        assert!(namespace.rotational && !namespace.no_write_cache && !namespace.read_only);
        data[0] = 1 << 5;
        data[8] = 1;
        assert_eq!(namespace.add_any(&data), Ok(()));
        assert!(!namespace.rotational && namespace.no_write_cache && namespace.read_only);
        let short = Refusal::Short;
        assert!(needs(15, &data, short, |data| namespace.add_any(data)));
    }

    #[test]
    fn identifiers_are_those_of_the_list_or_of_the_structure() {
        let mut data = identify(1, 1, (0, 0, 9));
        data[Namespace::NGUID..][..16].fill(1);
        data[Namespace::EUI64..][..8].fill(2);
        let none = Ids::NONE;
        let listed = Ids {
            eui64: [4; 8],
            nguid: [3; 16],
            uuid: [5; 16],
            command_set: 0,
        };
        for (version, ids, nguid, eui64) in [
            ((1, 0), none, 0, 0),
            ((1, 1), none, 0, 2),
            ((1, 2), none, 1, 2),
            ((1, 4), listed, 3, 4),
        ] {
            let namespace = Namespace::parse(1, version, ids, &data).unwrap();
            assert_eq!(namespace.ids.nguid, [nguid; 16]);
            assert_eq!(namespace.ids.eui64, [eui64; 8]);
            assert_eq!(namespace.ids.uuid, ids.uuid);
        }
    }
}
