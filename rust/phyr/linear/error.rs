// SPDX-License-Identifier: GPL-2.0

//! Errors of a linear mapping, each with the phyr and the byte.

use kernel::{
    fmt,
    prelude::*, //
};

/// An end of a phyr.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// Its beginning.
    Start,
    /// Its end.
    End,
}

/// A limit of the device, or of the DMA API on its behalf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The longest segment that the device takes, in bytes.
    Segment,
    /// The longest mapping that the DMA API makes for it, in bytes.
    MappingSize,
    /// The distance of the addresses that no segment may cross.
    Boundary,
    /// The highest address of its DMA mask.
    Mask,
}

/// The reason for which memory cannot be mapped as one range of DMA addresses.
///
/// All are found before anything is allocated but [`NoSpace`](Self::NoSpace),
/// [`NoMemory`](Self::NoMemory), and what the DMA API only shows afterwards: a copy
/// ([`Bounced`](Self::Bounced)) that nothing told of, another failure ([`Failed`](Self::Failed)).
/// `phyr` is the index of a phyr in its source, `offset` a position in the buffer in bytes.
///
/// As an [`Error`] each reason has an errno of its own; Documentation/errors.rst has a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinearError {
    /// There is nothing to map.
    Empty,
    /// The sum of the lengths, or the IOVA space that they need, overflows.
    Overflow,
    /// No IOMMU translates for the device, and this phyr does not follow the one before it.
    NotTranslated {
        /// The index of the phyr.
        phyr: usize,
        /// Its position in the buffer.
        offset: u64,
    },
    /// The phyr before ends within a granule of the IOMMU, and this one begins elsewhere within
    /// one.
    Gap {
        /// The index of the phyr.
        phyr: usize,
        /// Its position in the buffer.
        offset: u64,
    },
    /// A phyr that is not the first begins, or one that is not the last ends, within a granule.
    Misaligned {
        /// The index of the phyr.
        phyr: usize,
        /// The end of it that is not at a granule.
        edge: Edge,
        /// The position of that end in the buffer.
        offset: u64,
        /// The granule in bytes.
        granule: u64,
    },
    /// It is over a limit of the device.
    Limit {
        /// The limit.
        limit: Limit,
        /// The value that was asked for: a length; for [`Limit::Mask`] the last address, at the
        /// lowest place that there can be.
        asked: u64,
        /// The most that the limit allows.
        max: u64,
    },
    /// The alignment that was asked for cannot be had: so far into it does the memory begin.
    Alignment {
        /// The alignment in bytes.
        align: u64,
        /// The distance after a multiple of it at which the range would begin.
        excess: u64,
    },
    /// The device could be given a copy of the memory only (bounce buffers), which is not the
    /// memory.
    Bounced,
    /// No IOVA space, as far as the DMA API tells: it says no more of a failure.
    NoSpace,
    /// No memory, such as for a page table.
    NoMemory,
    /// Something else failed: the source of the phyrs, or the DMA API.
    Failed(Error),
}

impl fmt::Display for LinearError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Empty => f.write_str("nothing to map"),
            Self::Overflow => f.write_str("the length overflows"),
            Self::NotTranslated { phyr, offset } => write!(
                f,
                "no IOMMU translates for the device, and phyr {phyr} at byte {offset} does \
                 not follow the one before"
            ),
            Self::Gap { phyr, offset } => write!(f, "phyr {phyr} leaves a gap at byte {offset}"),
            Self::Misaligned {
                phyr,
                edge,
                offset,
                granule,
            } => {
                let verb = match edge {
                    Edge::Start => "begins",
                    Edge::End => "ends",
                };
                write!(
                    f,
                    "phyr {phyr} {verb} within a granule of {granule} bytes, at byte {offset}"
                )
            }
            Self::Limit { limit, asked, max } => {
                let name = match limit {
                    Limit::Segment => "the device's segment size",
                    Limit::MappingSize => "the longest mapping",
                    Limit::Boundary => "the device's segment boundary",
                    Limit::Mask => "the device's DMA mask",
                };
                write!(f, "{asked:#x} is over {name}, {max:#x}")
            }
            Self::Alignment { align, excess } => write!(
                f,
                "the memory begins {excess} bytes after a multiple of {align}"
            ),
            Self::Bounced => f.write_str("the device could reach a copy only"),
            Self::NoSpace => f.write_str("no IOVA space left"),
            Self::NoMemory => f.write_str("no memory"),
            Self::Failed(e) => write!(f, "error {}", e.to_errno()),
        }
    }
}

