/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Declarations for phyr_dma_buf that the kernel's own bindings do not carry: the functions of
 * helpers.c, which wrap static inline functions and macros.
 */
#ifndef _PHYR_DMA_BUF_BINDINGS_H
#define _PHYR_DMA_BUF_BINDINGS_H

#include <linux/dma-buf.h>

void phyr_dma_buf_helper_get_dma_buf(struct dma_buf *dmabuf);
bool phyr_dma_buf_helper_file_readable(const struct file *file);
bool phyr_dma_buf_helper_file_writable(const struct file *file);
int phyr_dma_buf_helper_p2p_init(struct pci_dev *pdev);
struct p2pdma_provider *phyr_dma_buf_helper_p2p_provider(struct pci_dev *pdev, int bar);
struct sg_table *phyr_dma_buf_helper_p2p_map_page(struct dma_buf_attachment *attach,
						  struct p2pdma_provider *provider,
						  phys_addr_t paddr);
void phyr_dma_buf_helper_p2p_unmap_page(struct dma_buf_attachment *attach, struct sg_table *sgt);
bool phyr_dma_buf_helper_vma_is_shared(const struct vm_area_struct *vma);
void phyr_dma_buf_helper_iosys_map_set(struct iosys_map *map, void *addr);
void phyr_dma_buf_helper_iosys_map_read(void *to, const struct iosys_map *map, size_t offset,
					size_t len);
void phyr_dma_buf_helper_iosys_map_write(struct iosys_map *map, size_t offset, const void *from,
					 size_t len);

#endif /* _PHYR_DMA_BUF_BINDINGS_H */
