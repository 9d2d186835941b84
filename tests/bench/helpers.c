// SPDX-License-Identifier: GPL-2.0
/*
 * The C that phyr is compared with: a scatterlist, and the DMA API's calls in two steps as a driver
 * would write them by hand for what joins.
 */

#include <linux/dma-mapping.h>
#include <linux/scatterlist.h>
#include <linux/timex.h>

#include "phyr_bench.h"

#define DIR DMA_BIDIRECTIONAL

/* Under -icount, QEMU's time stamp counter counts instructions. */
u64 phyr_bench_now(void)
{
	return get_cycles();
}

int phyr_bench_sgtable(struct device *dev, const struct phys_vec *phyrs, size_t nr,
		       struct phyr_bench_cost *cost)
{
	struct scatterlist *sg;
	struct sg_table table;
	unsigned int i;
	u64 then;
	int ret = sg_alloc_table(&table, nr, GFP_KERNEL);

	if (ret)
		return ret;
	for_each_sgtable_sg(&table, sg, i)
		sg_set_page(sg, phys_to_page(phyrs[i].paddr), phyrs[i].len,
			    offset_in_page(phyrs[i].paddr));

	then = phyr_bench_now();
	ret = dma_map_sgtable(dev, &table, DIR, 0);
	cost->map = phyr_bench_now() - then;
	if (!ret) {
		cost->ranges = table.nents;
		then = phyr_bench_now();
		dma_unmap_sgtable(dev, &table, DIR, 0);
		cost->unmap = phyr_bench_now() - then;
	}
	sg_free_table(&table);
	return ret;
}

/* All in one range of IOVA; -EOPNOTSUPP where there is none. */
int phyr_bench_two_step(struct device *dev, const struct phys_vec *phyrs, size_t nr,
			struct phyr_bench_cost *cost)
{
	struct dma_iova_state state = {};
	size_t total = 0, linked = 0, i;
	u64 then;
	int ret = 0;

	then = phyr_bench_now();
	for (i = 0; i < nr; i++)
		total += phyrs[i].len;
	if (!dma_iova_try_alloc(dev, &state, phyrs[0].paddr, total))
		return -EOPNOTSUPP;
	for (i = 0; i < nr; i++) {
		ret = dma_iova_link(dev, &state, phyrs[i].paddr, linked, phyrs[i].len, DIR, 0);
		if (ret)
			goto destroy;
		linked += phyrs[i].len;
	}
	ret = dma_iova_sync(dev, &state, 0, linked);
	if (ret)
		goto destroy;
	cost->map = phyr_bench_now() - then;
	cost->ranges = 1;
	then = phyr_bench_now();
destroy:
	dma_iova_destroy(dev, &state, linked, DIR, 0);
	if (!ret)
		cost->unmap = phyr_bench_now() - then;
	return ret;
}
