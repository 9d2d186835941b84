// SPDX-License-Identifier: GPL-2.0

//! Disks and character devices of namespaces.

use super::{
    admin_dev::Controller,
    ctrl::Ctrl,
    desc::PAGE_SIZE,
    generic::{
        Generic,
        OpenFile, //
    },
    identify::ControllerIdentity,
    layout::Layout,
    limits::DiskLimits,
    names::{
        is_given,
        Hex,
        Printable,
        Uuid,
        Wwid, //
    },
    namespace::Namespace,
    ns,
    request::NvmeBlk, //
};
use kernel::{
    fmt::Write,
    prelude::*,
    sync::Arc, //
};
use phyr_blk::{
    Attribute,
    CharDevice,
    GenDisk,
    GenDiskBuilder,
    TagSet,
    Text, //
};
use phyr_driver::{
    binding::Binding,
    scope::Scope, //
};

/// Adds the disks of all namespaces.
pub(crate) fn disks<'bound>(
    ctrl: &Ctrl<'bound>,
    identity: &ControllerIdentity,
    tags: &Arc<TagSet<'bound, NvmeBlk>>,
    layout: Layout,
    number: u32,
) -> Result<KVec<GenDisk<'bound, NvmeBlk>>> {
    let mut disks = KVec::new();
    let mut messages = ns::Messages::new(ctrl.device());
    for id in ns::active(ctrl, identity)? {
        let Some(namespace) = ns::read(ctrl, identity, id, &mut messages)? else {
            continue;
        };
        let alignment = tags.mapper().dma_alignment();
        if alignment > 1 << namespace.shift {
            messages.warn(
                id,
                fmt!(": only whole {alignment} bytes can be mapped; less fails"),
            );
        }
        let built = builder(&namespace, identity, layout, alignment).build(
            fmt!("rnvme{}n{}", number, id),
            tags,
            namespace,
        );
        match built {
            Ok(disk) => disks.push(disk, GFP_KERNEL)?,
            // Others may be acceptable.
            Err(e) if e == EINVAL => messages.warn(
                id,
                fmt!(" gets no disk: the block layer takes its limits for wrong"),
            ),
            Err(e) => return Err(e),
        }
    }
    Ok(disks)
}

/// Adds the character devices of all disks.
pub(crate) fn generics<'bound>(
    scope: Scope<'bound>,
    disks: &[GenDisk<'bound, NvmeBlk>],
    binding: &Arc<Binding>,
    controller: &Arc<Controller>,
    layout: Layout,
    number: u32,
) -> Result<KVec<CharDevice<'bound, OpenFile>>> {
    let mut generics = KVec::with_capacity(disks.len(), GFP_KERNEL)?;
    for disk in disks {
        let namespace = *disk.data();
        // It can be dead by now, with its controller, which is no reason to fail.
        let Ok(queue) = disk.queue() else {
            continue;
        };
        let generic = Generic {
            queue,
            namespace,
            layout,
            binding: binding.clone(),
            controller: controller.clone(),
        };
        let device = CharDevice::new(
            scope,
            fmt!("rnvme-ng{}n{}", number, namespace.id),
            Arc::new(generic, GFP_KERNEL)?,
        )?;
        generics.push(device, GFP_KERNEL)?;
    }
    Ok(generics)
}

/// Returns the builder of the disk of a namespace. Memory is mapped in multiples of `alignment`
/// bytes, a power of two and at most a page, or not at all.
fn builder(
    namespace: &Namespace,
    identity: &ControllerIdentity,
    layout: Layout,
    alignment: usize,
) -> GenDiskBuilder {
    let limits = DiskLimits::new(namespace, identity, &layout);
    let has_cache = identity.has_write_cache && !namespace.no_write_cache;
    let mut disk = GenDiskBuilder::new()
        .capacity_sectors(namespace.sectors())
        // What the C driver tells, too.
        .geometry(64, 32)
        .logical_block_size(limits.logical_block)
        .physical_block_size(limits.physical_block)
        .io_min(limits.io_min)
        .io_opt(limits.io_opt)
        .chunk_sectors(limits.chunk_sectors)
        .read_only(namespace.read_only)
        .rotational(namespace.rotational)
        .max_hw_sectors(limits.max_sectors)
        // A request of 1 MiB has one range, one descriptor and one completion. The lock that it
        // takes would be taken less often by eight of 128 KiB, but their commands cost more.
        .exceed_opt_mapping_size()
        .max_segments(layout.max_segments)
        .max_segment_size(u32::MAX)
        // Descriptors of both kinds can describe multiples of 4 bytes.
        // CAST: At most a page.
        .dma_alignment(alignment.max(4) as u32 - 1)
        .write_cache(has_cache, has_cache)
        .max_write_zeroes_sectors(limits.max_zeroes_sectors)
        .write_zeroes_unmaps(namespace.zeroes_when_deallocated);

    let boundary = if layout.format.needs_pages() {
        alignment.max(PAGE_SIZE)
    } else {
        alignment
    };
    if boundary > 1 {
        disk = disk.virt_boundary_mask(boundary - 1);
    }
    if let Some(discard) = limits.discard {
        disk = disk.discard(discard.max_sectors, discard.max_ranges, discard.granularity);
    }
    if let Some(atomic) = limits.atomic {
        disk = disk.atomic_writes(atomic.max, atomic.boundary);
    }
    disk
}

/// The files of a disk in sysfs, with the names and texts of the C driver, which has those of the
/// controller in a folder of the controller.
///
/// C: `nvme_ns_attrs` in [`drivers/nvme/host/sysfs.c`](srctree/drivers/nvme/host/sysfs.c)
pub(crate) const ATTRIBUTES: &[Attribute<NvmeBlk>] = &[
    Attribute::<NvmeBlk>::new(c"wwid", wwid),
    Attribute::<NvmeBlk>::new(c"nsid", nsid),
    Attribute::<NvmeBlk>::new(c"csi", csi),
    Attribute::<NvmeBlk>::new(c"uuid", uuid).visible_if(|ns| is_given(&ns.ids.uuid)),
    Attribute::<NvmeBlk>::new(c"nguid", nguid).visible_if(|ns| is_given(&ns.ids.nguid)),
    Attribute::<NvmeBlk>::new(c"eui", eui).visible_if(|ns| is_given(&ns.ids.eui64)),
    Attribute::<NvmeBlk>::new(c"serial", serial),
    Attribute::<NvmeBlk>::new(c"model", model),
    Attribute::<NvmeBlk>::new(c"firmware_rev", firmware),
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
