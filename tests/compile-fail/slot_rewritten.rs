// SPDX-License-Identifier: GPL-2.0

//! The address that will be unmapped is changed by hand.

use phyr::Slot;

pub fn rewritten(slot: &mut Slot) {
    *slot = Slot::EMPTY;
    #[cfg(compile_fail)]
    let _ = core::mem::take(&mut slot.addr);
    //~^ error[E0616]: field `addr` of struct
}
