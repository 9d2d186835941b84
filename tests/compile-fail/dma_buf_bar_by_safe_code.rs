// SPDX-License-Identifier: GPL-2.0

//! A device's BAR is given away, which its driver must not use any more, by safe code.

use kernel::prelude::*;
use phyr_dma_buf::{AccessMode, BarMemory, DeviceOnly, Exported, Exporter, PeerToPeer};

pub fn given<E: Exporter<Memory = BarMemory, CpuMapping = DeviceOnly>>(
    peer: &PeerToPeer<'_>,
    exporter: E,
    access: AccessMode,
) -> Result<Exported<E>> {
    #[cfg(not(compile_fail))]
    // SAFETY: it is never called.
    let exported = unsafe { peer.export(2, &[(0, 4096)], exporter, access) };
    #[cfg(compile_fail)]
    let exported = peer.export(2, &[(0, 4096)], exporter, access);
    //~^ error[E0133]: call to unsafe function
    exported
}
