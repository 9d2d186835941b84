/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tracepoints of the mapping path: what went in, what came out. A branch that is never taken while
 * nobody looks.
 */

#undef TRACE_SYSTEM
#define TRACE_SYSTEM phyr

#if !defined(_PHYR_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _PHYR_TRACE_H

#include <linux/device.h>
#include <linux/tracepoint.h>

#ifndef _PHYR_MAP_COUNTS
#define _PHYR_MAP_COUNTS
/**
 * struct phyr_map_counts - what one scatter mapping was made of
 * @bytes: length of all of it
 * @bio_vecs: pieces that a request held, 0 for a linear mapping
 * @phyrs: physically contiguous ranges after adjacent pieces were joined
 * @dma_vecs: ranges that the device sees
 * @iova_ranges: IOVA allocations that it took
 * @single_maps: phyrs that were mapped by a dma_map_phys() of their own
 */
struct phyr_map_counts {
	u64 bytes;
	u32 bio_vecs;
	u32 phyrs;
	u32 dma_vecs;
	u32 iova_ranges;
	u32 single_maps;
};
#endif

TRACE_EVENT(phyr_map,
	TP_PROTO(struct device *dev, const struct phyr_map_counts *counts),
	TP_ARGS(dev, counts),
	TP_STRUCT__entry(
		__string(device, dev_name(dev))
		__field(u64, bytes)
		__field(u32, bio_vecs)
		__field(u32, phyrs)
		__field(u32, dma_vecs)
		__field(u32, iova_ranges)
		__field(u32, single_maps)
	),
	TP_fast_assign(
		__assign_str(device);
		__entry->bytes = counts->bytes;
		__entry->bio_vecs = counts->bio_vecs;
		__entry->phyrs = counts->phyrs;
		__entry->dma_vecs = counts->dma_vecs;
		__entry->iova_ranges = counts->iova_ranges;
		__entry->single_maps = counts->single_maps;
	),
	TP_printk("dev=%s bytes=%llu bio_vecs=%u phyrs=%u dma_vecs=%u iova_ranges=%u single_maps=%u",
		  __get_str(device), __entry->bytes, __entry->bio_vecs, __entry->phyrs,
		  __entry->dma_vecs, __entry->iova_ranges, __entry->single_maps)
);

TRACE_EVENT(phyr_descriptors,
	TP_PROTO(struct device *dev, const char *kind, u32 entries),
	TP_ARGS(dev, kind, entries),
	TP_STRUCT__entry(
		__string(device, dev_name(dev))
		__string(kind, kind)
		__field(u32, entries)
	),
	TP_fast_assign(
		__assign_str(device);
		__assign_str(kind);
		__entry->entries = entries;
	),
	TP_printk("dev=%s kind=%s entries=%u", __get_str(device), __get_str(kind),
		  __entry->entries)
);

#endif /* _PHYR_TRACE_H */

/* This part must be outside protection. */
#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
