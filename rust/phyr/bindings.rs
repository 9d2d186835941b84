// SPDX-License-Identifier: GPL-2.0

//! Generated bindings of what the kernel's own do not carry.

/// Includes the bindings that were generated for the crate in a folder of `rust/`.
#[doc(hidden)]
#[macro_export]
macro_rules! include_bindings {
    ($folder:literal) => {
        pub use self::generated::*;

        // Generated: which of these lints it trips depends on the kernel's configuration.
        #[allow(
            clippy::all,
            clippy::undocumented_unsafe_blocks,
            dead_code,
            missing_docs,
            non_camel_case_types,
            non_upper_case_globals,
            non_snake_case,
            improper_ctypes,
            unreachable_pub,
            unsafe_op_in_unsafe_fn,
            unused_imports
        )]
        mod generated {
            include!(concat!(
                env!("PHYR_GENERATED"),
                "/",
                $folder,
                "/bindings_generated.rs"
            ));
        }
    };
}

include_bindings!("phyr");
