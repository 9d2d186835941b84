// SPDX-License-Identifier: GPL-2.0

//! What a command of user space asks for, checked as far as it can be without its buffer.
//!
//! Nothing here calls the kernel. The numbers come from user space and can be anything.

use super::{
    cmd::Blocks,
    identify::Namespace,
    layout::Layout,
    uapi, //
};
use kernel::prelude::*;
use phyr_blk::Mode;

/// The way of a command's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the namespace to the buffer.
    Read,
    /// From the buffer to the namespace.
    Write { fua: bool },
}

/// A command that makes sense, but for its buffer.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) way: Way,
    pub(crate) blocks: Blocks,
    pub(crate) handle: u32,
    /// The part of the buffer.
    pub(crate) offset: u64,
    pub(crate) len: u32,
}

impl Plan {
    /// Whether `op` is a command.
    pub(crate) fn is_command(op: u32) -> bool {
        op == uapi::CMD_READ || op == uapi::CMD_WRITE
    }

    /// Checks command `op` on a file that was opened in `mode`.
    ///
    /// # Errors
    ///
    /// - [`ENOTTY`]: there is no such command.
    /// - [`EINVAL`]: flags or words that mean nothing; no whole blocks; an offset in the buffer
    ///   that descriptors cannot say.
    /// - [`EBADF`]: the file was not opened for it.
    /// - [`EROFS`]: the namespace is write protected.
    /// - [`EMSGSIZE`]: more than a command can transfer.
    /// - [`ENXIO`]: beyond the end of the namespace.
    pub(crate) fn new(
        op: u32,
        cmd: &uapi::Cmd,
        mode: Mode,
        namespace: &Namespace,
        layout: &Layout,
    ) -> Result<Self> {
        let (way, flags, may) = match op {
            uapi::CMD_READ => (Way::Read, 0, mode.read),
            uapi::CMD_WRITE => {
                let fua = cmd.flags & uapi::CMD_FUA != 0;
                (Way::Write { fua }, uapi::CMD_FUA, mode.write)
            }
            _ => return Err(ENOTTY),
        };
        if cmd.flags & !flags != 0 || cmd.reserved != 0 || cmd.offset % 4 != 0 {
            return Err(EINVAL);
        }
        if !may {
            return Err(EBADF);
        }
        if way != Way::Read && namespace.read_only {
            return Err(EROFS);
        }
        Ok(Self {
            way,
            blocks: blocks(cmd.slba, cmd.len, namespace, layout)?,
            handle: cmd.handle,
            offset: cmd.offset,
            len: cmd.len,
        })
    }
}

/// The blocks from `slba` on that have `len` bytes.
fn blocks(slba: u64, len: u32, namespace: &Namespace, layout: &Layout) -> Result<Blocks> {
    if len == 0 || len % (1 << namespace.shift) != 0 {
        return Err(EINVAL);
    }
    // CAST: A length of 32 bits fits in a `usize`.
    if len as usize > layout.max_transfer {
        return Err(EMSGSIZE);
    }
    let count = len >> namespace.shift;
    let end = slba.checked_add(count.into()).ok_or(ENXIO)?;
    if end > namespace.blocks {
        return Err(ENXIO);
    }
    Ok(Blocks {
        first: slba,
        count_less_one: u16::try_from(count - 1).map_err(|_| EMSGSIZE)?,
    })
}

#[kunit_tests(rust_nvme_plan)]
mod tests {
    use super::{
        super::layout::Format,
        *, //
    };

    const MODE: Mode = Mode {
        read: true,
        write: true,
    };
    const NAMESPACE: Namespace = Namespace::plain(12, 1000);
    const LAYOUT: Layout = Layout {
        entries: 2,
        max_transfer: 1 << 20,
        max_segments: 257,
        format: Format::Prp,
        chain: false,
    };
    const CMD: uapi::Cmd = uapi::Cmd {
        offset: 4,
        slba: 0,
        len: 4096,
        handle: 1,
        flags: 0,
        reserved: 0,
    };

    fn plan(op: u32, cmd: uapi::Cmd) -> Result<Plan> {
        Plan::new(op, &cmd, MODE, &NAMESPACE, &LAYOUT)
    }

    #[test]
    fn ranges_end_with_the_namespace() {
        for (slba, len, want) in [
            (0, 4096, Ok((0, 0))),
            (999, 4096, Ok((999, 0))),
            (744, 1 << 20, Ok((744, 255))),
            (745, 1 << 20, Err(ENXIO)),
            (1000, 4096, Err(ENXIO)),
            (u64::MAX, 4096, Err(ENXIO)),
            (u64::MAX - 1, 8192, Err(ENXIO)),
            (0, 0, Err(EINVAL)),
            (0, 4095, Err(EINVAL)),
            (0, 512, Err(EINVAL)),
            (u64::MAX, 1, Err(EINVAL)),
            (0, (1 << 20) + 4096, Err(EMSGSIZE)),
            (0, 0xffff_f000, Err(EMSGSIZE)),
            (0, u32::MAX, Err(EINVAL)),
        ] {
            for op in [uapi::CMD_READ, uapi::CMD_WRITE] {
                let got = plan(op, uapi::Cmd { slba, len, ..CMD });
                let got = got.map(|plan| (plan.blocks.first, plan.blocks.count_less_one));
                assert_eq!(got, want);
            }
        }
    }

    #[test]
    fn words_that_mean_nothing_are_refused() {
        let fua = uapi::Cmd {
            flags: uapi::CMD_FUA,
            ..CMD
        };
        assert!(plan(uapi::CMD_WRITE, fua).is_ok_and(|plan| plan.way == Way::Write { fua: true }));
        assert!(plan(uapi::CMD_READ, fua).is_err_and(|e| e == EINVAL));
        for op in [uapi::CMD_READ, uapi::CMD_WRITE] {
            assert!(plan(op, CMD).is_ok());
            assert!(Plan::is_command(op));
            for cmd in [
                uapi::Cmd { flags: 2, ..CMD },
                uapi::Cmd {
                    flags: u32::MAX,
                    ..CMD
                },
                uapi::Cmd { reserved: 1, ..CMD },
                uapi::Cmd { offset: 1, ..CMD },
                uapi::Cmd { offset: 2, ..CMD },
                uapi::Cmd {
                    offset: u64::MAX,
                    ..CMD
                },
            ] {
                assert!(plan(op, cmd).is_err_and(|e| e == EINVAL));
            }
        }
        for op in [0, 1, uapi::IOC_INFO, u32::MAX] {
            assert!(!Plan::is_command(op));
            assert!(plan(op, CMD).is_err_and(|e| e == ENOTTY));
        }
    }

    #[test]
    fn nobody_does_what_is_not_allowed() {
        for (op, read, write, read_only, want) in [
            (uapi::CMD_READ, true, false, false, Ok(())),
            (uapi::CMD_READ, false, true, false, Err(EBADF)),
            (uapi::CMD_WRITE, true, false, false, Err(EBADF)),
            (uapi::CMD_WRITE, false, true, false, Ok(())),
            (uapi::CMD_READ, true, true, true, Ok(())),
            (uapi::CMD_WRITE, true, true, true, Err(EROFS)),
        ] {
            let namespace = Namespace {
                read_only,
                ..NAMESPACE
            };
            let got = Plan::new(op, &CMD, Mode { read, write }, &namespace, &LAYOUT);
            assert_eq!(got.map(|_| ()), want);
        }
    }
}
