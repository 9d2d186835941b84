// SPDX-License-Identifier: GPL-2.0
/*
 * A driver with bugs: one bug each time that it is loaded, for a checker of the debug kernel to
 * report. Only for a guest with QEMU's edu device (docs/specs/edu.rst).
 *
 *   modprobe phyr_broken bug=NAME
 *
 * It repairs the damage where it can, so that the next bug starts with a sound kernel. It is in C,
 * as phyr's types hardly let any of this compile; overflow.rs has the bugs that need Rust.
 */

#include <linux/debug_locks.h>
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/io-64-nonatomic-lo-hi.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/rcupdate.h>
#include <linux/refcount.h>
#include <linux/slab.h>
#include <linux/timer.h>

#include "overflow.h"

#define EDU_SOURCE 0x80
#define EDU_DESTINATION 0x88
#define EDU_COUNT 0x90
#define EDU_COMMAND 0x98
#define EDU_START 1
#define EDU_TO_MEMORY 2
/* Address of the device's own buffer. */
#define EDU_BUFFER 0x40000

/* Overlaps of a cache line that DMA-API debugging can count. */
#define OVERLAPS 7

static char *bug = "";
module_param(bug, charp, 0444);
MODULE_PARM_DESC(bug, "Name of the bug; tests/checkers/broken.c has the list");

static struct pci_dev *edu;
static struct page *page;
/* A mapping that is left when the driver is unbound. */
static dma_addr_t pending;

static int map(struct device *dev, enum dma_data_direction dir, dma_addr_t *addr)
{
	*addr = dma_map_page(dev, page, 0, PAGE_SIZE, dir);
	return dma_mapping_error(dev, *addr);
}

static void unmap(struct device *dev, enum dma_data_direction dir, dma_addr_t addr)
{
	dma_unmap_page(dev, addr, PAGE_SIZE, dir);
}

/* The device writes a few bytes to memory. */
static int device_writes(dma_addr_t addr)
{
	void __iomem *regs = pci_iomap(edu, 0, 0);
	int ret = -ETIMEDOUT;

	if (!regs)
		return -ENOMEM;
	pci_set_master(edu);
	writeq(EDU_BUFFER, regs + EDU_SOURCE);
	writeq(addr, regs + EDU_DESTINATION);
	writeq(64, regs + EDU_COUNT);
	writeq(EDU_START | EDU_TO_MEMORY, regs + EDU_COMMAND);
	for (int tries = 0; tries < 500 && ret; tries++) {
		msleep(20);
		if (!(readq(regs + EDU_COMMAND) & EDU_START))
			ret = 0;
	}
	pci_clear_master(edu);
	pci_iounmap(edu, regs);
	return ret;
}

static int leak_mapping(struct device *dev)
{
	return map(dev, DMA_FROM_DEVICE, &pending);
}

static int unmap_twice(struct device *dev)
{
	dma_addr_t addr;
	int ret = map(dev, DMA_FROM_DEVICE, &addr);

	if (ret)
		return ret;
	unmap(dev, DMA_FROM_DEVICE, addr);
	unmap(dev, DMA_FROM_DEVICE, addr);
	return 0;
}

static int unmap_direction(struct device *dev)
{
	dma_addr_t addr;
	int ret = map(dev, DMA_TO_DEVICE, &addr);

	if (!ret)
		unmap(dev, DMA_FROM_DEVICE, addr);
	return ret;
}

static int sync_direction(struct device *dev)
{
	dma_addr_t addr;
	int ret = map(dev, DMA_FROM_DEVICE, &addr);

	if (ret)
		return ret;
	dma_sync_single_for_cpu(dev, addr, PAGE_SIZE, DMA_TO_DEVICE);
	unmap(dev, DMA_FROM_DEVICE, addr);
	return 0;
}

static int sync_unmapped(struct device *dev)
{
	dma_addr_t addr;
	int ret = map(dev, DMA_FROM_DEVICE, &addr);

	if (ret)
		return ret;
	unmap(dev, DMA_FROM_DEVICE, addr);
	dma_sync_single_for_cpu(dev, addr, PAGE_SIZE, DMA_FROM_DEVICE);
	return 0;
}

