// SPDX-License-Identifier: GPL-2.0

//! A granule that is no power of two.

use phyr::Granule;

pub fn granule() -> Option<Granule> {
    #[cfg(compile_fail)]
    let _ = Granule { mask: 5 };
    //~^ error[E0451]: field `mask` of struct
    Granule::new(6)
}
