// SPDX-License-Identifier: GPL-2.0

//! Reasons why a device is not attached to a domain, and why memory is not mapped in one.

use kernel::{
    fmt,
    prelude::*, //
};

/// Reason why a device cannot be attached to a domain of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachError {
    /// No IOMMU translates for the device.
    NoIommu,
    /// The IOMMU's driver has no paging domains.
    Unsupported,
    /// The IOMMU cannot isolate the device: its group has this many devices.
    SharedGroup(u32),
    /// The device's accesses bypass the processors' caches, which only the DMA API makes up for.
    NotCoherent,
    /// The device is in a domain other than that of the DMA API.
    InUse,
    /// This many dma-bufs are mapped for the device; they would be out of its reach.
    DmaBufs(usize),
    /// A region that the platform wants mapped one to one all the time cannot be.
    Direct {
        /// First address of the region.
        first: u64,
        /// Last address of the region.
        last: u64,
        /// `EDOM`: the region is not in whole granules. `EOPNOTSUPP`: the IOMMU's driver maps
        /// nothing before a device is attached. Otherwise the error of `iommu_map()`.
        error: Error,
    },
    /// Another error.
    Failed(Error),
}

impl From<Error> for AttachError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<AttachError> for Error {
    fn from(error: AttachError) -> Self {
        match error {
            AttachError::NoIommu => ENODEV,
            AttachError::Unsupported => EOPNOTSUPP,
            AttachError::SharedGroup(_) => EMLINK,
            AttachError::NotCoherent => EPERM,
            AttachError::InUse | AttachError::DmaBufs(_) => EBUSY,
            AttachError::Direct { error, .. } | AttachError::Failed(error) => error,
        }
    }
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NoIommu => f.write_str("no IOMMU translates for the device"),
            Self::Unsupported => f.write_str("the IOMMU has no domains that can be filled"),
            Self::SharedGroup(devices) => {
                write!(f, "the IOMMU cannot tell {devices} devices apart")
            }
            Self::NotCoherent => {
                f.write_str("the device does not look into the processors' caches")
            }
            Self::InUse => f.write_str("the device is in another domain"),
            Self::DmaBufs(count) => write!(f, "{count} dma-bufs are mapped for the device"),
            Self::Direct { first, last, error } => write!(
                f,
                "the platform wants {first:#x} to {last:#x} mapped all the time: {error:?}"
            ),
            Self::Failed(error) => write!(f, "{error:?}"),
        }
    }
}

/// Reason why memory cannot be mapped in a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DomainError {
    /// There is nothing to map.
    Empty,
    /// The length overflows, or the end of the range does.
    Overflow,
    /// A phyr does not begin and end at multiples of the granule.
    Misaligned {
        /// Index of the phyr.
        phyr: usize,
        /// Offset in bytes of the phyr in the memory.
        offset: u64,
        /// Granule in bytes.
        granule: u64,
    },
    /// The IOVA is not a multiple of the granule.
    Unaligned {
        /// The IOVA.
        iova: u64,
        /// Granule in bytes.
        granule: u64,
    },
    /// The range is not within the IOVAs of the domain.
    OutOfAperture {
        /// First IOVA of the range.
        iova: u64,
        /// Last IOVA of the range.
        end: u64,
        /// First IOVA of the domain.
        first: u64,
        /// Last IOVA of the domain.
        last: u64,
    },
    /// The platform has reserved the IOVA, such as for interrupts.
    Reserved,
    /// The range overlaps the one allocated at this IOVA.
    Overlap(u64),
    /// No range of that length is free.
    NoSpace,
    /// No memory, such as for a page table.
    NoMemory,
    /// The source of the phyrs failed, or the IOMMU's driver.
    Failed(Error),
}

impl From<Error> for DomainError {
    fn from(error: Error) -> Self {
        match error {
            ENOMEM => Self::NoMemory,
            error => Self::Failed(error),
        }
    }
}

impl From<DomainError> for Error {
    fn from(error: DomainError) -> Self {
        match error {
            DomainError::Empty => EINVAL,
            DomainError::Overflow => EOVERFLOW,
            DomainError::Misaligned { .. } => EDOM,
            DomainError::Unaligned { .. } => EFAULT,
            DomainError::OutOfAperture { .. } => ERANGE,
            DomainError::Reserved => EADDRNOTAVAIL,
            DomainError::Overlap(_) => EEXIST,
            DomainError::NoSpace => ENOSPC,
            DomainError::NoMemory => ENOMEM,
            DomainError::Failed(error) => error,
        }
    }
}

impl fmt::Display for DomainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Empty => f.write_str("nothing to map"),
            Self::Overflow => f.write_str("the length overflows"),
            Self::Misaligned {
                phyr,
                offset,
                granule,
            } => write!(
                f,
                "phyr {phyr} at byte {offset} is not in whole granules of {granule} bytes"
            ),
            Self::Unaligned { iova, granule } => write!(
                f,
                "{iova:#x} is not a multiple of the granule of {granule} bytes"
            ),
            Self::OutOfAperture {
                iova,
                end,
                first,
                last,
            } => write!(
                f,
                "{iova:#x} to {end:#x} is not within {first:#x} to {last:#x}, which the domain has"
            ),
            Self::Reserved => f.write_str("the platform has reserved the address"),
            Self::Overlap(iova) => write!(f, "there is a mapping already, at {iova:#x}"),
            Self::NoSpace => f.write_str("no IOVA space left in the domain"),
            Self::NoMemory => f.write_str("no memory"),
            Self::Failed(error) => write!(f, "{error:?}"),
        }
    }
}
