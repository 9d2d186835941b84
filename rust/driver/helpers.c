// SPDX-License-Identifier: GPL-2.0

/*
 * Static inline functions and macros of the kernel, which Rust cannot call. No logic of
 * phyr_driver's own lives here.
 */

#include <linux/dma-mapping.h>
#include <linux/export.h>
#include <linux/pci.h>

#include "bindings.h"

/* False if the bus has no place for them. */
bool phyr_driver_helper_dma_set_parms(struct device *dev, unsigned int max_segment,
				      unsigned long boundary, unsigned int min_align_mask)
{
	if (!dev->dma_parms)
		return false;
	dma_set_max_seg_size(dev, max_segment);
	dma_set_seg_boundary(dev, boundary);
	dma_set_min_align_mask(dev, min_align_mask);
	return true;
}
EXPORT_SYMBOL_GPL(phyr_driver_helper_dma_set_parms);

/* A function only with CONFIG_PCI_MSI. */
int phyr_driver_helper_alloc_irq_vectors(struct pci_dev *pdev, unsigned int min, unsigned int max,
					 unsigned int flags, struct irq_affinity *affinity)
{
	return pci_alloc_irq_vectors_affinity(pdev, min, max, flags, affinity);
}
EXPORT_SYMBOL_GPL(phyr_driver_helper_alloc_irq_vectors);
