// SPDX-License-Identifier: GPL-2.0

//! Coherent memory as a range that a device may use: rings, tables and the like.
//!
//! Such memory is [`kernel::dma::Coherent`], which is mapped from the start; what descriptors and
//! registers want of it is a [`DmaVec`].

use super::types::{
    DmaAddr,
    DmaVec, //
};
use kernel::{
    dma::{
        Coherent,
        CoherentView, //
    },
    io::IoBase,
    ptr::KnownSize, //
};

/// The whole of a view, which can be a part of the allocation: an entry of a table, or a field.
///
/// # Examples
///
/// ```
/// use kernel::{device::{Bound, Device}, dma::Coherent, io::io_project, prelude::*};
/// use phyr::DmaVec;
///
/// fn tables(dev: &Device<Bound>) -> Result {
///     let tables: Coherent<[[u64; 16]]> = Coherent::zeroed_slice(dev, 32, GFP_KERNEL)?;
///     let all = DmaVec::from(&tables);
///     let third = DmaVec::from(io_project!(&tables, [try: 3]));
///     assert_eq!(all.len(), 32 * 128);
///     assert_eq!(third.len(), 128);
///     assert_eq!(third.addr().into_raw(), all.addr().into_raw() + 3 * 128);
///     Ok(())
/// }
/// ```
impl<T: ?Sized + KnownSize> From<CoherentView<'_, T>> for DmaVec {
    #[inline]
    fn from(view: CoherentView<'_, T>) -> Self {
        let len = T::size(view.as_sys_mem().as_ptr());
        Self::new(DmaAddr::from_raw(view.dma_address()), len)
    }
}

/// The whole allocation.
impl<T: ?Sized + KnownSize> From<&Coherent<T>> for DmaVec {
    #[inline]
    fn from(memory: &Coherent<T>) -> Self {
        memory.as_view().into()
    }
}