impl From<LinearError> for Error {
    fn from(reason: LinearError) -> Self {
        match reason {
            LinearError::Empty => EINVAL,
            LinearError::Overflow => EOVERFLOW,
            LinearError::NotTranslated { .. } => EOPNOTSUPP,
            LinearError::Gap { .. } => EILSEQ,
            LinearError::Misaligned { .. } => EDOM,
            LinearError::Limit { limit, .. } => match limit {
                Limit::Segment => EMSGSIZE,
                Limit::MappingSize => EFBIG,
                Limit::Boundary => EXDEV,
                Limit::Mask => ERANGE,
            },
            LinearError::Alignment { .. } => EADDRNOTAVAIL,
            LinearError::Bounced => EPERM,
            LinearError::NoSpace => ENOSPC,
            LinearError::NoMemory => ENOMEM,
            LinearError::Failed(e) => e,
        }
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(phyr_linear_error)]
mod tests {
    use super::*;
    use kernel::fmt::Write;

    /// Text of at most this many bytes.
    struct Text([u8; 160], usize);

    impl Write for Text {
        fn write_str(&mut self, s: &str) -> fmt::Result {
            for &byte in s.as_bytes() {
                *self.0.get_mut(self.1).ok_or(fmt::Error)? = byte;
                self.1 += 1;
            }
            Ok(())
        }
    }

    fn all() -> [LinearError; 14] {
        let (phyr, offset) = (3, 0x3000);
        let limit = |limit| LinearError::Limit {
            limit,
            asked: 2,
            max: 1,
        };
        [
            LinearError::Empty,
            LinearError::Overflow,
            LinearError::NotTranslated { phyr, offset },
            LinearError::Gap { phyr, offset },
            LinearError::Misaligned {
                phyr,
                edge: Edge::End,
                offset,
                granule: 4096,
            },
            limit(Limit::Segment),
            limit(Limit::MappingSize),
            limit(Limit::Boundary),
            limit(Limit::Mask),
            LinearError::Alignment {
                align: 65536,
                excess: 512,
            },
            LinearError::Bounced,
            LinearError::NoSpace,
            LinearError::NoMemory,
            LinearError::Failed(EREMOTEIO),
        ]
    }

    #[test]
    fn each_reason_has_an_errno_of_its_own() {
        for (at, reason) in all().into_iter().enumerate() {
            let errno = Error::from(reason).to_errno();
            let same = |other: &LinearError| Error::from(*other).to_errno() == errno;
            assert_eq!(all().iter().filter(|other| same(other)).count(), 1);
            assert_eq!(all().iter().position(same), Some(at));
        }
    }

    #[test]
    fn each_reason_says_what_and_where() {
        let start = LinearError::Misaligned {
            phyr: 3,
            edge: Edge::Start,
            offset: 0x3000,
            granule: 4096,
        };
        for reason in Iterator::chain(all().into_iter(), [start]) {
            let mut text = Text([0; 160], 0);
            assert!(text.write_fmt(fmt!("{reason}")).is_ok());
            let text = core::str::from_utf8(text.0.get(..text.1).unwrap_or(&[])).unwrap_or("");
            assert!(text.len() > 8 && !text.contains('\n'));
            match reason {
                LinearError::Gap { .. } => assert_eq!(text, "phyr 3 leaves a gap at byte 12288"),
                LinearError::NotTranslated { .. } => {
                    assert!(text.contains("phyr 3") && text.contains("byte 12288"));
                }
                LinearError::Misaligned { edge, .. } => {
                    assert!(text.contains("phyr 3") && text.contains("byte 12288"));
                    assert_eq!(text.contains("begins"), edge == Edge::Start);
                    assert_eq!(text.contains("ends"), edge == Edge::End);
                }
                _ => {}
            }
        }
    }
}
