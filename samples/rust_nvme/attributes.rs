// SPDX-License-Identifier: GPL-2.0

//! The identity of a disk, in its folder in sysfs: the namespace's identifiers, named and written
//! as by the C driver, and its controller's names, which that has in a folder of the controller's.
//!
//! C: `nvme_ns_attrs` in [`drivers/nvme/host/sysfs.c`](srctree/drivers/nvme/host/sysfs.c)

use super::{
    identify::Namespace,
    io::Nvme,
    names::{
        is_given,
        Hex,
        Printable,
        Uuid,
        Wwid, //
    },
};
use kernel::{
    fmt::Write,
    prelude::*, //
};
use phyr_blk::{
    Attribute,
    Text, //
};

/// The files of each disk.
pub(crate) const ATTRIBUTES: &[Attribute<Nvme>] = &[
    Attribute::<Nvme>::new(c"wwid", wwid),
    Attribute::<Nvme>::new(c"nsid", nsid),
    Attribute::<Nvme>::new(c"csi", csi),
    Attribute::<Nvme>::new(c"uuid", uuid).visible_if(|ns| is_given(&ns.ids.uuid)),
    Attribute::<Nvme>::new(c"nguid", nguid).visible_if(|ns| is_given(&ns.ids.nguid)),
    Attribute::<Nvme>::new(c"eui", eui).visible_if(|ns| is_given(&ns.ids.eui64)),
    Attribute::<Nvme>::new(c"serial", serial),
    Attribute::<Nvme>::new(c"model", model),
    Attribute::<Nvme>::new(c"firmware_rev", firmware),
];

fn wwid(ns: &Namespace, text: &mut Text<'_>) -> Result {
    let wwid = Wwid {
        names: &ns.names,
        ids: ns.has_unique_ids.then_some(&ns.ids),
        nsid: ns.id,
    };
    Ok(text.write_fmt(fmt!("{wwid}"))?)
}

fn nsid(ns: &Namespace, text: &mut Text<'_>) -> Result {
    Ok(text.write_fmt(fmt!("{}", ns.id))?)
}

fn csi(ns: &Namespace, text: &mut Text<'_>) -> Result {
    Ok(text.write_fmt(fmt!("{}", ns.ids.command_set))?)
}

fn uuid(ns: &Namespace, text: &mut Text<'_>) -> Result {
    Ok(text.write_fmt(fmt!("{}", Uuid(&ns.ids.uuid)))?)
}

fn nguid(ns: &Namespace, text: &mut Text<'_>) -> Result {
    Ok(text.write_fmt(fmt!("{}", Uuid(&ns.ids.nguid)))?)
}

fn eui(ns: &Namespace, text: &mut Text<'_>) -> Result {
    Ok(text.write_fmt(fmt!("{}", Hex(&ns.ids.eui64, " ")))?)
}

fn serial(ns: &Namespace, text: &mut Text<'_>) -> Result {
    Ok(text.write_fmt(fmt!("{}", Printable(&ns.names.serial)))?)
}

fn model(ns: &Namespace, text: &mut Text<'_>) -> Result {
    Ok(text.write_fmt(fmt!("{}", Printable(&ns.names.model)))?)
}

fn firmware(ns: &Namespace, text: &mut Text<'_>) -> Result {
    Ok(text.write_fmt(fmt!("{}", Printable(&ns.names.firmware)))?)
}
