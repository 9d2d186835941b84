// SPDX-License-Identifier: GPL-2.0

//! Namespaces: which there are. What they say of themselves is read in `identify.rs`.
//!
//! C: `nvme_scan_ns()`, `nvme_update_disk_info()` in
//! [`drivers/nvme/host/core.c`](srctree/drivers/nvme/host/core.c)

use super::{
    cmd::Identify,
    ctrl::Ctrl,
    identify::{
        le32,
        Identity,
        Namespace, //
    },
};
use kernel::prelude::*;

/// The most namespaces that get a disk; more would be a controller that makes them up.
const MAX_NAMESPACES: usize = 1024;

impl Namespace {
    /// Asks for namespace `id`. [`None`]: there is nothing to make a disk of.
    ///
    /// # Errors
    ///
    /// Those of [`Admin::identify`](super::admin::Admin::identify).
    pub(crate) fn read(ctrl: &Ctrl<'_>, id: u32) -> Result<Option<Self>> {
        let data = ctrl.identify(Identify::Namespace(id))?;

        match Self::parse(id, &data) {
            // Not active.
            Ok(namespace) if namespace.blocks == 0 => Ok(None),
            Ok(namespace) => Ok(Some(namespace)),
            Err(e) => {
                dev_warn!(
                    ctrl.device(),
                    "namespace {id} has metadata, or blocks of an odd size: no disk ({e:?})\n"
                );
                Ok(None)
            }
        }
    }
}

/// Ids of the active namespaces, in ascending order.
///
/// # Errors
///
/// Those of [`Admin::identify`](super::admin::Admin::identify).
pub(crate) fn active(ctrl: &Ctrl<'_>, identity: &Identity) -> Result<KVec<u32>> {
    let mut ids = KVec::new();

    if !ctrl.has_namespace_list() {
        for id in (1..=identity.namespaces).take(MAX_NAMESPACES) {
            ids.push(id, GFP_KERNEL)?;
        }
        return Ok(ids);
    }

    let mut above = 0;
    'lists: loop {
        let list = ctrl.identify(Identify::ActiveNamespaces(above))?;
        for at in (0..list.len()).step_by(4) {
            let id = le32(&list, at)?;
            // The list ends with 0. One that does not ascend makes no sense.
            if id <= above || ids.len() == MAX_NAMESPACES {
                break 'lists;
            }
            ids.push(id, GFP_KERNEL)?;
            above = id;
        }
    }
    Ok(ids)
}
