// SPDX-License-Identifier: GPL-2.0
/*
 * The C that phyr is compared with: a scatterlist, dma_map_phys() for each piece, and the DMA API's
 * calls in two steps as a driver would write them by hand for what joins.
 */

#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/dma-mapping.h>
#include <linux/file.h>
#include <linux/scatterlist.h>

#include "phyr_bench.h"
#include "../guest/mark.h"

#define DIR DMA_BIDIRECTIONAL

ssize_t phyr_bench_sgtable(struct device *dev, const struct phys_vec *phyrs, size_t nr,
			   struct phyr_bench_range *ranges)
{
	struct scatterlist *sg;
	struct sg_table table;
	unsigned int i;
	ssize_t ret = sg_alloc_table(&table, nr, GFP_KERNEL);

	if (ret)
		return ret;
	/* phyr has none either. */
	dma_set_max_seg_size(dev, UINT_MAX);
	for_each_sgtable_sg(&table, sg, i)
		sg_set_page(sg, phys_to_page(phyrs[i].paddr), phyrs[i].len,
			    offset_in_page(phyrs[i].paddr));

	phyr_mark(PHYR_MARK_BEGIN);
	ret = dma_map_sgtable(dev, &table, DIR, 0);
	phyr_mark(PHYR_MARK_END);
	if (!ret) {
		ret = table.nents;
		phyr_mark(PHYR_MARK_BEGIN);
		dma_unmap_sgtable(dev, &table, DIR, 0);
		phyr_mark(PHYR_MARK_END);
	}
	sg_free_table(&table);
	return ret;
}

ssize_t phyr_bench_phys(struct device *dev, const struct phys_vec *phyrs, size_t nr,
			struct phyr_bench_range *ranges)
{
	size_t i, done = 0;

	phyr_mark(PHYR_MARK_BEGIN);
	for (; done < nr; done++) {
		ranges[done].addr = dma_map_phys(dev, phyrs[done].paddr, phyrs[done].len, DIR, 0);
		if (dma_mapping_error(dev, ranges[done].addr))
			break;
		ranges[done].len = phyrs[done].len;
	}
	phyr_mark(PHYR_MARK_END);
	phyr_mark(PHYR_MARK_BEGIN);
	for (i = 0; i < done; i++)
		dma_unmap_phys(dev, ranges[i].addr, ranges[i].len, DIR, 0);
	phyr_mark(PHYR_MARK_END);
	return done == nr ? nr : -ENOMEM;
}

/*
 * Maps all in one IOVA range; -EOPNOTSUPP without an IOMMU. Memory with gaps is linked granule by
 * granule, and each piece is a range of its own.
 */
static __always_inline ssize_t two_step(struct device *dev, const struct phys_vec *phyrs,
					size_t nr, struct phyr_bench_range *ranges, bool gaps)
{
	u64 mask = gaps ? dma_get_merge_boundary(dev) : 0;
	struct dma_iova_state state = {};
	size_t total = 0, linked = 0, i;
	int ret = 0;

	phyr_mark(PHYR_MARK_BEGIN);
	for (i = 0; i < nr; i++)
		total += ((phyrs[i].paddr & mask) + phyrs[i].len + mask) & ~mask;
	if (!dma_iova_try_alloc(dev, &state, gaps ? 0 : phyrs[0].paddr, total)) {
		ret = -EOPNOTSUPP;
		goto out;
	}
	for (i = 0; i < nr; i++) {
		size_t len = ((phyrs[i].paddr & mask) + phyrs[i].len + mask) & ~mask;

		ret = dma_iova_link(dev, &state, phyrs[i].paddr & ~mask, linked, len, DIR, 0);
		if (ret)
			goto out;
		if (gaps) {
			ranges[i].addr = state.addr + linked + (phyrs[i].paddr & mask);
			ranges[i].len = phyrs[i].len;
		}
		linked += len;
	}
	ret = dma_iova_sync(dev, &state, 0, linked);
	if (!gaps) {
		ranges[0].addr = state.addr;
		ranges[0].len = total;
	}
out:
	phyr_mark(PHYR_MARK_END);
	phyr_mark(PHYR_MARK_BEGIN);
	if (dma_use_iova(&state))
		dma_iova_destroy(dev, &state, linked, DIR, 0);
	phyr_mark(PHYR_MARK_END);
	return ret ?: gaps ? nr : 1;
}

ssize_t phyr_bench_two_step(struct device *dev, const struct phys_vec *phyrs, size_t nr,
			    struct phyr_bench_range *ranges)
{
	return two_step(dev, phyrs, nr, ranges, false);
}

ssize_t phyr_bench_two_step_gaps(struct device *dev, const struct phys_vec *phyrs, size_t nr,
				 struct phyr_bench_range *ranges)
{
	return two_step(dev, phyrs, nr, ranges, true);
}

/* Prints what the driver of the disk dev_t has asked blk-mq for. */
int phyr_bench_disk(u32 dev)
{
	struct file *file = bdev_file_open_by_dev(dev, BLK_OPEN_READ, NULL, NULL);
	struct blk_mq_tag_set *set;

	if (IS_ERR(file))
		return PTR_ERR(file);
	set = bdev_get_queue(file_bdev(file))->tag_set;
	pr_info("phyr_bench: disk request %zu private %u depth %u queues %u\n",
		sizeof(struct request), set->cmd_size, set->queue_depth, set->nr_hw_queues);
	bdev_fput(file);
	return 0;
}
