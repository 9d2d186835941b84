// SPDX-License-Identifier: GPL-2.0
/*
 * Declarations of the project's callbacks with the types by which C calls them, for
 * tests/host/kcfi. The address of each is taken, so that a compiler with kCFI emits its hash as
 * __kcfi_typeid_NAME. This file is compiled, but not linked.
 *
 * A name is the path of the function in the sources: crate, modules and function, joined by __.
 */

#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/device.h>
#include <linux/dma-buf.h>
#include <linux/dma-fence.h>
#include <linux/fs.h>
#include <linux/interrupt.h>
#include <linux/iommu.h>
#include <linux/pci.h>
#include <linux/percpu-refcount.h>
#include <linux/workqueue.h>

/* A function that C calls by a pointer of this type. */
#define POINTER(type, name) typeof(*((type)NULL)) name, *const phyr_taken_##name = name
/* A function that C calls by this member of a structure. */
#define MEMBER(type, member, name) POINTER(typeof(((struct type *)NULL)->member), name)

MEMBER(blk_mq_ops, queue_rq, phyr_blk__vtable__queue_rq);
MEMBER(blk_mq_ops, queue_rqs, phyr_blk__vtable__queue_rqs);
MEMBER(blk_mq_ops, commit_rqs, phyr_blk__vtable__commit_rqs);
MEMBER(blk_mq_ops, complete, phyr_blk__vtable__complete);
MEMBER(blk_mq_ops, timeout, phyr_blk__vtable__timeout);
MEMBER(blk_mq_ops, init_hctx, phyr_blk__vtable__init_hctx);
MEMBER(blk_mq_ops, init_request, phyr_blk__vtable__init_request);
MEMBER(blk_mq_ops, exit_request, phyr_blk__vtable__exit_request);
MEMBER(blk_mq_ops, map_queues, phyr_blk__vtable__map_queues);
MEMBER(request, end_io, phyr_blk__passthrough__end_io);

MEMBER(block_device_operations, getgeo, phyr_blk__geometry__getgeo);
MEMBER(device_attribute, show, phyr_blk__attribute__show);
POINTER(busy_tag_iter_fn *, phyr_blk__in_flight__call);
POINTER(work_func_t, phyr_blk__memory__run);

MEMBER(file_operations, uring_cmd, phyr_blk__char_dev__uring_cmd);

POINTER(percpu_ref_func_t *, phyr_driver__users__release);
POINTER(dr_release_t, phyr_driver__managed__release);
POINTER(irq_handler_t, phyr_driver__irq__handle);
POINTER(irq_handler_t, phyr_driver__irq__handle_hard);
POINTER(irq_handler_t, phyr_driver__irq__handle_threaded);

MEMBER(pci_driver, probe, phyr_driver__pci__adapter__probe);
MEMBER(pci_driver, remove, phyr_driver__pci__adapter__remove);
MEMBER(pci_driver, shutdown, phyr_driver__pci__adapter__shutdown);
MEMBER(pci_error_handlers, error_detected, phyr_driver__pci__adapter__error_detected);
MEMBER(pci_error_handlers, slot_reset, phyr_driver__pci__adapter__slot_reset);
MEMBER(pci_error_handlers, reset_prepare, phyr_driver__pci__adapter__reset_prepare);
MEMBER(pci_error_handlers, reset_done, phyr_driver__pci__adapter__reset_done);
MEMBER(pci_error_handlers, resume, phyr_driver__pci__adapter__resume);

POINTER(iommu_fault_handler_t, phyr_iommu__fault__report);
/* iommu_group_for_each_dev() */
POINTER(int (*)(struct device *, void *), phyr_iommu__attach__one_more);

MEMBER(dma_buf_attach_ops, invalidate_mappings, phyr_dma_buf__attached__invalidate_mappings);
MEMBER(dma_buf_ops, attach, phyr_dma_buf__ops__attach);
MEMBER(dma_buf_ops, detach, phyr_dma_buf__ops__detach);
MEMBER(dma_buf_ops, pin, phyr_dma_buf__ops__pin);
MEMBER(dma_buf_ops, unpin, phyr_dma_buf__ops__unpin);
MEMBER(dma_buf_ops, map_dma_buf, phyr_dma_buf__ops__map);
MEMBER(dma_buf_ops, unmap_dma_buf, phyr_dma_buf__ops__unmap);
MEMBER(dma_buf_ops, begin_cpu_access, phyr_dma_buf__ops__begin_cpu_access);
MEMBER(dma_buf_ops, end_cpu_access, phyr_dma_buf__ops__end_cpu_access);
MEMBER(dma_buf_ops, mmap, phyr_dma_buf__ops__mmap);
MEMBER(dma_buf_ops, vmap, phyr_dma_buf__ops__vmap);
MEMBER(dma_buf_ops, vunmap, phyr_dma_buf__ops__vunmap);
MEMBER(dma_buf_ops, release, phyr_dma_buf__ops__release);

MEMBER(dma_buf_attach_ops, invalidate_mappings, phyr_test__foreign__told);
MEMBER(dma_fence_ops, get_driver_name, phyr_test__foreign__fence_name);
MEMBER(dma_buf_ops, map_dma_buf, phyr_test__foreign__map);
MEMBER(dma_buf_ops, unmap_dma_buf, phyr_test__foreign__unmap);
MEMBER(dma_buf_ops, release, phyr_test__foreign__release);
