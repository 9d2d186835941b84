// SPDX-License-Identifier: GPL-2.0

/*
 * Static inline functions and macros of the kernel, which Rust cannot call. No logic of
 * phyr_dma_buf's own lives here.
 */

#include <linux/dma-buf.h>
#include <linux/dma-buf-mapping.h>
#include <linux/export.h>
#include <linux/fs.h>
#include <linux/iosys-map.h>
#include <linux/mm.h>

#include "bindings.h"

void phyr_dma_buf_helper_get_dma_buf(struct dma_buf *dmabuf)
{
	get_dma_buf(dmabuf);
}
EXPORT_SYMBOL_GPL(phyr_dma_buf_helper_get_dma_buf);

bool phyr_dma_buf_helper_file_readable(const struct file *file)
{
	return file->f_mode & FMODE_READ;
}
EXPORT_SYMBOL_GPL(phyr_dma_buf_helper_file_readable);

bool phyr_dma_buf_helper_file_writable(const struct file *file)
{
	return file->f_mode & FMODE_WRITE;
}
EXPORT_SYMBOL_GPL(phyr_dma_buf_helper_file_writable);

/* There are none without CONFIG_PCI_P2PDMA. */
int phyr_dma_buf_helper_p2p_init(struct pci_dev *pdev)
{
	return pcim_p2pdma_init(pdev);
}
EXPORT_SYMBOL_GPL(phyr_dma_buf_helper_p2p_init);

struct p2pdma_provider *phyr_dma_buf_helper_p2p_provider(struct pci_dev *pdev, int bar)
{
	return pcim_p2pdma_provider(pdev, bar);
}
EXPORT_SYMBOL_GPL(phyr_dma_buf_helper_p2p_provider);

struct sg_table *phyr_dma_buf_helper_p2p_map_page(struct dma_buf_attachment *attach,
						  struct p2pdma_provider *provider,
						  phys_addr_t paddr)
{
	struct phys_vec vec = { .paddr = paddr, .len = PAGE_SIZE };

	return dma_buf_phys_vec_to_sgt(attach, provider, &vec, 1, PAGE_SIZE, DMA_BIDIRECTIONAL);
}
EXPORT_SYMBOL_GPL(phyr_dma_buf_helper_p2p_map_page);

void phyr_dma_buf_helper_p2p_unmap_page(struct dma_buf_attachment *attach, struct sg_table *sgt)
{
	dma_buf_free_sgt(attach, sgt, DMA_BIDIRECTIONAL);
}
EXPORT_SYMBOL_GPL(phyr_dma_buf_helper_p2p_unmap_page);

/* Tells if a user mapping shows the memory itself, not a private copy. */
bool phyr_dma_buf_helper_vma_is_shared(const struct vm_area_struct *vma)
{
	return vma->vm_flags & (VM_SHARED | VM_MAYSHARE);
}
EXPORT_SYMBOL_GPL(phyr_dma_buf_helper_vma_is_shared);

void phyr_dma_buf_helper_iosys_map_set(struct iosys_map *map, void *addr)
{
	iosys_map_set_vaddr(map, addr);
}
EXPORT_SYMBOL_GPL(phyr_dma_buf_helper_iosys_map_set);

void phyr_dma_buf_helper_iosys_map_read(void *to, const struct iosys_map *map, size_t offset,
					size_t len)
{
	iosys_map_memcpy_from(to, map, offset, len);
}
EXPORT_SYMBOL_GPL(phyr_dma_buf_helper_iosys_map_read);

void phyr_dma_buf_helper_iosys_map_write(struct iosys_map *map, size_t offset, const void *from,
					 size_t len)
{
	iosys_map_memcpy_to(map, offset, from, len);
}
EXPORT_SYMBOL_GPL(phyr_dma_buf_helper_iosys_map_write);
