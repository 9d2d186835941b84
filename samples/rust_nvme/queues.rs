// SPDX-License-Identifier: GPL-2.0

//! The I/O queues of a controller: their number, depth and interrupts.

use super::{
    ctrl::Ctrl,
    io::Interrupt,
    io_queue::IoQueue,
    layout::Layout,
    module_parameters,
    request::NvmeBlk, //
};
use kernel::{
    cpu::nr_cpu_ids,
    device::Core,
    pci,
    prelude::*,
    sync::Arc, //
};
use phyr::{
    memory,
    Mapper, //
};
use phyr_blk::{
    Affinity,
    Config,
    TagSet, //
};
use phyr_driver::{
    irq::{
        Irq,
        Types,
        Vectors, //
    },
    scope::Scope, //
};

/// The queues of a controller may take an eighth of the memory that is available.
const MEMORY_SHARE: usize = 8;

/// The I/O queues, before the controller has them, and their interrupt vectors.
pub(crate) struct Queues<'bound> {
    pub(crate) vectors: Vectors<'bound>,
    pub(crate) tags: Arc<TagSet<'bound, NvmeBlk>>,
    pub(crate) layout: Layout,
    pub(crate) count: u16,
}

impl<'bound> Queues<'bound> {
    /// Allocates as many queues as there are processors, vectors, and the controller allows;
    /// shallower ones and then fewer if memory is short.
    ///
    /// # Errors
    ///
    /// - [`ENOSPC`]: there are no vectors.
    /// - [`ENOMEM`]: there is no memory for the smallest queue.
    pub(crate) fn new(
        scope: Scope<'bound>,
        pdev: &'bound pci::Device<Core<'_>>,
        ctrl: &Arc<Ctrl<'bound>>,
        mapper: Arc<Mapper<'bound>>,
        wanted: Layout,
    ) -> Result<Self> {
        let cpus = u16::try_from(nr_cpu_ids()).unwrap_or(u16::MAX);
        let most = match module_parameters::max_io_queues.value() {
            0 => cpus,
            max => max.min(cpus),
        };
        let granted = ctrl.set_queue_count(most)?;
        let (mut layout, count) = wanted.fit(granted, memory::available() / MEMORY_SHARE);
        // Not more vectors than queues: all of them are spread over the processors.
        let mut short = layout.entries < wanted.entries || count < granted;
        let (vectors, mut count) = vectors(scope, pdev, count)?;

        let tags = loop {
            match tags(scope, ctrl, mapper.clone(), layout, &vectors, count) {
                Err(ENOMEM) => {
                    (layout, count) = layout.smaller(count).ok_or(ENOMEM)?;
                    short = true;
                }
                result => break result?,
            }
        };
        if short {
            dev_warn!(
                pdev,
                "memory is short: {} queues of {}, not {} of {}\n",
                count,
                layout.depth(),
                granted,
                wanted.depth()
            );
        }
        Ok(Self {
            vectors,
            tags,
            layout,
            count,
        })
    }
}

/// Allocates the interrupt vectors of up to `most` queues. Returns them and the number of queues
/// that have one.
///
/// The admin queue has vector 0 and no handler: it is polled. The others are spread over the
/// processors. All share the vector of a controller that has but one.
fn vectors<'bound>(
    scope: Scope<'bound>,
    pdev: &'bound pci::Device<Core<'_>>,
    most: u16,
) -> Result<(Vectors<'bound>, u16)> {
    let types = Types::MESSAGES;
    let vectors = match Vectors::alloc_affinity(scope, pdev, 1, 2, u32::from(most) + 1, types) {
        Err(ENOSPC) => Vectors::alloc(scope, pdev, 1, 1, types),
        result => result,
    }
    .inspect_err(|_| dev_err!(pdev, "no message signalled interrupts\n"))?;
    let usable = u16::try_from(vectors.len() - 1).unwrap_or(u16::MAX);

    Ok((vectors, most.min(usable.max(1))))
}

/// Returns the vector of queue `qid`: its own, unless there is but one.
fn vector(vectors: &Vectors<'_>, qid: u16) -> u16 {
    if vectors.len() == 1 {
        0
    } else {
        qid
    }
}

/// Allocates `count` queue pairs and all that their requests need.
fn tags<'bound>(
    scope: Scope<'bound>,
    ctrl: &Arc<Ctrl<'bound>>,
    mapper: Arc<Mapper<'bound>>,
    layout: Layout,
    vectors: &Vectors<'bound>,
    count: u16,
) -> Result<Arc<TagSet<'bound, NvmeBlk>>> {
    let mut queues = KVec::with_capacity(count.into(), GFP_KERNEL)?;
    for qid in 1..=count {
        let queue = IoQueue::new(ctrl.clone(), qid, vector(vectors, qid), layout)?;
        queues.push(queue, GFP_KERNEL)?;
    }

    // A processor submits to the queue whose interrupt it gets, if each vector has a queue.
    let affinity = if vectors.len() == usize::from(count) + 1 {
        Affinity::Interrupts { first: 1 }
    } else {
        Affinity::Spread
    };
    let config = Config::new(layout.depth(), layout.max_segments)
        .descriptor_words(layout.list_words())
        .timeout(io_timeout_secs() * 1000)
        .affinity(affinity);
    TagSet::new(scope, mapper, queues, config, |_, _| Ok(()))
}

/// Returns the seconds that a request may take.
pub(crate) fn io_timeout_secs() -> u32 {
    module_parameters::io_timeout.value().clamp(1, 3600)
}

/// Registers the interrupt handlers of all queues.
pub(crate) fn request_irqs<'bound>(
    vectors: &Vectors<'bound>,
    tags: &Arc<TagSet<'bound, NvmeBlk>>,
) -> Result<KVec<Irq<'bound, Interrupt<'bound>>>> {
    let mut irqs = KVec::new();
    for (index, hw) in tags.hw_queues().iter().enumerate() {
        let handler = Interrupt {
            tags: tags.clone(),
            index,
        };
        let vector = usize::from(hw.queue().vector());
        irqs.push(vectors.request(vector, c"rust_nvme", handler)?, GFP_KERNEL)?;
    }
    Ok(irqs)
}

/// Queues that the controller has. Dropping this makes it delete them.
pub(crate) struct CreatedQueues<'bound> {
    tags: Arc<TagSet<'bound, NvmeBlk>>,
}

impl<'bound> CreatedQueues<'bound> {
    /// Makes the controller create the queues.
    ///
    /// # Errors
    ///
    /// Those of [`IoQueue::create`].
    pub(crate) fn new(tags: Arc<TagSet<'bound, NvmeBlk>>) -> Result<Self> {
        for hw in tags.hw_queues() {
            hw.queue().create()?;
        }
        Ok(Self { tags })
    }
}

impl Drop for CreatedQueues<'_> {
    fn drop(&mut self) {
        for hw in self.tags.hw_queues() {
            // If this fails, disabling the controller deletes them.
            if hw.queue().delete().is_err() {
                return;
            }
        }
    }
}
