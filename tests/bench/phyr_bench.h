/* SPDX-License-Identifier: GPL-2.0 */
/* C functions that phyr_bench compares with. */
#ifndef PHYR_BENCH_H
#define PHYR_BENCH_H

#include <linux/types.h>

struct device;

/* A range for the device. */
struct phyr_bench_range {
	dma_addr_t addr;
	size_t len;
};

/*
 * Each maps and unmaps once, with a window of the plugin for both, and returns the number of
 * ranges.
 */
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
