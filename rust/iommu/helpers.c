// SPDX-License-Identifier: GPL-2.0

/*
 * Static inline functions and macros of the kernel, which Rust cannot call. No logic of
 * phyr_iommu's own lives here.
 */

#include <linux/export.h>
#include <linux/iommu.h>
#include <linux/msi.h>
#include <linux/pci.h>
#include <linux/rcupdate.h>

#include "bindings.h"

/*
 * The @nr-th range of bus addresses below the host bridge of @dev that is not memory, counted from
 * zero; false if there are not that many.
 */
bool phyr_iommu_helper_pci_window(struct device *dev, unsigned int nr, u64 *start, u64 *end)
{
	struct pci_host_bridge *bridge;
	struct resource_entry *window;

	if (!dev_is_pci(dev))
		return false;
	bridge = pci_find_host_bridge(to_pci_dev(dev)->bus);
	resource_list_for_each_entry(window, &bridge->windows) {
		if (resource_type(window->res) != IORESOURCE_MEM || nr--)
			continue;
		*start = window->res->start - window->offset;
		*end = window->res->end - window->offset;
		return true;
	}
	return false;
}
EXPORT_SYMBOL_GPL(phyr_iommu_helper_pci_window);

/* The lowest range of bus addresses, from @from on, that the host bridge of @dev says is memory. */
bool phyr_iommu_helper_pci_dma_range(struct device *dev, u64 from, u64 *start, u64 *end)
{
	struct pci_host_bridge *bridge;
	struct resource_entry *range;
	bool found = false;

	if (!dev_is_pci(dev))
		return false;
	bridge = pci_find_host_bridge(to_pci_dev(dev)->bus);
	resource_list_for_each_entry(range, &bridge->dma_ranges) {
		u64 first = range->res->start - range->offset;

		if (first < from || (found && first >= *start))
			continue;
		*start = first;
		*end = range->res->end - range->offset;
		found = true;
	}
	return found;
}
EXPORT_SYMBOL_GPL(phyr_iommu_helper_pci_dma_range);

/*
 * Finds the address to which the @nr-th interrupt of @dev is written, counted from zero; returns
 * false if there are not that many. If the IOMMU translates it, @len is the length of the page
 * there, else zero.
 */
bool phyr_iommu_helper_msi_message(struct device *dev, unsigned int nr, u64 *addr, u64 *len)
{
#ifdef CONFIG_GENERIC_MSI_IRQ
	struct msi_desc *desc;

	if (!dev->msi.data)
		return false;
	guard(msi_descs_lock)(dev);
	msi_for_each_desc(desc, dev, MSI_DESC_ASSOCIATED) {
		if (nr--)
			continue;
		*addr = (u64)desc->msg.address_hi << 32 | desc->msg.address_lo;
		*len = 0;
#ifdef CONFIG_IRQ_MSI_IOMMU
		if (desc->iommu_msi_shift) {
			*addr = (u64)desc->iommu_msi_iova << desc->iommu_msi_shift;
			*len = 1ULL << desc->iommu_msi_shift;
		}
#endif
		return true;
	}
#endif
	return false;
}
EXPORT_SYMBOL_GPL(phyr_iommu_helper_msi_message);

#if defined(CONFIG_PREEMPTION) && !defined(CONFIG_TASKS_RCU)
#error "CONFIG_PREEMPTION without CONFIG_TASKS_RCU: nothing tells when a fault's report is over"
#endif

/*
 * Waits until each report of a fault that has begun is over (report_iommu_fault()): those of
 * interrupt handlers, and those of their threads, which may be preempted on the way, but do not
 * sleep. The thread is AMD's, which takes no lock and no RCU to look at the device's domain.
 */
void phyr_iommu_helper_wait_for_fault_reports(void)
{
	synchronize_rcu();
	synchronize_rcu_tasks();
}
EXPORT_SYMBOL_GPL(phyr_iommu_helper_wait_for_fault_reports);