/* The kernel warns of this once in a boot. */
static int overlap(struct device *dev)
{
	dma_addr_t addrs[OVERLAPS + 2];
	int nr, ret = 0;

	for (nr = 0; nr < ARRAY_SIZE(addrs); nr++) {
		ret = map(dev, DMA_FROM_DEVICE, &addrs[nr]);
		if (ret)
			break;
	}
	while (nr--)
		unmap(dev, DMA_FROM_DEVICE, addrs[nr]);
	return ret;
}

static int free_mapped(struct device *dev)
{
	unsigned long flags;
	dma_addr_t addr;
	int ret = map(dev, DMA_FROM_DEVICE, &addr);

	if (ret)
		return ret;
	/* With interrupts off nobody gets the page while it is mapped. */
	local_irq_save(flags);
	__free_page(page);
	page = NULL;
	unmap(dev, DMA_FROM_DEVICE, addr);
	local_irq_restore(flags);
	return 0;
}

/* The same as free_mapped(), by calls that DMA-API debugging does not see. */
static int free_linked(struct device *dev)
{
	struct dma_iova_state state = {};
	unsigned long flags;
	int ret;

	if (!dma_iova_try_alloc(dev, &state, page_to_phys(page), PAGE_SIZE))
		return -EOPNOTSUPP;
	ret = dma_iova_link(dev, &state, page_to_phys(page), 0, PAGE_SIZE, DMA_FROM_DEVICE, 0);
	if (ret) {
		dma_iova_free(dev, &state);
		return ret;
	}
	local_irq_save(flags);
	__free_page(page);
	page = NULL;
	dma_iova_destroy(dev, &state, PAGE_SIZE, DMA_FROM_DEVICE, 0);
	local_irq_restore(flags);
	return 0;
}

static int device_after_unmap(struct device *dev)
{
	dma_addr_t addr;
	int ret = map(dev, DMA_FROM_DEVICE, &addr);

	if (ret)
		return ret;
	/* This is allowed: no checker may report it. */
	ret = device_writes(addr);
	unmap(dev, DMA_FROM_DEVICE, addr);
	if (ret)
		return ret;
	pr_info("the device has written what is mapped\n");
	ret = device_writes(addr);
	/* The IOMMU reports it by an interrupt. */
	msleep(500);
	return ret;
}

static int sleep_in_atomic(struct device *dev)
{
	static DEFINE_SPINLOCK(lock);

	spin_lock(&lock);
	kfree(kmalloc(64, GFP_KERNEL));
	spin_unlock(&lock);
	return 0;
}

static void never(struct timer_list *timer)
{
}

static int free_timer(struct device *dev)
{
	struct timer_list *timer = kzalloc(sizeof(*timer), GFP_KERNEL);

	if (!timer)
		return -ENOMEM;
	timer_setup(timer, never, 0);
	mod_timer(timer, jiffies + 3600 * HZ);
	kfree(timer);
	return 0;
}

static int list_twice(struct device *dev)
{
	LIST_HEAD(head);
	LIST_HEAD(entry);

	list_add(&entry, &head);
	list_del(&entry);
	list_del(&entry);
	return 0;
}

static int put_twice(struct device *dev)
{
	refcount_t count = REFCOUNT_INIT(1);

	if (!refcount_dec_and_test(&count))
		return -EINVAL;
	/* The result does not matter. */
	return refcount_dec_and_test(&count) ? -EINVAL : 0;
}

/* Several objects, as the address of the last may still be on a stack, which hides it. */
static int leak_memory(struct device *dev)
{
	for (int nr = 0; nr < 8; nr++)
		if (!kmalloc(200, GFP_KERNEL))
			return -ENOMEM;
	return 0;
}

static int rcu_unlocked(struct device *dev)
{
	static int value;
	static int __rcu *pointer = RCU_INITIALIZER(&value);

	return *rcu_dereference(pointer);
}

static noinline int of_a_byte(u8 byte)
{
	return 0;
}

