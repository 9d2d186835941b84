/* SPDX-License-Identifier: GPL-2.0 */
/* What phyr_bench has C do, to compare with. */
#ifndef PHYR_BENCH_H
#define PHYR_BENCH_H

#include <linux/types.h>

struct device;

/* Where the ranges go that the device would be told of. */
struct phyr_bench_range {
	dma_addr_t addr;
	size_t len;
};

/* Each maps and unmaps once, with a window of the plugin for either, and returns the ranges. */
ssize_t phyr_bench_sgtable(struct device *dev, const struct phys_vec *phyrs, size_t nr,
			   struct phyr_bench_range *ranges);
ssize_t phyr_bench_phys(struct device *dev, const struct phys_vec *phyrs, size_t nr,
			struct phyr_bench_range *ranges);
ssize_t phyr_bench_two_step(struct device *dev, const struct phys_vec *phyrs, size_t nr,
			    struct phyr_bench_range *ranges);
ssize_t phyr_bench_two_step_gaps(struct device *dev, const struct phys_vec *phyrs, size_t nr,
				 struct phyr_bench_range *ranges);
int phyr_bench_disk(u32 dev);

#endif /* PHYR_BENCH_H */
