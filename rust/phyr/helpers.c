// SPDX-License-Identifier: GPL-2.0

/*
 * Static inline functions and macros of the kernel, which Rust cannot call. No logic of phyr's own
 * lives here.
 */

#include <linux/cc_platform.h>
#include <linux/dma-direct.h>
#include <linux/dma-map-ops.h>
#include <linux/export.h>
#include <linux/gfp.h>
#include <linux/iommu-dma.h>
#include <linux/iommu.h>
#include <linux/mm.h>
#include <linux/pci.h>
#include <linux/ratelimit.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/user.h>
#include <linux/swiotlb.h>
#include <linux/vmalloc.h>

#ifdef CONFIG_X86
#include <asm/cpufeature.h>
#endif

#include "bindings.h"

/*
 * Tells if the DMA API maps the whole granules around a buffer for this device. It does not for a
 * device that it does not trust: the rest of the granule is bounced away from it.
 */
bool phyr_helper_dev_is_trusted(struct device *dev)
{
	return !dev_is_pci(dev) || !to_pci_dev(dev)->untrusted;
}
EXPORT_SYMBOL_GPL(phyr_helper_dev_is_trusted);

bool phyr_helper_dev_is_dma_coherent(struct device *dev)
{
	return dev_is_dma_coherent(dev);
}
EXPORT_SYMBOL_GPL(phyr_helper_dev_is_dma_coherent);

/*
 * Tells if all that the device gets to see are copies: bounce buffers were asked for, or memory is
 * encrypted and the device cannot know.
 */
bool phyr_helper_dma_bounces(struct device *dev)
{
	return is_swiotlb_force_bounce(dev) || cc_platform_has(CC_ATTR_GUEST_MEM_ENCRYPT);
}
EXPORT_SYMBOL_GPL(phyr_helper_dma_bounces);

/* Tells if a buffer that may be a small object of kmalloc()'s is bounced: neighbours share it. */
bool phyr_helper_dma_kmalloc_bounces(struct device *dev, size_t size, enum dma_data_direction dir)
{
	return dma_kmalloc_needs_bounce(dev, size, dir);
}
EXPORT_SYMBOL_GPL(phyr_helper_dma_kmalloc_bounces);

/*
 * The longest range that can be bounced, or zero: there are no bounce buffers, or they lie beyond
 * @mask, where an IOMMU does not translate (all ones: it does). is_swiotlb_active() and
 * swiotlb_max_mapping_size(), which are not exported.
 */
size_t phyr_helper_swiotlb_max_mapping_size(struct device *dev, u64 mask)
{
#ifdef CONFIG_SWIOTLB
	struct io_tlb_mem *mem = dev->dma_io_tlb_mem;

	if (!mem || !mem->nslabs)
		return 0;
	/* Also where there can be more: those that come lie anywhere. */
	if (mask != U64_MAX && phys_to_dma(dev, mem->defpool.end - 1) > mask)
		return 0;
	return (size_t)IO_TLB_SIZE * IO_TLB_SEGSIZE -
	       roundup(dma_get_min_align_mask(dev), IO_TLB_SIZE);
#else
	return 0;
#endif
}
EXPORT_SYMBOL_GPL(phyr_helper_swiotlb_max_mapping_size);

/*
 * Tells if a permanent failure is to be logged once more, for the @nr-th of the reasons that there
 * are: such I/O is tried often.
 */
bool phyr_helper_may_say(unsigned int nr)
{
#define REASON(nr) RATELIMIT_STATE_INIT_FLAGS(reasons[nr], 60 * HZ, 2, RATELIMIT_MSG_ON_RELEASE)
	static struct ratelimit_state reasons[] = { REASON(0), REASON(1), REASON(2) };
#undef REASON

	return nr < ARRAY_SIZE(reasons) && __ratelimit(&reasons[nr]);
}
EXPORT_SYMBOL_GPL(phyr_helper_may_say);

/* The highest DMA address that the device can use, as its own mask and its bus limit it. */
u64 phyr_helper_dma_get_mask(struct device *dev)
{
	return min_not_zero(dma_get_mask(dev), dev->bus_dma_limit);
}
EXPORT_SYMBOL_GPL(phyr_helper_dma_get_mask);

/*
 * The DMA address of a physical one where nothing translates, or all ones where there is none. It
 * is what a linear mapping compares its address with: elsewhere is a copy.
 */
dma_addr_t phyr_helper_phys_to_dma(struct device *dev, phys_addr_t phys)
{
	return phys_to_dma(dev, phys);
}
EXPORT_SYMBOL_GPL(phyr_helper_phys_to_dma);

unsigned int phyr_helper_dma_get_max_seg_size(struct device *dev)
{
	return dma_get_max_seg_size(dev);
}
EXPORT_SYMBOL_GPL(phyr_helper_dma_get_max_seg_size);

unsigned long phyr_helper_dma_get_seg_boundary(struct device *dev)
{
	return dma_get_seg_boundary(dev);
}
EXPORT_SYMBOL_GPL(phyr_helper_dma_get_seg_boundary);

unsigned int phyr_helper_dma_get_min_align_mask(struct device *dev)
{
	return dma_get_min_align_mask(dev);
}
EXPORT_SYMBOL_GPL(phyr_helper_dma_get_min_align_mask);

int phyr_helper_dma_mapping_error(struct device *dev, dma_addr_t addr)
{
	return dma_mapping_error(dev, addr);
}
EXPORT_SYMBOL_GPL(phyr_helper_dma_mapping_error);

void phyr_helper_dma_sync_for_cpu(struct device *dev, dma_addr_t addr, size_t len,
				  enum dma_data_direction dir)
{
	dma_sync_single_for_cpu(dev, addr, len, dir);
}
EXPORT_SYMBOL_GPL(phyr_helper_dma_sync_for_cpu);

