// SPDX-License-Identifier: GPL-2.0

/*
 * Helpers that are short and often called: where the kernel takes its own helpers in line into
 * Rust (CONFIG_RUST_INLINE_HELPERS), so does Kbuild with these.
 */

#include <linux/export.h>
#include <linux/iommu.h>
#include <linux/memremap.h>
#include <linux/mm.h>
#include <linux/scatterlist.h>

#include "bindings.h"

#ifndef __phyr_helper
#define __phyr_helper
#endif

/*
 * The physical address of a page, or all ones for a page of peer-to-peer memory: such a page is a
 * range on a bus, not memory, and needs a mapping of its own kind.
 */
__phyr_helper phys_addr_t phyr_helper_page_to_phys(const struct page *page)
{
	if (is_pci_p2pdma_page(page))
		return PHYS_ADDR_MAX;
	return page_to_phys(page);
}
EXPORT_SYMBOL_GPL(phyr_helper_page_to_phys);

__phyr_helper void phyr_helper_iotlb_gather_init(struct iommu_iotlb_gather *gather)
{
	iommu_iotlb_gather_init(gather);
}
EXPORT_SYMBOL_GPL(phyr_helper_iotlb_gather_init);

__phyr_helper void phyr_helper_iotlb_sync(struct iommu_domain *domain,
					  struct iommu_iotlb_gather *gather)
{
	iommu_iotlb_sync(domain, gather);
}
EXPORT_SYMBOL_GPL(phyr_helper_iotlb_sync);

/* The physical address of memory of kmalloc() or vmalloc(). */
__phyr_helper phys_addr_t phyr_helper_virt_to_phys(void *addr)
{
	if (is_vmalloc_addr(addr))
		return page_to_phys(vmalloc_to_page(addr)) + offset_in_page(addr);
	return virt_to_phys(addr);
}
EXPORT_SYMBOL_GPL(phyr_helper_virt_to_phys);

/* Writes the DMA side of an entry that has no other side, and returns the next entry. */
__phyr_helper struct scatterlist *phyr_helper_sg_fill_dma(struct scatterlist *sg, dma_addr_t addr,
							  unsigned int len)
{
	sg_set_page(sg, NULL, 0, 0);
	sg_dma_address(sg) = addr;
	sg_dma_len(sg) = len;
	return sg_next(sg);
}
EXPORT_SYMBOL_GPL(phyr_helper_sg_fill_dma);

/*
 * Writes the whole of an entry of a list without a mark of its end. Of the page nothing but its
 * address is used.
 */
__phyr_helper void phyr_helper_sg_fill_phys(struct scatterlist *sg, phys_addr_t paddr,
					    unsigned int len)
{
	*sg = (struct scatterlist){ };
	sg_set_page(sg, phys_to_page(paddr), len, offset_in_page(paddr));
}
EXPORT_SYMBOL_GPL(phyr_helper_sg_fill_phys);
