/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What phyr needs of C and the kernel's own bindings do not carry: types, tracepoints, and the
 * functions of helpers.c and inline.c, which wrap static inline functions and macros.
 */
#ifndef _PHYR_BINDINGS_H
#define _PHYR_BINDINGS_H

#include <linux/blk-mq.h>
#include <linux/dma-buf.h>
#include <linux/dma-mapping.h>
#include <linux/dmaengine.h>
#include <linux/iommu.h>
#include <linux/iova.h>
#include <linux/percpu-refcount.h>

#include "trace.h"

phys_addr_t phyr_helper_page_to_phys(const struct page *page);
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
bool phyr_helper_dma_set_parms(struct device *dev, unsigned int max_segment,
			       unsigned long boundary, unsigned int min_align_mask);
int phyr_helper_dma_mapping_error(struct device *dev, dma_addr_t addr);
void phyr_helper_dma_sync_for_cpu(struct device *dev, dma_addr_t addr, size_t len,
				  enum dma_data_direction dir);
void phyr_helper_dma_sync_for_device(struct device *dev, dma_addr_t addr, size_t len,
				     enum dma_data_direction dir);
struct page *phyr_helper_alloc_chunk(gfp_t gfp, unsigned int order);
struct page *phyr_helper_alloc_user_chunk(unsigned int order);
unsigned long phyr_helper_totalram_pages(void);
bool phyr_helper_killed(void);
bool phyr_helper_percpu_ref_tryget_live(struct percpu_ref *ref);
void phyr_helper_percpu_ref_put(struct percpu_ref *ref);
void *phyr_helper_vmap(struct page **pages, unsigned int count);
void phyr_helper_vunmap(const void *addr);
bool phyr_helper_pci_window(struct device *dev, unsigned int nr, u64 *start, u64 *end);
bool phyr_helper_pci_dma_range(struct device *dev, u64 from, u64 *start, u64 *end);
bool phyr_helper_msi_message(struct device *dev, unsigned int nr, u64 *addr, u64 *len);
void phyr_helper_sg_fill_phys(struct scatterlist *sg, phys_addr_t paddr, unsigned int len);
void phyr_helper_iotlb_gather_init(struct iommu_iotlb_gather *gather);
void phyr_helper_iotlb_sync(struct iommu_domain *domain, struct iommu_iotlb_gather *gather);
void phyr_helper_wait_for_fault_reports(void);

/* A macro with a shift, which bindgen leaves out. */
enum { PHYR_IOMMU_DOMAIN_DMA_API = __IOMMU_DOMAIN_DMA_API };

extern struct tracepoint __tracepoint_phyr_map;
extern struct tracepoint __tracepoint_phyr_descriptors;
void rust_do_trace_phyr_map(struct device *dev, const struct phyr_map_counts *counts);
void rust_do_trace_phyr_descriptors(struct device *dev, u32 kind, u32 entries);

/* dma_buf/helpers.c */
void phyr_helper_get_dma_buf(struct dma_buf *dmabuf);
bool phyr_helper_file_readable(const struct file *file);
bool phyr_helper_file_writable(const struct file *file);
dma_addr_t phyr_helper_sg_dma_address(const struct scatterlist *sg);
unsigned int phyr_helper_sg_dma_len(const struct scatterlist *sg);
struct scatterlist *phyr_helper_sg_fill_dma(struct scatterlist *sg, dma_addr_t addr,
					    unsigned int len);
int phyr_helper_p2p_init(struct pci_dev *pdev);
struct p2pdma_provider *phyr_helper_p2p_provider(struct pci_dev *pdev, int bar);
struct sg_table *phyr_helper_p2p_map_page(struct dma_buf_attachment *attach,
					  struct p2pdma_provider *provider, phys_addr_t paddr);
void phyr_helper_p2p_unmap_page(struct dma_buf_attachment *attach, struct sg_table *sgt);
bool phyr_helper_vma_is_shared(const struct vm_area_struct *vma);
void phyr_helper_iosys_map_set(struct iosys_map *map, void *addr);
void phyr_helper_iosys_map_read(void *to, const struct iosys_map *map, size_t offset, size_t len);
void phyr_helper_iosys_map_write(struct iosys_map *map, size_t offset, const void *from,
				 size_t len);

#endif /* _PHYR_BINDINGS_H */