void phyr_helper_dma_sync_for_device(struct device *dev, dma_addr_t addr, size_t len,
				     enum dma_data_direction dir)
{
	dma_sync_single_for_device(dev, addr, len, dir);
}
EXPORT_SYMBOL_GPL(phyr_helper_dma_sync_for_device);

/*
 * The domain in which the DMA API maps for the device, if it does so by an IOMMU. It stays while a
 * driver is bound.
 */
struct iommu_domain *phyr_helper_dma_domain(struct device *dev)
{
	struct iommu_domain *domain;

	if (!use_dma_iommu(dev))
		return NULL;
	domain = iommu_get_domain_for_dev(dev);
	/* Not one that somebody has just attached. */
	return domain && iommu_is_dma_domain(domain) ? domain : NULL;
}
EXPORT_SYMBOL_GPL(phyr_helper_dma_domain);

/* Whether there is a hypervisor, as far as the processor says so. */
bool phyr_helper_is_guest(void)
{
#ifdef CONFIG_X86
	return boot_cpu_has(X86_FEATURE_HYPERVISOR);
#else
	return false;
#endif
}
EXPORT_SYMBOL_GPL(phyr_helper_is_guest);

void phyr_helper_iommu_flush_iotlb_all(struct iommu_domain *domain)
{
	iommu_flush_iotlb_all(domain);
}
EXPORT_SYMBOL_GPL(phyr_helper_iommu_flush_iotlb_all);

/*
 * Zeroed pages, as one compound page if they are several: each may be referenced by itself. With
 * @may_fail it fails where others would kill.
 */
struct page *phyr_helper_alloc_chunk(gfp_t gfp, unsigned int order, bool may_fail)
{
	return alloc_pages(gfp | __GFP_ZERO | __GFP_COMP | (may_fail ? __GFP_RETRY_MAYFAIL : 0),
			   order);
}
EXPORT_SYMBOL_GPL(phyr_helper_alloc_chunk);

/*
 * A cache line of the CPU, or of what keeps devices in step that are not coherent, whichever is
 * longer.
 */
size_t phyr_helper_cache_line(void)
{
	return max_t(size_t, dma_get_cache_alignment(), L1_CACHE_BYTES);
}
EXPORT_SYMBOL_GPL(phyr_helper_cache_line);

unsigned long phyr_helper_totalram_pages(void)
{
	return totalram_pages();
}
EXPORT_SYMBOL_GPL(phyr_helper_totalram_pages);

/* For what takes long: lets others run first. */
bool phyr_helper_killed(void)
{
	cond_resched();
	return fatal_signal_pending(current);
}
EXPORT_SYMBOL_GPL(phyr_helper_killed);

void *phyr_helper_vmap(struct page **pages, unsigned int count)
{
	return vmap(pages, count, VM_MAP, PAGE_KERNEL);
}
EXPORT_SYMBOL_GPL(phyr_helper_vmap);

void phyr_helper_vunmap(const void *addr)
{
	vunmap(addr);
}
EXPORT_SYMBOL_GPL(phyr_helper_vunmap);

/* Adds @pages to those that are @counted, unless these are more than @limit then. */
static bool phyr_count_pages(atomic64_t *counted, unsigned long pages, unsigned long limit)
{
	s64 now = atomic64_read(counted);

	do {
		if (now + pages > limit)
			return false;
	} while (!atomic64_try_cmpxchg(counted, &now, now + pages));
	return true;
}

/* The pages that the user of the task has locked; NULL where the kernel does not count these. */
static atomic64_t *phyr_locked_vm(struct user_struct *user)
{
#if defined(CONFIG_NET) || defined(CONFIG_IO_URING) || defined(CONFIG_VFIO_PCI_ZDEV_KVM) || \
	IS_ENABLED(CONFIG_IOMMUFD) || defined(CONFIG_SECRETMEM)
	return &user->locked_vm;
#else
	return NULL;
#endif
}

/*
 * As __io_account_mem() of io_uring, which is not for modules. Where nothing counts what a user has
 * locked, it is the pinned pages of the process that are limited.
 */
int phyr_helper_charge_pinned(struct phyr_charge *charge, unsigned long pages)
{
	unsigned long limit = rlimit(RLIMIT_MEMLOCK) >> PAGE_SHIFT;
	struct user_struct *user = current_user();
	struct mm_struct *mm = current->mm;
	atomic64_t *locked = phyr_locked_vm(user);

	charge->user = NULL;
	if (capable(CAP_IPC_LOCK)) {
		atomic64_add(pages, &mm->pinned_vm);
	} else if (!locked) {
		if (!phyr_count_pages(&mm->pinned_vm, pages, limit))
			return -ENOMEM;
	} else {
		if (!phyr_count_pages(locked, pages, limit))
			return -ENOMEM;
		charge->user = get_uid(user);
		atomic64_add(pages, &mm->pinned_vm);
	}
	mmgrab(mm);
	charge->mm = mm;
	charge->pages = pages;
	return 0;
}
EXPORT_SYMBOL_GPL(phyr_helper_charge_pinned);

void phyr_helper_uncharge_pinned(struct phyr_charge *charge)
{
	atomic64_sub(charge->pages, &charge->mm->pinned_vm);
	mmdrop(charge->mm);
	if (charge->user) {
		atomic64_sub(charge->pages, phyr_locked_vm(charge->user));
		free_uid(charge->user);
	}
}
EXPORT_SYMBOL_GPL(phyr_helper_uncharge_pinned);

#if defined(CONFIG_PREEMPTION) && !defined(CONFIG_TASKS_RCU)
#error "CONFIG_PREEMPTION without CONFIG_TASKS_RCU: nothing tells when a fault's report is over"
#endif
