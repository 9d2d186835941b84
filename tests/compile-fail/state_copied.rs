// SPDX-License-Identifier: GPL-2.0

//! The state of a mapping is copied, to unmap it twice.

use phyr::State;

pub fn copied(state: State) -> State {
    #[cfg(compile_fail)]
    drop(state.clone());
    //~^ error[E0599]: no method named `clone` found for
    state
}
