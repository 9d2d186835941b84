// SPDX-License-Identifier: GPL-2.0

//! The route of a device to the memory of another.
//!
//! Plain Rust, without a kernel call.

/// Route of an importer to memory of another device.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// By addresses on the bus. Nothing is mapped.
    Bus,
    /// Through the host bridge, and so through the IOMMU if there is one.
    Bridge,
}

impl Route {
    /// Returns the route by the DMA addresses `addrs` of a page that is mapped twice at the same
    /// time. The page is at `paddr` for the CPU and at `bus` on the bus; `translated` says that an
    /// IOMMU translates for the device.
    pub(crate) fn of(paddr: u64, bus: u64, addrs: [u64; 2], translated: bool) -> Self {
        if addrs != [bus; 2] {
            Self::Bridge
        } else if bus == paddr && !translated {
            // Either, and both lead there: the direct map is checked against the device's DMA mask.
            Self::Bridge
        } else {
            // With an IOMMU there is no direct map.
            Self::Bus
        }
    }
}

#[kernel::prelude::kunit_tests(phyr_dma_buf_route)]
mod tests {
    use super::Route;

    #[test]
    fn an_iommu_gives_two_addresses() {
        assert!(Route::of(16, 16, [80, 81], true) == Route::Bridge);
        // One of them that on the bus, by chance.
        assert!(Route::of(16, 16, [16, 81], true) == Route::Bridge);
        assert!(Route::of(16, 48, [80, 48], true) == Route::Bridge);
    }

    #[test]
    fn the_bus_gives_its_own_twice() {
        assert!(Route::of(16, 16, [16, 16], true) == Route::Bus);
        assert!(Route::of(16, 48, [48, 48], true) == Route::Bus);
        assert!(Route::of(16, 48, [48, 48], false) == Route::Bus);
    }

    #[test]
    fn a_direct_map_gives_the_physical_one() {
        assert!(Route::of(16, 48, [16, 16], false) == Route::Bridge);
        // Both lead there.
        assert!(Route::of(16, 16, [16, 16], false) == Route::Bridge);
    }
}
