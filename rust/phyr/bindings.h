/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Declarations for phyr that the kernel's own bindings do not carry: types, tracepoints, and the
 * functions of helpers.c and inline.c, which wrap static inline functions and macros.
 */
#ifndef _PHYR_BINDINGS_H
#define _PHYR_BINDINGS_H

#include <linux/blk-mq.h>
#include <linux/dma-mapping.h>
#include <linux/dmaengine.h>
#include <linux/iommu.h>

#include "trace.h"

phys_addr_t phyr_helper_page_to_phys(const struct page *page);
phys_addr_t phyr_helper_virt_to_phys(void *addr);
struct scatterlist *phyr_helper_sg_fill_dma(struct scatterlist *sg, dma_addr_t addr,
					    unsigned int len);
void phyr_helper_sg_fill_phys(struct scatterlist *sg, phys_addr_t paddr, unsigned int len);
bool phyr_helper_dev_is_trusted(struct device *dev);
bool phyr_helper_dev_is_dma_coherent(struct device *dev);
bool phyr_helper_dma_bounces(struct device *dev);
bool phyr_helper_dma_kmalloc_bounces(struct device *dev, size_t size, enum dma_data_direction dir);
size_t phyr_helper_swiotlb_max_mapping_size(struct device *dev, u64 mask);
bool phyr_helper_may_say(unsigned int nr);
u64 phyr_helper_dma_get_mask(struct device *dev);
dma_addr_t phyr_helper_phys_to_dma(struct device *dev, phys_addr_t phys);
unsigned int phyr_helper_dma_get_max_seg_size(struct device *dev);
unsigned long phyr_helper_dma_get_seg_boundary(struct device *dev);
unsigned int phyr_helper_dma_get_min_align_mask(struct device *dev);
int phyr_helper_dma_mapping_error(struct device *dev, dma_addr_t addr);
void phyr_helper_dma_sync_for_cpu(struct device *dev, dma_addr_t addr, size_t len,
				  enum dma_data_direction dir);
void phyr_helper_dma_sync_for_device(struct device *dev, dma_addr_t addr, size_t len,
				     enum dma_data_direction dir);
struct iommu_domain *phyr_helper_dma_domain(struct device *dev);
void phyr_helper_iotlb_gather_init(struct iommu_iotlb_gather *gather);
void phyr_helper_iotlb_sync(struct iommu_domain *domain, struct iommu_iotlb_gather *gather);
bool phyr_helper_is_guest(void);
void phyr_helper_iommu_flush_iotlb_all(struct iommu_domain *domain);
struct page *phyr_helper_alloc_chunk(gfp_t gfp, unsigned int order, bool may_fail);
size_t phyr_helper_cache_line(void);
unsigned long phyr_helper_totalram_pages(void);
bool phyr_helper_killed(void);
void *phyr_helper_vmap(struct page **pages, unsigned int count);
void phyr_helper_vunmap(const void *addr);

/* Who is charged for pages that stay pinned. */
struct phyr_charge {
	struct user_struct *user;	/* NULL: without a limit */
	struct mm_struct *mm;
	unsigned long pages;
};

int phyr_helper_charge_pinned(struct phyr_charge *charge, unsigned long pages);
void phyr_helper_uncharge_pinned(struct phyr_charge *charge);

extern struct tracepoint __tracepoint_phyr_map;
extern struct tracepoint __tracepoint_phyr_descriptors;
void rust_do_trace_phyr_map(struct device *dev, const struct phyr_map_counts *counts);
void rust_do_trace_phyr_descriptors(struct device *dev, const char *kind, u32 entries);

#endif /* _PHYR_BINDINGS_H */
