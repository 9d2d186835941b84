// SPDX-License-Identifier: GPL-2.0

//! The kernel's macros that the pure part uses, for user space.

use proc_macro::TokenStream;

/// Turns the suites of KUnit into ordinary tests, which coverage is not measured of.
#[proc_macro_attribute]
pub fn kunit_tests(_suite: TokenStream, module: TokenStream) -> TokenStream {
    let mut out: TokenStream = "#[cfg(test)] #[cfg_attr(coverage, coverage(off))]"
        .parse()
        .expect("attributes");
    out.extend(module);
    out
}

/// The structures of user space are only looked at field by field here: nothing is to be derived.
macro_rules! nothing {
    ($($name:ident $function:ident),*) => {$(
        #[proc_macro_derive($name)]
        pub fn $function(_item: TokenStream) -> TokenStream {
            TokenStream::new()
        }
    )*};
}

nothing!(FromBytes from_bytes, IntoBytes into_bytes, Immutable immutable);
