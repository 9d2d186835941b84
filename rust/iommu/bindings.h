/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Declarations for phyr_iommu that the kernel's own bindings do not carry: the allocator of IOVAs,
 * and the functions of helpers.c, which wrap static inline functions and macros.
 */
#ifndef _PHYR_IOMMU_BINDINGS_H
#define _PHYR_IOMMU_BINDINGS_H

#include <linux/iommu.h>
#include <linux/iova.h>

bool phyr_iommu_helper_pci_window(struct device *dev, unsigned int nr, u64 *start, u64 *end);
bool phyr_iommu_helper_pci_dma_range(struct device *dev, u64 from, u64 *start, u64 *end);
bool phyr_iommu_helper_msi_message(struct device *dev, unsigned int nr, u64 *addr, u64 *len);
void phyr_iommu_helper_wait_for_fault_reports(void);

#endif /* _PHYR_IOMMU_BINDINGS_H */
