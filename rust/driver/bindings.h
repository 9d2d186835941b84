/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Declarations for phyr_driver that the kernel's own bindings do not carry: the functions of
 * helpers.c and inline.c, which wrap static inline functions and macros.
 */
#ifndef _PHYR_DRIVER_BINDINGS_H
#define _PHYR_DRIVER_BINDINGS_H

#include <linux/dma-mapping.h>
#include <linux/interrupt.h>
#include <linux/pci.h>
#include <linux/percpu-refcount.h>

bool phyr_driver_helper_dma_set_parms(struct device *dev, unsigned int max_segment,
				      unsigned long boundary, unsigned int min_align_mask);
int phyr_driver_helper_alloc_irq_vectors(struct pci_dev *pdev, unsigned int min, unsigned int max,
					 unsigned int flags, struct irq_affinity *affinity);
bool phyr_driver_helper_percpu_ref_tryget_live(struct percpu_ref *ref);
bool phyr_driver_helper_percpu_ref_tryget_live_rcu(struct percpu_ref *ref);
void phyr_driver_helper_percpu_ref_put(struct percpu_ref *ref);

#endif /* _PHYR_DRIVER_BINDINGS_H */
