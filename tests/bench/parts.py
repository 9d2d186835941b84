# SPDX-License-Identifier: GPL-2.0
"""The part of the kernel that a function belongs to, and the functions whose calls are counted."""

DRIVER = "driver"
MAPPING = "phyr or C's iterator"
DMA = "DMA API"
IOMMU = "IOMMU driver"
BLOCK = "block layer"
REST = "the rest"
PARTS = [DRIVER, MAPPING, DMA, IOMMU, BLOCK, REST]
# The parts that depend on the driver and its way to map.
ALONE = [DRIVER, MAPPING, DMA]

# The first match counts: a prefix of an object file or module, or a function.
RULES = [
    ("clflush_cache_range", IOMMU),  # of its page table
    ("nvme", DRIVER),
    ("rust_nvme", DRIVER),
    ("phyr_blk", DRIVER),
    ("phyr", MAPPING),  # and phyr_bench, in which the loops by hand are, and what is generic
    ("block/blk-mq-dma.o", MAPPING),
    ("kernel/dma/", DMA),
    ("drivers/iommu/dma-iommu.o", DMA),
    ("drivers/iommu/iova.o", DMA),
    ("mm/dmapool.o", DMA),
    ("drivers/iommu/", IOMMU),
    ("drivers/virtio/", IOMMU),
    ("block/", BLOCK),
    ("lib/sbitmap.o", BLOCK),
]

# The functions whose calls are counted as one event.
CALLS = {
    "flushes": ["cache_tag_flush_range", "cache_tag_flush_all", "viommu_iotlb_sync",
                "viommu_flush_iotlb_all", "amd_iommu_iotlb_sync", "amd_iommu_flush_iotlb_all"],
    # AMD's does nothing on hardware.
    "flushes at map": ["cache_tag_flush_range_np", "viommu_iotlb_sync_map", "amd_iommu_iotlb_sync_map"],
    "allocations": ["kmem_cache_alloc_noprof", "kmem_cache_alloc_node_noprof", "__kmalloc_noprof",
                    "__kmalloc_node_noprof", "__kmalloc_cache_noprof", "dma_pool_alloc",
                    "__alloc_frozen_pages_noprof", "mempool_alloc_noprof"],
    "IOVA ranges": ["alloc_iova_fast"],
    # What its caches a processor do not have is searched in a tree, under one lock for all.
    "IOVA tree": ["alloc_iova", "free_iova"],
    "locks": ["_raw_spin_lock", "_raw_spin_lock_irq", "_raw_spin_lock_irqsave", "_raw_spin_lock_bh",
              "_raw_spin_trylock"],
    "interrupts": ["asm_common_interrupt"],
    "timer interrupts": ["asm_sysvec_apic_timer_interrupt"],
}


def part_of(function, where):
    for prefix, part in RULES:
        if where.startswith(prefix) or function == prefix:
            return part
    return REST
