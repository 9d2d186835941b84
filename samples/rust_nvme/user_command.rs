// SPDX-License-Identifier: GPL-2.0

//! Commands of user space, checked as far as possible without their buffer.
//!
//! Nothing here calls the kernel. The numbers come from user space and can be anything.

use super::{
    cmd::Blocks,
    layout::Layout,
    namespace::Namespace,
    uapi, //
};
use kernel::prelude::*;
use phyr_blk::FileMode;

/// Operations of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UserOp {
    /// From the namespace to the buffer.
    Read,
    /// From the buffer to the namespace.
    Write { fua: bool },
}

/// A command with valid words; its buffer is yet to be looked up.
#[derive(Clone, Copy)]
pub(crate) struct UserCommand {
    pub(crate) op: UserOp,
    pub(crate) blocks: Blocks,
    pub(crate) handle: u32,
    /// Offset of the data in the buffer, in bytes.
    pub(crate) offset: u64,
    pub(crate) len: u32,
}

impl UserCommand {
    /// Returns whether `code` is that of a command.
    pub(crate) fn is_command(code: u32) -> bool {
        code == uapi::CMD_READ || code == uapi::CMD_WRITE
    }

    /// Checks command `code` on a file that was opened in `mode`.
    ///
    /// # Errors
    ///
    /// - [`ENOTTY`]: there is no such command.
    /// - [`EINVAL`]: unknown flags or reserved words; no whole blocks; an offset in the buffer that
    ///   is no multiple of 4.
    /// - [`EBADF`]: the file was not opened for it.
    /// - [`EROFS`]: the namespace is write protected.
    /// - [`EMSGSIZE`]: more than a command can transfer.
    /// - [`ENXIO`]: beyond the end of the namespace.
    pub(crate) fn new(
        code: u32,
        cmd: &uapi::Cmd,
        mode: FileMode,
        namespace: &Namespace,
        layout: &Layout,
    ) -> Result<Self> {
        let (op, flags, may) = match code {
            uapi::CMD_READ => (UserOp::Read, 0, mode.read),
            uapi::CMD_WRITE => {
                let fua = cmd.flags & uapi::CMD_FUA != 0;
                (UserOp::Write { fua }, uapi::CMD_FUA, mode.write)
            }
            _ => return Err(ENOTTY),
        };
        if cmd.flags & !flags != 0 || cmd.reserved != 0 || cmd.offset % 4 != 0 {
            return Err(EINVAL);
        }
        if !may {
            return Err(EBADF);
        }
        if op != UserOp::Read && namespace.read_only {
            return Err(EROFS);
        }
        Ok(Self {
            op,
            blocks: blocks(cmd.slba, cmd.len, namespace, layout)?,
            handle: cmd.handle,
            offset: cmd.offset,
            len: cmd.len,
        })
    }
}

/// Returns the blocks from `slba` on that have `len` bytes.
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

#[kunit_tests(rust_nvme_user_command)]
mod tests {
    use super::{
        super::format::Format,
        *, //
    };

    const MODE: FileMode = FileMode {
        read: true,
        write: true,
    };
    const NAMESPACE: Namespace = Namespace::plain(12, 1000);
    const LAYOUT: Layout = Layout {
        entries: 2,
        max_transfer: 1 << 20,
        max_segments: 257,
        format: Format::Prp,
    };
    const CMD: uapi::Cmd = uapi::Cmd {
        offset: 4,
        slba: 0,
        len: 4096,
        handle: 1,
        flags: 0,
        reserved: 0,
    };

    fn check(op: u32, cmd: uapi::Cmd) -> Result<UserCommand> {
        UserCommand::new(op, &cmd, MODE, &NAMESPACE, &LAYOUT)
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
                let got = check(op, uapi::Cmd { slba, len, ..CMD });
                let got = got.map(|command| (command.blocks.first, command.blocks.count_less_one));
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
        assert!(check(uapi::CMD_WRITE, fua)
            .is_ok_and(|command| command.op == UserOp::Write { fua: true }));
        assert!(check(uapi::CMD_READ, fua).is_err_and(|e| e == EINVAL));
        for op in [uapi::CMD_READ, uapi::CMD_WRITE] {
            assert!(check(op, CMD).is_ok());
            assert!(UserCommand::is_command(op));
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
                assert!(check(op, cmd).is_err_and(|e| e == EINVAL));
            }
        }
        for op in [0, 1, uapi::IOC_INFO, u32::MAX] {
            assert!(!UserCommand::is_command(op));
            assert!(check(op, CMD).is_err_and(|e| e == ENOTTY));
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
            let got = UserCommand::new(op, &CMD, FileMode { read, write }, &namespace, &LAYOUT);
            assert_eq!(got.map(|_| ()), want);
        }
    }
}
