/* SPDX-License-Identifier: GPL-2.0 */
/* What phyr_bench has C do, to compare with. */
#ifndef PHYR_BENCH_H
#define PHYR_BENCH_H

#include <linux/types.h>

struct device;

/* What one map and one unmap took, by the counter of phyr_bench_now(), and what came of them. */
struct phyr_bench_cost {
	u64 map;
	u64 unmap;
	u64 ranges;
};

u64 phyr_bench_now(void);
int phyr_bench_sgtable(struct device *dev, const struct phys_vec *phyrs, size_t nr,
		       struct phyr_bench_cost *cost);
int phyr_bench_two_step(struct device *dev, const struct phys_vec *phyrs, size_t nr,
			struct phyr_bench_cost *cost);

#endif /* PHYR_BENCH_H */
