// SPDX-License-Identifier: GPL-2.0

//! The namespaces of a controller: which are active, and the structures that describe each
//! ([`namespace`](super::namespace)).
//!
//! C: `nvme_scan_ns()`, `nvme_identify_ns_descs()` in
//! [`drivers/nvme/host/core.c`](srctree/drivers/nvme/host/core.c)

use super::{
    cmd::Identify,
    ctrl::Ctrl,
    identify::{
        le32,
        ControllerIdentity, //
    },
    names::{
        self,
        Ids, //
    },
    namespace::{
        Namespace,
        NamespaceError, //
    }, //
};
use kernel::{
    device::{
        Bound,
        Device, //
    },
    fmt,
    pci,
    prelude::*, //
};

/// The most namespaces that get a disk; a controller that reports more is taken to be broken.
const MAX_NAMESPACES: usize = 1024;

/// Messages about the namespaces of a controller, which may have any number of them: the log gets
/// the first ones, and the number of the others.
pub(crate) struct Messages<'bound> {
    dev: &'bound Device<Bound>,
    count: usize,
}

impl<'bound> Messages<'bound> {
    /// Number of messages that are logged; real controllers have fewer namespaces without a disk.
    const LOGGED: usize = 16;

    /// Returns the messages about the namespaces of `dev`, of which there are none so far.
    pub(crate) fn new(dev: &'bound Device<Bound>) -> Self {
        Self { dev, count: 0 }
    }

    /// Logs "namespace `id`", followed by `says`.
    pub(crate) fn warn(&mut self, id: u32, says: fmt::Arguments<'_>) {
        self.count += 1;
        if self.count <= Self::LOGGED {
            dev_warn!(self.dev, "namespace {id}{says}\n");
        }
    }
}

impl Drop for Messages<'_> {
    fn drop(&mut self) {
        if let Some(more @ 1..) = self.count.checked_sub(Self::LOGGED) {
            dev_warn!(self.dev, "{more} more messages about namespaces\n");
        }
    }
}

/// Reads namespace `id`. [`None`]: it gets no disk, and the log has the reason.
///
/// # Errors
///
/// Those of [`Admin::try_identify`](super::admin::Admin::try_identify).
pub(crate) fn read(
    ctrl: &Ctrl<'_>,
    identity: &ControllerIdentity,
    id: u32,
    messages: &mut Messages<'_>,
) -> Result<Option<Namespace>> {
    match ask(ctrl, id, messages)? {
        Ok(namespace) => Ok(Some(Namespace {
            has_unique_ids: has_unique_ids(ctrl),
            names: identity.names,
            ..namespace
        })),
        // Without a list of active namespaces all are asked.
        Err(NamespaceError::Empty) if !ctrl.has_namespace_list() => Ok(None),
        Err(reason) => {
            messages.warn(id, fmt!(" gets no disk: {reason}"));
            Ok(None)
        }
    }
}

/// Reads namespace `id`, or returns the reason why it gets no disk.
fn ask(
    ctrl: &Ctrl<'_>,
    id: u32,
    messages: &mut Messages<'_>,
) -> Result<Result<Namespace, NamespaceError>> {
    let version = ctrl.version();
    let ids = match version {
        version if version >= (1, 3) => ids(ctrl, id, messages)?,
        _ => Ids::NONE,
    };
    if ids.command_set != 0 {
        // Identify Namespace is for the NVM command set.
        return Ok(Err(NamespaceError::CommandSet(ids.command_set)));
    }
    let data = match ctrl.try_identify(Identify::Namespace(id))? {
        Ok(data) => data,
        Err(status) => return Ok(Err(NamespaceError::Unidentified(status.code()))),
    };
    let mut namespace = match Namespace::parse(id, version, ids, &data) {
        Ok(namespace) => namespace,
        Err(reason) => return Ok(Err(reason)),
    };

    if version >= (2, 0) || ctrl.caps().ready_later {
        if let Ok(data) = ctrl.try_identify(Identify::AnyNamespace(id))? {
            if let Err(reason) = namespace.add_any(&data) {
                return Ok(Err(reason));
            }
        }
    }
    if namespace.has_large_hints {
        if let Ok(data) = ctrl.try_identify(Identify::NvmNamespace(id))? {
            namespace.add_nvm(&data)?;
        }
    }
    Ok(Ok(namespace))
}

/// Reads the identifiers of namespace `id`. If the controller has none, they are all zeroes.
fn ids(ctrl: &Ctrl<'_>, id: u32, messages: &mut Messages<'_>) -> Result<Ids> {
    Ok(match ctrl.try_identify(Identify::Descriptors(id))? {
        Ok(data) => Ids::parse(&data),
        Err(status) => {
            messages.warn(
                id,
                fmt!(" has no identifiers, and is taken for one of NVM: {status}"),
            );
            Ids::NONE
        }
    })
}

/// Returns whether the identifiers of the controller's namespaces can be relied on.
fn has_unique_ids(ctrl: &Ctrl<'_>) -> bool {
    // This driver is for PCI only.
    <&pci::Device<Bound>>::try_from(ctrl.device()).is_ok_and(|pdev| {
        let vendor = pdev.vendor_id().as_raw();
        names::are_unique(vendor, pdev.device_id())
    })
}

/// Returns the ids of the active namespaces, in ascending order.
///
/// # Errors
///
/// Those of [`Admin::identify`](super::admin::Admin::identify).
pub(crate) fn active(ctrl: &Ctrl<'_>, identity: &ControllerIdentity) -> Result<KVec<u32>> {
    let mut ids = KVec::new();

    if !ctrl.has_namespace_list() {
        for id in (1..=identity.namespaces).take(MAX_NAMESPACES) {
            ids.push(id, GFP_KERNEL)?;
        }
        if identity.namespaces as usize > MAX_NAMESPACES {
            warn_of_more(ctrl, MAX_NAMESPACES as u32);
        }
        return Ok(ids);
    }

    let mut above = 0;
    'lists: loop {
        let list = ctrl.identify(Identify::ActiveNamespaces(above))?;
        for at in (0..list.len()).step_by(4) {
            let id = le32(&list, at)?;
            // The list ends with 0. One that does not ascend is invalid.
            if id <= above {
                if id != 0 {
                    dev_warn!(
                        ctrl.device(),
                        "namespace {id} is listed after {above}: the rest of the list is ignored\n"
                    );
                }
                break 'lists;
            }
            if ids.len() == MAX_NAMESPACES {
                warn_of_more(ctrl, above);
                break 'lists;
            }
            ids.push(id, GFP_KERNEL)?;
            above = id;
        }
    }
    Ok(ids)
}

/// Logs that namespaces are left out.
fn warn_of_more(ctrl: &Ctrl<'_>, last: u32) {
    dev_warn!(
        ctrl.device(),
        "namespaces above {last} get no disk: there are more than {MAX_NAMESPACES}\n"
    );
}
