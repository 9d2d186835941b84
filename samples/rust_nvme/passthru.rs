// SPDX-License-Identifier: GPL-2.0

//! NVMe pass-through: commands that user space makes, with the interface of the C driver.
//!
//! ```text
//! ioctl      copy ---> check ---> a request with the user's memory ---> wait for its end
//! uring_cmd  copy ---> check ---> a request with the user's memory, which ends the command
//! ```
//!
//! It has the checks of the C driver, and some of its own: the data must be as long as the command
//! says, where that is known (a controller takes it from the command, and would access what is not
//! the user's), and what would leave the driver with a wrong idea of the controller is refused.
//!
//! C: [`drivers/nvme/host/ioctl.c`](srctree/drivers/nvme/host/ioctl.c)

use super::{
    effects::Effects,
    namespace::Namespace,
    nvme_ioctl::{
        PassthruCmd,
        PassthruCmd64,
        UserIo, //
    },
    payload::{
        Passthru,
        Payload, //
    },
    user_copy,
    user_entry::UserEntry, //
};
use kernel::{
    prelude::*,
    uaccess::UserPtr, //
};
use phyr::DataDirection;
use phyr_blk::{
    is_sys_admin,
    uring::{
        UringCmd,
        UringResult, //
    },
    Operations,
    PassthroughRequest,
    RequestQueue,
    UserMemory, //
};

/// From here on opcodes are vendors' own.
const VENDOR: u8 = 0x80;
const FABRICS: u8 = 0x7f;

mod io_op {
    pub(super) const FLUSH: u8 = 0x00;
    pub(super) const WRITE: u8 = 0x01;
    pub(super) const READ: u8 = 0x02;
    pub(super) const WRITE_UNCORRECTABLE: u8 = 0x04;
    pub(super) const COMPARE: u8 = 0x05;
    pub(super) const WRITE_ZEROES: u8 = 0x08;
    pub(super) const DATASET_MANAGEMENT: u8 = 0x09;
    pub(super) const VERIFY: u8 = 0x0c;
}

mod admin_op {
    pub(super) const DELETE_SQ: u8 = 0x00;
    pub(super) const CREATE_SQ: u8 = 0x01;
    pub(super) const GET_LOG_PAGE: u8 = 0x02;
    pub(super) const DELETE_CQ: u8 = 0x04;
    pub(super) const CREATE_CQ: u8 = 0x05;
    pub(super) const IDENTIFY: u8 = 0x06;
    pub(super) const SET_FEATURES: u8 = 0x09;
    pub(super) const ASYNC_EVENT: u8 = 0x0c;
    pub(super) const NAMESPACE_MANAGEMENT: u8 = 0x0d;
    pub(super) const FIRMWARE_DOWNLOAD: u8 = 0x11;
    pub(super) const NAMESPACE_ATTACHMENT: u8 = 0x15;
    pub(super) const VIRTUALIZATION: u8 = 0x1c;
    pub(super) const TRACK_SEND: u8 = 0x3d;
    pub(super) const MIGRATION_SEND: u8 = 0x41;
    pub(super) const CONTROLLER_DATA_QUEUE: u8 = 0x45;
    pub(super) const DOORBELL_BUFFERS: u8 = 0x7c;
}

/// Features that the driver sets itself: queues, host memory, power states, keep alive, behaviour.
const OWN_FEATURES: [u32; 5] = [0x07, 0x0c, 0x0d, 0x0f, 0x16];

/// Structures of Identify that anybody may read: they say how to make commands.
const PUBLIC_STRUCTURES: [u32; 5] = [0x00, 0x01, 0x05, 0x06, 0x08];

/// Bytes of what Identify returns.
const IDENTIFY_BYTES: u32 = 4096;

/// Bytes of a range of dataset management.
const DSM_RANGE_BYTES: u32 = 16;

/// A queue to which user space may send commands, and what decides which.
pub(crate) struct Target<'a, T: Operations> {
    pub(crate) queue: &'a RequestQueue<T>,
    /// [`None`] for the admin queue.
    pub(crate) namespace: Option<&'a Namespace>,
    pub(crate) effects: &'a Effects,
    pub(crate) may_write: bool,
}

