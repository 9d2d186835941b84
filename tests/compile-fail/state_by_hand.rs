// SPDX-License-Identifier: GPL-2.0

//! A state is made to say that something is mapped.

use phyr::State;

pub fn made() -> State {
    let mut state = State::UNMAPPED;
    #[cfg(compile_fail)]
    let _ = core::mem::replace(&mut state.nr, 1);
    //~^ error[E0616]: field `nr` of struct
    state.take()
}
