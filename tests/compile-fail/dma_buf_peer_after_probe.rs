// SPDX-License-Identifier: GPL-2.0

//! Peer-to-peer DMA is set up after the probe.

use kernel::{
    device::{Bound, Core},
    pci,
    prelude::*,
};
use phyr_dma_buf::PeerToPeer;

pub fn set_up(probed: &pci::Device<Core<'_>>, pdev: &pci::Device<Bound>) -> Result {
    PeerToPeer::new(probed)?;
    #[cfg(compile_fail)]
    PeerToPeer::new(pdev)?;
    //~^ error[E0308]: mismatched types
    Ok(())
}
