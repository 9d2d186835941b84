// SPDX-License-Identifier: GPL-2.0

//! Attributes of a mapping: its direction, and the kind of the memory.
//!
//! The DMA API is told the same ones when a mapping is made and when it ends.
//!
//! C headers: [`include/linux/dma-direction.h`](srctree/include/linux/dma-direction.h),
//! [`include/linux/dma-mapping.h`](srctree/include/linux/dma-mapping.h)

use kernel::{
    bindings,
    dma::DataDirection,
    prelude::*, //
};

/// The kind of memory that is mapped. A mapping is of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryKind {
    /// The system's own, in pages that the kernel manages.
    System,
    /// A device's: registers or memory behind a BAR (`DMA_ATTR_MMIO`). It is never cached, and
    /// never bounced.
    Mmio,
}

/// The direction of a mapping and the kind of its memory, in one byte.
///
/// # Invariants
///
/// The lower two bits are those of a direction other than
/// [`DataDirection::None`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapAttrs(u8);

impl MapAttrs {
    const DIRECTION: u8 = 3;
    /// `DMA_ATTR_MMIO`
    const MMIO: u8 = 1 << 2;

    /// The attributes in the state of what is not mapped.
    pub(crate) const UNMAPPED: Self = Self(DataDirection::Bidirectional as u8);

    /// Makes the attributes of a mapping.
    ///
    /// # Errors
    ///
    /// - `EINVAL`: `dir` is [`DataDirection::None`].
    #[inline]
    pub(crate) fn new(dir: DataDirection, kind: MemoryKind) -> Result<Self> {
        if dir == DataDirection::None {
            return Err(EINVAL);
        }
        let mmio = match kind {
            MemoryKind::System => 0,
            MemoryKind::Mmio => Self::MMIO,
        };
        // INVARIANT: `dir` is not `None`.
        // CAST: the enumeration ends at 3.
        Ok(Self(dir as u8 | mmio))
    }

    /// Returns whether the memory is a device's.
    #[inline]
    pub fn is_mmio(self) -> bool {
        self.0 & Self::MMIO != 0
    }

    /// Returns the direction.
    #[inline]
    pub fn direction(self) -> DataDirection {
        // CAST: the enumeration ends at 3.
        const BOTH: u8 = DataDirection::Bidirectional as u8;
        const TO_DEVICE: u8 = DataDirection::ToDevice as u8;
        const FROM_DEVICE: u8 = DataDirection::FromDevice as u8;

        // All four, so that it compiles to the number itself.
        match self.0 & Self::DIRECTION {
            BOTH => DataDirection::Bidirectional,
            TO_DEVICE => DataDirection::ToDevice,
            FROM_DEVICE => DataDirection::FromDevice,
            // By the type invariant not one of these.
            _ => DataDirection::None,
        }
    }

    /// Returns the direction as C has it.
    #[inline]
    pub(crate) fn raw_direction(self) -> bindings::dma_data_direction {
        self.direction().into()
    }

    /// Returns the `DMA_ATTR_*` bits.
    #[inline]
    pub(crate) fn raw_attrs(self) -> usize {
        let attrs = if self.is_mmio() {
            bindings::DMA_ATTR_MMIO
        } else {
            0
        };
        // CAST: an `unsigned long` is a `usize`.
        attrs as usize
    }
}