/// The way in which the data of a command is named.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Range,
    Vector,
}

impl<T: Operations<Passthrough = Payload>> Target<'_, T> {
    /// Sends the `struct nvme_passthru_cmd` at `arg`, and returns the NVMe status.
    ///
    /// # Errors
    ///
    /// - [`EFAULT`]: the structure or the data is not there, or the data is not for what the
    ///   command does.
    /// - [`EINVAL`]: flags, metadata, another namespace's id, or data that is not as long as the
    ///   command says.
    /// - [`EACCES`]: the sender may not do this, or nobody may.
    /// - [`EOPNOTSUPP`]: the driver could not go on after this.
    /// - [`ENODEV`]: the controller was unbound.
    /// - Others, of a command without an answer.
    pub(crate) fn command(&self, arg: UserPtr) -> Result<u32> {
        let cmd = user_copy::read(arg)?;
        let (status, result) = self.send(&cmd, Form::Range)?;
        // CAST: Word 0.
        user_copy::write(arg.wrapping_byte_add(PassthruCmd::RESULT), &(result as u32))?;
        Ok(status)
    }

    /// Sends the `struct nvme_passthru_cmd64` at `arg` as [`Self::command`] does.
    pub(crate) fn command64(&self, arg: UserPtr, form: Form) -> Result<u32> {
        let PassthruCmd64 { cmd, .. } = user_copy::read(arg)?;
        let (status, result) = self.send(&cmd, form)?;
        user_copy::write(arg.wrapping_byte_add(PassthruCmd64::RESULT), &result)?;
        Ok(status)
    }

    /// Sends the `struct nvme_user_io` at `arg` to the namespace as [`Self::command`] does.
    pub(crate) fn submit_io(&self, arg: UserPtr) -> Result<u32> {
        let io: UserIo = user_copy::read(arg)?;
        let namespace = self.namespace.ok_or(ENOTTY)?;
        let is_known = matches!(io.opcode, io_op::READ | io_op::WRITE | io_op::COMPARE);
        if io.flags != 0 || !is_known || io.has_too_much() {
            return Err(EINVAL);
        }
        let entry = io.entry(namespace.id);
        let len = u64::from(io.nblocks) + 1 << namespace.shift;
        let len = u32::try_from(len).map_err(|_| EINVAL)?;
        let (status, _) = self.execute(&entry, data(io.addr, len, Form::Range)?, 0)?;
        Ok(status)
    }

    /// Sends `cmd`, and waits. Returns the NVMe status and the result.
    fn send(&self, cmd: &PassthruCmd, form: Form) -> Result<(u32, u64)> {
        check_fields(cmd)?;
        let data = data(cmd.addr, cmd.data_len, form)?;
        self.execute(&cmd.entry(), data, timeout_ms(cmd))
    }

    /// Sends a command, and waits. Returns the NVMe status and the result.
    fn execute(
        &self,
        entry: &UserEntry,
        data: Option<UserMemory>,
        timeout_ms: u32,
    ) -> Result<(u32, u64)> {
        let payload = self.payload(entry, timeout_ms)?;
        let request = self.request(entry, timeout_ms, true)?;
        let (payload, status) = request.execute_and_wait(data, payload)?;
        let passthru = payload.passthru().ok_or(EIO)?;
        let (status, result) = passthru.outcome(status)?;
        Ok((status.into(), result))
    }

    /// Sends a command of io_uring, whose command area is a `struct nvme_uring_cmd`.
    ///
    /// It ends with the NVMe status or the errors of [`Self::command`]; and with [`EOPNOTSUPP`] if
    /// the entries of the ring have 64 bytes, or its completions 16.
    pub(crate) fn uring_cmd<'a>(&self, issued: UringCmd<'a>, form: Form) -> UringResult<'a> {
        match self.prepare(&issued, form) {
            Ok((request, data, payload)) => request.execute_command(issued, data, payload),
            Err(e) => issued.done(Err(e)),
        }
    }

    /// Does all that can fail before the data is mapped.
    fn prepare(
        &self,
        issued: &UringCmd<'_>,
        form: Form,
    ) -> Result<(PassthroughRequest<T>, Option<UserMemory>, Payload)> {
        let cmd: PassthruCmd = issued.command()?;
        if !issued.has_large_cqe() {
            return Err(EOPNOTSUPP);
        }
        check_fields(&cmd)?;
        let data = match issued.is_fixed() {
            // An address in the buffer, which can be any.
            true => memory(cmd.addr, cmd.data_len, form)?,
            false => data(cmd.addr, cmd.data_len, form)?,
        };
        let (entry, timeout_ms) = (cmd.entry(), timeout_ms(&cmd));
        let payload = self.payload(&entry, timeout_ms)?;
        let request = self.request(&entry, timeout_ms, issued.may_wait())?;
        Ok((request, data, payload))
    }

    /// Allocates the request of a command.
    fn request(
        &self,
        entry: &UserEntry,
        timeout_ms: u32,
        may_wait: bool,
    ) -> Result<PassthroughRequest<T>> {
        let direction = match entry.is_write() {
            true => DataDirection::ToDevice,
            false => DataDirection::FromDevice,
        };
        let request = self.queue.alloc(direction, may_wait)?;
        Ok(request.no_retry().timeout(timeout_ms))
    }

    /// Checks that a command may be sent, and returns it.
    fn payload(&self, entry: &UserEntry, timeout_ms: u32) -> Result<Payload> {
        let bytes = match self.namespace {
            Some(namespace) => {
                if entry.nsid != namespace.id {
                    return Err(EINVAL);
                }
                check_io(entry, self.effects, self.may_write, is_sys_admin)?;
                io_bytes(entry, namespace.shift)
            }
            None => {
                check_admin(entry, self.effects, is_sys_admin)?;
                admin_bytes(entry)
            }
        };
        let bytes = bytes.map(u32::try_from).transpose().map_err(|_| EINVAL)?;
        Ok(Payload::Passthru(Passthru::new(*entry, bytes, timeout_ms)))
    }
}