/* A call through a pointer of the wrong type, hidden from the compiler. */
static int wrong_type(struct device *dev)
{
	int (*call)(struct device *dev) = (void *)of_a_byte;

	OPTIMIZER_HIDE_VAR(call);
	return call(dev);
}

/* The last bug for lockdep, which turns itself off with its first report. */
static int lock_order(struct device *dev)
{
	static DEFINE_MUTEX(one);
	static DEFINE_MUTEX(two);

	mutex_lock(&one);
	mutex_lock(&two);
	mutex_unlock(&two);
	mutex_unlock(&one);

	mutex_lock(&two);
	mutex_lock(&one);
	mutex_unlock(&one);
	mutex_unlock(&two);
	return 0;
}

static int use_freed(struct device *dev)
{
	pr_info("a byte that is freed: %u\n", phyr_broken_rust_uaf());
	return 0;
}

/* Not a bug, but it turns lockdep off without a message. */
static int blind_lockdep(struct device *dev)
{
	debug_locks_off();
	return 0;
}

static const struct {
	const char *name;
	int (*run)(struct device *dev);
} bugs[] = {
	{ "leak-mapping", leak_mapping },
	{ "unmap-twice", unmap_twice },
	{ "unmap-direction", unmap_direction },
	{ "sync-direction", sync_direction },
	{ "sync-unmapped", sync_unmapped },
	{ "overlap", overlap },
	{ "free-mapped", free_mapped },
	{ "free-linked", free_linked },
	{ "device-after-unmap", device_after_unmap },
	{ "sleep-in-atomic", sleep_in_atomic },
	{ "free-timer", free_timer },
	{ "list-twice", list_twice },
	{ "put-twice", put_twice },
	{ "leak-memory", leak_memory },
	{ "rcu-unlocked", rcu_unlocked },
	{ "wrong-type", wrong_type },
	{ "lock-order", lock_order },
	{ "use-freed", use_freed },
	{ "blind-lockdep", blind_lockdep },
};

static int broken_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	int ret;

	for (int i = 0; i < ARRAY_SIZE(bugs); i++) {
		if (strcmp(bugs[i].name, bug))
			continue;
		ret = pci_enable_device_mem(pdev);
		if (ret)
			return ret;
		ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
		if (!ret) {
			edu = pci_dev_get(pdev);
			ret = bugs[i].run(&pdev->dev);
		}
		if (ret) {
			/* After a failed probe nothing is mapped. */
			pci_dev_put(edu);
			edu = NULL;
			pci_disable_device(pdev);
			return ret;
		}
		pr_info("%s: done\n", bug);
		return 0;
	}
	return -EINVAL;
}

static void broken_remove(struct pci_dev *pdev)
{
	pci_disable_device(pdev);
}

static const struct pci_device_id broken_ids[] = {
	{ PCI_DEVICE(0x1234, 0x11e8) },
	{ }
};

/* Without MODULE_DEVICE_TABLE(): it is loaded by name only. */
static struct pci_driver broken_driver = {
	.name = "phyr_broken",
	.id_table = broken_ids,
	.probe = broken_probe,
	.remove = broken_remove,
};

static void __exit broken_exit(void)
{
	pci_unregister_driver(&broken_driver);
	if (pending)
		unmap(&edu->dev, DMA_FROM_DEVICE, pending);
	pci_dev_put(edu);
	if (page)
		__free_page(page);
}

static int __init broken_init(void)
{
	int ret;

	/* It kills this process, which must not hold a device's lock. */
	if (!strcmp(bug, "overflow")) {
		pr_info("overflow: done: %u\n", phyr_broken_overflow(strlen(bug)));
		return 0;
	}
	page = alloc_page(GFP_KERNEL);
	if (!page)
		return -ENOMEM;
	ret = pci_register_driver(&broken_driver);
	if (!ret && !edu) {
		pr_err("%s: not done\n", bug);
		pci_unregister_driver(&broken_driver);
		ret = -ENODEV;
	}
	if (ret && page)
		__free_page(page);
	return ret;
}

module_init(broken_init);
module_exit(broken_exit);
MODULE_AUTHOR("phyr developers");
MODULE_DESCRIPTION("Bugs for the debug kernel's checkers");
MODULE_LICENSE("GPL");
