// SPDX-License-Identifier: GPL-2.0

//! A state is taken down twice, even by one who may write `unsafe`.

use phyr::{Mapper, Slot, State};

/// # Safety
///
/// `state` with `slots` is a mapping of `mapper`.
pub unsafe fn twice(mapper: &Mapper<'_>, state: State, slots: &[Slot]) {
    // SAFETY: by the requirements of this function; but not the second time.
    unsafe {
        mapper.unmap_from(state, slots);
        #[cfg(compile_fail)]
        mapper.unmap_from(state, slots);
        //~^ error[E0382]: use of moved value: `state`
    }
}