/// Checks the fields that are not of the command itself.
///
/// # Errors
///
/// [`EINVAL`]: flags; metadata, which no namespace here has.
fn check_fields(cmd: &PassthruCmd) -> Result {
    if cmd.flags != 0 || cmd.metadata != 0 && cmd.metadata_len != 0 {
        return Err(EINVAL);
    }
    Ok(())
}

/// Returns the milliseconds that a command may take, or 0 for the driver's own time-out.
///
/// That is the one for senders without privileges: when it is over the controller is reset, which
/// others pay for, too.
fn timeout_ms(cmd: &PassthruCmd) -> u32 {
    match cmd.timeout_ms {
        0 => 0,
        timeout if is_sys_admin() => timeout,
        _ => 0,
    }
}

/// Returns `len` bytes, or vectors, at `addr`; [`None`] if there are none.
///
/// # Errors
///
/// [`EFAULT`]: there is no such address.
fn memory(addr: u64, len: u32, form: Form) -> Result<Option<UserMemory>> {
    let addr = UserPtr::from_addr(usize::try_from(addr).map_err(|_| EFAULT)?);
    Ok((len != 0).then_some(match form {
        Form::Range => UserMemory::Range(addr, len),
        Form::Vector => UserMemory::Vector(addr, len),
    }))
}

/// Returns the memory as [`memory`] does, which is not at address zero: for the C driver that is no
/// data, whatever the length.
///
/// # Errors
///
/// - [`EFAULT`]: there is no such address.
/// - [`EINVAL`]: address zero, and a length.
fn data(addr: u64, len: u32, form: Form) -> Result<Option<UserMemory>> {
    if addr == 0 && len != 0 {
        return Err(EINVAL);
    }
    memory(addr, len, form)
}

