// SPDX-License-Identifier: GPL-2.0

//! Errors of a PCI device or of its link, and how a driver wants to recover from them.
//!
//! C header: [`include/linux/pci.h`](srctree/include/linux/pci.h)

use kernel::bindings;

/// State of the connection to a device after an error.
///
/// C: `pci_channel_state_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelState {
    /// The device can be reached.
    Normal,
    /// The link is blocked in both directions; a reset may help.
    Frozen,
    /// The device is gone for good.
    Failed,
}

impl ChannelState {
    pub(super) const fn from_raw(state: bindings::pci_channel_state_t) -> Self {
        match state {
            bindings::pci_channel_io_normal => Self::Normal,
            bindings::pci_channel_io_frozen => Self::Frozen,
            _ => Self::Failed,
        }
    }
}

/// Result of a driver's error callback: the recovery that it asks for, or has reached.
///
/// C: `pci_ers_result_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// The driver has no opinion.
    None,
    /// The device can go on without a reset.
    CanRecover,
    /// The link is to be reset.
    NeedReset,
    /// The device is given up.
    Disconnect,
    /// The device works again.
    Recovered,
}

impl Recovery {
    pub(super) const fn into_raw(self) -> bindings::pci_ers_result_t {
        match self {
            Self::None => bindings::pci_ers_result_PCI_ERS_RESULT_NONE,
            Self::CanRecover => bindings::pci_ers_result_PCI_ERS_RESULT_CAN_RECOVER,
            Self::NeedReset => bindings::pci_ers_result_PCI_ERS_RESULT_NEED_RESET,
            Self::Disconnect => bindings::pci_ers_result_PCI_ERS_RESULT_DISCONNECT,
            Self::Recovered => bindings::pci_ers_result_PCI_ERS_RESULT_RECOVERED,
        }
    }
}
