// SPDX-License-Identifier: GPL-2.0

//! The reason why the DMA API did not map memory.
//!
//! The DMA API returns `DMA_MAPPING_ERROR`, or `-ENOMEM`, whatever the reason. The reason is worked
//! out afterwards, from [`Facts`] about the device and the machine, and decides whether a request
//! is tried again (the failure passes) or ended (it lasts). Plain Rust, without a kernel call; the
//! facts are looked up in `diagnose.rs`.

use kernel::{
    fmt,
    prelude::*, //
};

/// Facts about a mapping that was not made, and about its device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// The length in bytes of what was to be mapped.
    pub(crate) len: u64,
    /// The highest address of the device's DMA mask.
    pub(crate) mask: u64,
    /// An IOMMU translates for the device.
    pub(crate) is_translated: bool,
    /// The DMA mask covers the memory's addresses or, behind an IOMMU, as many bytes.
    pub(crate) is_reached: bool,
    /// The DMA API gives the device a copy of the memory only.
    pub(crate) is_copied: bool,
    /// The longest copy in bytes; zero if there are no bounce buffers that the device can reach.
    pub(crate) max_copy: u64,
    /// The IOMMU has an IOVA range as long now.
    pub(crate) has_space: bool,
}

impl Facts {
    /// Returns the reason that the facts leave.
    pub(crate) fn reason(&self) -> Failure {
        let &Self {
            len,
            mask,
            max_copy,
            ..
        } = self;
        // Where nothing translates, what is out of reach is copied.
        let is_copied = self.is_copied || (!self.is_translated && !self.is_reached);

        if !self.is_reached && (self.is_translated || max_copy == 0) {
            return Failure::OutOfReach { mask };
        }
        if is_copied && max_copy == 0 {
            return Failure::NoBounceBuffers { len };
        }
        if is_copied && len > max_copy {
            return Failure::TooLong { len, max: max_copy };
        }
        if self.is_translated && !self.has_space {
            return Failure::NoSpace;
        }
        if is_copied {
            return Failure::BounceBuffersFull;
        }
        Failure::NoMemory
    }
}

/// The reason why memory was not mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No IOVA space. Passes when other mappings end.
    NoSpace,
    /// No memory, such as for a page table. Passes.
    NoMemory,
    /// All bounce buffers are in use. Passes when other mappings end.
    BounceBuffersFull,
    /// The device may have a copy only, and there are no bounce buffers that it can reach.
    NoBounceBuffers {
        /// The length of the memory in bytes.
        len: u64,
    },
    /// The device may have a copy only, and no bounce buffer is as long.
    TooLong {
        /// The length of the memory in bytes.
        len: u64,
        /// The length of the longest bounce buffer.
        max: u64,
    },
    /// The memory is beyond the DMA mask, and there is no bounce buffer to copy it to.
    OutOfReach {
        /// The DMA mask.
        mask: u64,
    },
}

impl Failure {
    /// Returns a number of the reason, counted from zero, if the same mapping will fail whenever it
    /// is tried.
    pub(crate) fn is_final(self) -> Option<u32> {
        match self {
            Self::NoSpace | Self::NoMemory | Self::BounceBuffersFull => None,
            Self::NoBounceBuffers { .. } => Some(0),
            Self::TooLong { .. } => Some(1),
            Self::OutOfReach { .. } => Some(2),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoSpace => f.write_str("no IOVA space left"),
            Self::NoMemory => f.write_str("no memory"),
            Self::BounceBuffersFull => f.write_str("all bounce buffers are in use"),
            Self::NoBounceBuffers { len } => write!(
                f,
                "the device may have a copy of these {len} bytes only, and there are no bounce \
                 buffers that it can reach"
            ),
            Self::TooLong { len, max } => write!(
                f,
                "the device may have a copy of these {len} bytes only, and a bounce buffer has \
                 {max}"
            ),
            Self::OutOfReach { mask } => write!(
                f,
                "beyond the device's DMA mask, {mask:#x}, and there is nothing to copy to"
            ),
        }
    }
}

impl From<Failure> for Error {
    fn from(reason: Failure) -> Self {
        match reason {
            Failure::NoSpace => ENOSPC,
            Failure::NoMemory => ENOMEM,
            Failure::BounceBuffersFull => EAGAIN,
            Failure::NoBounceBuffers { .. } => ENOBUFS,
            Failure::TooLong { .. } => EFBIG,
            Failure::OutOfReach { .. } => ERANGE,
        }
    }
}

#[cfg(CONFIG_KUNIT = "y")]
#[kunit_tests(phyr_map_failure)]
mod tests {
    use super::*;

    /// Nothing is wrong with the device, the machine or the memory.
    const WELL: Facts = Facts {
        len: 4096,
        mask: u64::MAX,
        is_translated: false,
        is_reached: true,
        is_copied: false,
        max_copy: 0,
        has_space: false,
    };

    const TRANSLATED: Facts = Facts {
        is_translated: true,
        has_space: true,
        ..WELL
    };

    fn errno(facts: Facts) -> Error {
        facts.reason().into()
    }

    #[test]
    fn where_nothing_translates() {
        assert_eq!(errno(WELL), ENOMEM);

        let copied = Facts {
            is_copied: true,
            ..WELL
        };
        assert_eq!(errno(copied), ENOBUFS);
        for (max_copy, error) in [(1, EFBIG), (4095, EFBIG), (4096, EAGAIN), (1 << 18, EAGAIN)] {
            assert_eq!(errno(Facts { max_copy, ..copied }), error);
        }

        let beyond = Facts {
            is_reached: false,
            ..WELL
        };
        assert_eq!(errno(beyond), ERANGE);
        for (max_copy, error) in [(4095, EFBIG), (4096, EAGAIN)] {
            assert_eq!(errno(Facts { max_copy, ..beyond }), error);
        }
    }

    #[test]
    fn behind_an_iommu() {
        assert_eq!(errno(TRANSLATED), ENOMEM);

        let full = Facts {
            has_space: false,
            ..TRANSLATED
        };
        assert_eq!(errno(full), ENOSPC);
        // A copy has an address, too.
        let copied = Facts {
            is_copied: true,
            max_copy: 4096,
            ..full
        };
        assert_eq!(errno(copied), ENOSPC);
        let copied = Facts {
            has_space: true,
            ..copied
        };
        assert_eq!(errno(copied), EAGAIN);
        let none = Facts {
            max_copy: 0,
            ..copied
        };
        assert_eq!(errno(none), ENOBUFS);
        // More addresses than the device has: a copy would not help.
        for max_copy in [0, 4096] {
            let long = Facts {
                is_reached: false,
                max_copy,
                ..TRANSLATED
            };
            assert_eq!(errno(long), ERANGE);
        }
    }

    #[test]
    fn what_passes_is_told_from_what_does_not() {
        for reason in [
            Failure::NoSpace,
            Failure::NoMemory,
            Failure::BounceBuffersFull,
        ] {
            assert_eq!(reason.is_final(), None);
        }
        let all = [
            Failure::NoBounceBuffers { len: 1 },
            Failure::TooLong { len: 2, max: 1 },
            Failure::OutOfReach { mask: 1 },
        ];
        for (nr, reason) in (0..).zip(all) {
            assert_eq!(reason.is_final(), Some(nr));
        }
    }
}
