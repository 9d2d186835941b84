// SPDX-License-Identifier: GPL-2.0

//! The commands that a controller has, and their effects: the Commands Supported and Effects log.
//!
//! Nothing here calls the kernel. The bytes come from the controller and can be anything.
//!
//! C header: [`include/linux/nvme.h`](srctree/include/linux/nvme.h), `struct nvme_effects_log`,
//! `NVME_CMD_EFFECTS_*`; `nvme_init_known_nvm_effects()` in
//! [`drivers/nvme/host/core.c`](srctree/drivers/nvme/host/core.c)

use super::identify::le32;
use kernel::prelude::*;

/// Effects of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CommandEffects(u32);

impl CommandEffects {
    const CSUPP: u32 = 1 << 0;
    const LBCC: u32 = 1 << 1;
    const NCC: u32 = 1 << 2;
    const NIC: u32 = 1 << 3;
    const CSER: u32 = 3 << 14;
    const CSE: u32 = 7 << 16;
    const UUID_SEL: u32 = 1 << 19;
    const SCOPE: u32 = 0xfff << 20;

    /// Returns whether the controller has the command.
    pub(crate) fn is_supported(self) -> bool {
        self.0 & Self::CSUPP != 0
    }

    /// Returns whether it changes logical blocks.
    pub(crate) fn changes_blocks(self) -> bool {
        self.0 & Self::LBCC != 0
    }

    /// Returns whether it does no more than read or change logical blocks.
    pub(crate) fn is_plain(self) -> bool {
        self.0 & !(Self::CSUPP | Self::LBCC | Self::UUID_SEL | Self::SCOPE) == 0
    }

    /// Returns whether it changes the namespaces, or must not run beside other commands: the driver
    /// would have to read the namespaces again, or to hold commands back.
    pub(crate) fn is_intrusive(self) -> bool {
        let exclusive = self.0 & Self::CSE != 0 && self.0 & Self::CSER == 0;
        self.0 & (Self::NCC | Self::NIC) != 0 || exclusive
    }
}

/// The effects of all commands; none for those that the controller says nothing of.
pub(crate) struct Effects(KVec<u8>);

impl Effects {
    /// Place of the I/O commands in the log, after the admin commands.
    const IO: usize = 1024;

    /// Commands that change blocks, whatever the log says: write, write uncorrectable, write
    /// zeroes.
    const CHANGE_BLOCKS: [u8; 3] = [0x01, 0x04, 0x08];
    /// Admin commands: security receive, format, sanitize.
    const SECURITY_RECEIVE: u8 = 0x82;
    const FORMAT: u8 = 0x80;
    const SANITIZE: u8 = 0x84;

    /// Returns those that the log says; nothing of any command if it is empty. No I/O command has
    /// the others held back, whatever the log says of that.
    pub(crate) fn new(mut log: KVec<u8>) -> Self {
        // CAST: Three bits.
        const EXCLUSIVE: u8 = (CommandEffects::CSE >> 16) as u8;

        for byte in log.iter_mut().skip(Self::IO + 2).step_by(4) {
            *byte &= !EXCLUSIVE;
        }
        Self(log)
    }

    /// Returns the effects of an I/O command of the NVM command set.
    pub(crate) fn io(&self, opcode: u8) -> CommandEffects {
        let known = match Self::CHANGE_BLOCKS.contains(&opcode) {
            true => CommandEffects::LBCC,
            false => 0,
        };
        CommandEffects(self.at(Self::IO, opcode) | known)
    }

    /// Returns the effects of an admin command.
    pub(crate) fn admin(&self, opcode: u8) -> CommandEffects {
        let effects = self.at(0, opcode);
        CommandEffects(match opcode {
            Self::FORMAT => effects | CommandEffects::NCC,
            Self::SANITIZE => effects | CommandEffects::NIC,
            // Many have it as exclusive: beside other commands of its kind.
            Self::SECURITY_RECEIVE => effects & !CommandEffects::CSE,
            _ => effects,
        })
    }

    fn at(&self, part: usize, opcode: u8) -> u32 {
        le32(&self.0, part + 4 * usize::from(opcode)).unwrap_or(0)
    }
}

#[kunit_tests(rust_nvme_effects)]
mod tests {
    use super::*;

    fn effects(of: &[(usize, u32)]) -> Result<Effects> {
        let mut log = KVec::from_elem(0, 4096, GFP_KERNEL)?;
        for &(at, value) in of {
            let place = log.get_mut(at..at + 4).ok_or(EINVAL)?;
            place.copy_from_slice(&value.to_le_bytes());
        }
        Ok(Effects::new(log))
    }

    #[test]
    fn without_a_log_only_what_is_known_has_effects() {
        let none = Effects::new(KVec::new());
        for opcode in 0..=u8::MAX {
            let io = none.io(opcode);
            assert!(!io.is_supported() && io.is_plain() && !io.is_intrusive());
            assert_eq!(io.changes_blocks(), matches!(opcode, 1 | 4 | 8));
            let admin = none.admin(opcode);
            assert!(!admin.is_supported());
            assert_eq!(admin.is_intrusive(), matches!(opcode, 0x80 | 0x84));
        }
    }

    #[test]
    fn the_log_has_admin_commands_and_io_commands() -> Result {
        let log = effects(&[(4 * 6, 1), (1024 + 4 * 2, 1), (1024 + 4 * 255, 0x8003)])?;
        assert!(log.admin(6).is_supported() && !log.io(6).is_supported());
        assert!(log.io(2).is_supported() && !log.admin(2).is_supported());
        let last = log.io(255);
        assert!(last.is_supported() && last.changes_blocks() && !last.is_plain());
        Ok(())
    }

    /// Returns them as `nvme_ns_cmd_allowed()` has them, from `nvme_command_effects()`.
    #[test]
    fn plain_io_commands_are_those_of_c() -> Result {
        for (bits, plain) in [
            (0x1, true),
            (0x3, true),
            (0x5, false),
            (0x9, false),
            (0x11, false),
            (0x21, false),
            (0x4001, false),
            // Exclusive execution.
            (0x1_0001, true),
            (0x7_0003, true),
            (0x1_4001, false),
            (0xfff8_0001, true),
        ] {
            let log = effects(&[(1024 + 4 * 2, bits), (1024 + 4, bits)])?;
            assert_eq!(log.io(2).is_plain(), plain);
            assert_eq!(log.io(1).is_plain(), plain);
            assert_eq!(log.io(2).changes_blocks(), bits & 2 != 0);
            assert!(log.io(1).changes_blocks() && log.io(1).is_supported());
        }
        Ok(())
    }

    #[test]
    fn intrusive_is_what_the_driver_would_have_to_follow() -> Result {
        for (bits, intrusive) in [
            (0x1, false),
            (0x3, false),
            (0x5, true),
            (0x9, true),
            // A change of capabilities needs a reset, at which they are not read again.
            (0x11, false),
            (0x1_0001, true),
            (0x4_0001, true),
            (0x1_4001, false),
            (0xfff8_0001, false),
        ] {
            assert_eq!(effects(&[(0, bits)])?.admin(0).is_intrusive(), intrusive);
        }
        assert!(!effects(&[(4 * 0x82, 0x2_0001)])?.admin(0x82).is_intrusive());
        Ok(())
    }
}
