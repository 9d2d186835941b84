// SPDX-License-Identifier: GPL-2.0

//! A request of the driver's own is sent twice.

use phyr_blk::{Operations, PassthroughRequest};

pub fn twice<T: Operations>(
    unsent: PassthroughRequest<T>,
    first: T::Passthrough,
    second: T::Passthrough,
) {
    unsent.execute(first);
    #[cfg(compile_fail)]
    unsent.execute(second);
    //~^ error[E0382]: use of moved value: `unsent`
}