/// Checks that the sender may send an I/O command. `is_sys_admin` is asked last.
///
/// # Errors
///
/// [`EACCES`]: not by this sender.
fn check_io(
    entry: &UserEntry,
    effects: &Effects,
    may_write: bool,
    is_sys_admin: impl FnOnce() -> bool,
) -> Result {
    let effects = effects.io(entry.opcode);
    let changes = entry.is_write() || effects.changes_blocks();
    // Only its sender knows how much an unknown command transfers.
    let is_known = io_bytes(entry, 0).is_some();
    let is_for_all = entry.opcode < VENDOR
        && is_known
        && effects.is_supported()
        && effects.is_plain()
        && (may_write || !changes);
    if is_for_all || is_sys_admin() {
        Ok(())
    } else {
        Err(EACCES)
    }
}

/// Checks that the sender may send an admin command. `is_sys_admin` is asked last.
///
/// # Errors
///
/// - [`EACCES`]: not by this sender; or it is for the driver to set this feature.
/// - [`EOPNOTSUPP`]: the driver could not go on after this.
fn check_admin(
    entry: &UserEntry,
    effects: &Effects,
    is_sys_admin: impl FnOnce() -> bool,
) -> Result {
    let is_for_all = match entry.opcode {
        admin_op::IDENTIFY => PUBLIC_STRUCTURES.contains(&(entry.cdw10[0] & 0xff)),
        admin_op::SET_FEATURES if OWN_FEATURES.contains(&(entry.cdw10[0] & 0xff)) => {
            return Err(EACCES);
        }
        _ => false,
    };
    if !is_for_all && !is_sys_admin() {
        return Err(EACCES);
    }
    if is_drivers(entry.opcode) || effects.admin(entry.opcode).is_intrusive() {
        return Err(EOPNOTSUPP);
    }
    Ok(())
}

/// Returns whether an admin command is for the driver to send: the controller would keep addresses
/// of memory, or report an event at any time, or stop, or there would be other namespaces.
fn is_drivers(opcode: u8) -> bool {
    matches!(
        opcode,
        admin_op::DELETE_SQ
            | admin_op::CREATE_SQ
            | admin_op::DELETE_CQ
            | admin_op::CREATE_CQ
            | admin_op::ASYNC_EVENT
            | admin_op::NAMESPACE_MANAGEMENT
            | admin_op::NAMESPACE_ATTACHMENT
            | admin_op::VIRTUALIZATION
            | admin_op::TRACK_SEND
            | admin_op::MIGRATION_SEND
            | admin_op::CONTROLLER_DATA_QUEUE
            | admin_op::DOORBELL_BUFFERS
            | FABRICS
    )
}

/// Returns the bytes that an I/O command transfers, on a namespace of blocks of `1 << shift` bytes;
/// [`None`] if it is not known here.
fn io_bytes(entry: &UserEntry, shift: u32) -> Option<u64> {
    match entry.opcode {
        io_op::READ | io_op::WRITE | io_op::COMPARE => {
            Some((u64::from(entry.cdw10[2] & 0xffff) + 1) << shift)
        }
        io_op::DATASET_MANAGEMENT => {
            Some(u64::from((entry.cdw10[0] & 0xff) + 1) * u64::from(DSM_RANGE_BYTES))
        }
        io_op::FLUSH | io_op::WRITE_UNCORRECTABLE | io_op::WRITE_ZEROES | io_op::VERIFY => Some(0),
        _ => None,
    }
}

/// Returns the bytes that an admin command transfers; [`None`] if it is not known here.
fn admin_bytes(entry: &UserEntry) -> Option<u64> {
    let [ten, eleven, ..] = entry.cdw10;
    match entry.opcode {
        admin_op::IDENTIFY => Some(IDENTIFY_BYTES.into()),
        admin_op::GET_LOG_PAGE => {
            let words = u64::from(eleven & 0xffff) << 16 | u64::from(ten >> 16);
            Some(4 * (words + 1))
        }
        admin_op::FIRMWARE_DOWNLOAD => Some(4 * (u64::from(ten) + 1)),
        _ => None,
    }
}
