# SPDX-License-Identifier: GPL-2.0
"""Ratios of Rust to C, below 1 where Rust is ahead; the goals; and which ratios became worse."""

import csv
from collections import defaultdict

SIZES = ["4096", "16384", "65536", "131072", "524288"]
# Limits: how much worse than the committed ratio, how far apart two runs.
WORSE, DIFFER = 0.02, 0.01


def pairs(numbers):
    """(key, C, Rust) of each cell that both have."""
    for iommu, drivers in numbers.get("whole", {}).items():
        c, rust = drivers.get("nvme", {}), drivers.get("rust_nvme", {})
        for cell in c:
            if cell in rust:
                yield f"{iommu} {cell}", c[cell], rust[cell]


def registered(numbers):
    """(key, C with scattered pages, Rust with such pages that are mapped before) of each cell."""
    for iommu, drivers in numbers.get("whole", {}).items():
        c = drivers.get("nvme", {})
        for cell, rust in drivers.get("registered", {}).items():
            mode, size, _, depth = cell.split()
            if f"{mode} {size} scattered {depth}" in c:
                yield f"{iommu} {cell}", c[f"{mode} {size} scattered {depth}"], rust


def maps(numbers):
    """(key, one of phyr's methods, the method that it is compared with)."""
    for iommu, of in numbers.get("map", {}).items():
        methods = of[""]
        for cell, one in methods.items():
            method, phyrs, gaps = cell.split()
            # The calls by themselves: no IOVA range is linked without an IOMMU or for one piece.
            raw = "two-step" if f"two-step {phyrs} {gaps}" in methods and phyrs != "1" else "phys"
            for other in raw, "sgtable":
                if method in ("scatter", "linear", "scatter-in-domain", "domain"):
                    if f"{other} {phyrs} {gaps}" in methods:
                        yield (f"{iommu} {method}/{other} {phyrs} {gaps}", one,
                               methods[f"{other} {phyrs} {gaps}"])


def of(numbers):
    """{key: ratio}."""
    found = {}
    for key, c, rust in [*pairs(numbers), *registered(numbers)]:
        found[f"whole {key}"] = round(rust["total"] / c["total"], 4)
        found[f"alone {key}"] = round(rust["alone"] / c["alone"], 4)
    for key, one, other in maps(numbers):
        found[f"map {key}"] = round(one["total"] / other["total"], 4)
    return found


def save(path, found):
    """Writes the ratios: a line for those that differ only in the size, or number of phyrs."""
    rows = defaultdict(dict)
    for key, value in found.items():
        kind, iommu, what, size, *rest = key.split()
        rows[kind, iommu, what, " ".join(rest)][size] = value
    sizes = sorted({size for row in rows.values() for size in row}, key=int)
    with open(path, "w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(["kind", "IOMMU", "mode or method", "memory and depth, or gaps"] + sizes)
        out.writerows([*row, *(rows[row].get(size, "") for size in sizes)] for row in sorted(rows))


def load(path):
    """The ratios that save() wrote."""
    with open(path, newline="") as file:
        heads, *rows = csv.reader(file)
    return {f"{kind} {iommu} {what} {size} {rest}": float(value)
            for kind, iommu, what, rest, *values in rows
            for size, value in zip(heads[4:], values) if value}


def splits(key, limits):
    """Whether C's driver sends the I/O of a cell in several requests, as its limit is lower."""
    iommu, _, size, *_ = key.split()
    limit = limits.get(iommu, {}).get("nvme", {}).get("max_sectors_kb")
    return limit is not None and int(size) > int(limit) * 1024


def segments(key):
    """The number of segments of a request of this cell."""
    _, _, size, shape, _ = key.split()
    return 1 if shape == "contiguous" else int(size) // (2048 if shape == "gaps" else 4096)


def lazy(numbers):
    """(key, C in lazy mode, Rust in strict mode) of each cell of an IOMMU that has both."""
    whole = numbers.get("whole", {})
    for iommu, drivers in whole.items():
        name, dash, plain = iommu.partition("-plain")
        for cell, c in whole.get(f"{name}-lazy{dash}{plain}", {}).get("nvme", {}).items():
            if cell in drivers.get("rust_nvme", {}):
                yield f"{iommu} {cell}", c, drivers["rust_nvme"][cell]


def short(key):
    """Whether a request of this cell is 4 KiB of one page, read with 32 in flight."""
    return key.split()[1:] == ["read", "4096", "contiguous", "32"]


def goals(numbers, limits):
    """(text, limit, [(value, cell)]) for each goal. What C's driver splits is no cell of these."""
    cells = [cell for cell in pairs(numbers) if not splits(cell[0], limits)]
    whole = [(rust["total"] / c["total"], key) for key, c, rust in cells]
    of_lazy = [(rust["total"] / c["total"], key) for key, c, rust in lazy(numbers)]
    alone = [(rust["alone"] / c["alone"], key) for key, c, rust in cells]
    flushes = [(rust["calls"].get("flushes", 0), key) for key, _, rust in cells
               if key.split()[0] in ("intel", "amd", "virtio") and key.endswith(" 32")
               and " 4096 " in key]
    yield "flushes a request, 4 KiB, 32 in flight, strict", 1 / 16, flushes
    for iommu, strict_limit, lazy_limit in ("intel", 0.85, 0.97), ("intel-plain", 0.88, 1.00):
        of = [(value, key) for value, key in whole if short(key) and key.split()[0] == iommu]
        yield f"whole kernel, 4 KiB, 32 in flight, {iommu}, of C strict", strict_limit, of
        of = [(value, key) for value, key in of_lazy if short(key) and key.split()[0] == iommu]
        yield f"whole kernel, 4 KiB, 32 in flight, {iommu}, of C lazy", lazy_limit, of
    yield "whole kernel, of C", 1.00, whole
    yield "driver and mapping alone, of C", 0.90, alone
    gaps = [(value, key) for value, key in whole
            if " gaps " in key and segments(key) >= 32 and not key.startswith("none ")]
    yield "whole kernel, gaps, 32 segments and more, of C", 0.70, gaps
    compared = [(key, one["total"], other["total"]) for key, one, other in maps(numbers)]
    for other, limit in ("sgtable", 1.05), ("two-step", 1.12):
        yield (f"scatter with gaps, 32 phyrs, amd, of {other}", limit,
               [(a / b, key) for key, a, b in compared
                if key.startswith(f"amd scatter/{other} 32 ") and not key.endswith(" 0")])
    methods = numbers.get("map", {}).get("amd", {}).get("", {})
    yield ("phyr's own instructions a phyr, with gaps, 32 phyrs, amd", 70,
           [(one["parts"]["phyr or C's iterator"] / 32, cell) for cell, one in methods.items()
            if cell.startswith("scatter 32 ") and not cell.endswith(" 0")])
    yield ("own domain, 32 phyrs, amd, of the DMA API", 1.05,
           [(one["total"] / methods[cell.replace("-in-domain", "")]["total"], cell)
            for cell, one in methods.items() if cell.startswith("scatter-in-domain 32 ")])
    yield ("a single phyr, more than dma_map_phys", 10,
           [(a - b, key) for key, a, b in compared if " scatter/phys 1 " in key])
    yield ("calls that take the lock of all IOVAs, 128 KiB and below", 0,
           [(rust["calls"].get("IOVA tree", 0), key) for key, _, rust in cells
            if int(key.split()[2]) <= 131072])
    cpus = [(one["alone"], drivers[f"nvme {who.split()[1]}"]["alone"], f"{iommu} {who}")
            for iommu, drivers in numbers.get("cpus", {}).items()
            for who, one in drivers.items() if who.startswith("rust_nvme ")]
    yield ("writes to a line that processors share, a request, alone, more than C's", 0,
           [(rust - c, key) for rust, c, key in cpus])
    yield ("bytes of a request that are the driver's, more than C's", 0,
           [(drivers["rust_nvme"]["private"] - drivers["nvme"]["private"], iommu)
            for iommu, drivers in numbers.get("memory", {}).items()
            if {"nvme", "rust_nvme"} <= drivers.keys()])
    for size, limit in ("4096", 0.31), ("65536", 0.07):
        yield (f"registered memory, {int(size) // 1024} KiB, whole kernel, of C", limit,
               [(rust["total"] / c["total"], key) for key, c, rust in registered(numbers)
                if f" {size} " in key and key.endswith(" 32")])
    yield ("calls that map or unmap, of a registered buffer", 0,
           [(one["parts"]["DMA API"] + one["parts"]["IOMMU driver"], f"{iommu} {cell}")
            for iommu, drivers in numbers.get("whole", {}).items()
            for cell, one in drivers.get("registered", {}).items()])


def table(found, limits, kind, mode):
    """Lines with the ratios of a kind, one for each IOMMU, shape and depth; apart from the others
    those of what C's driver splits and Rust's does not."""
    whole, split = {}, {}
    for key, value in found.items():
        what, *rest = key.split()
        if what != kind or rest[1] != mode:
            continue
        iommu, _, size, shape, depth = rest
        rows = split if splits(" ".join(rest), limits) else whole
        rows.setdefault((iommu, shape, depth), {})[size] = value
    for rows, head in (whole, f"{kind}, {mode}s:"), (split, f"{kind}, {mode}s that C splits:"):
        if not rows:
            continue
        sizes = [size for size in SIZES if any(size in cells for cells in rows.values())]
        yield f"{head:33}" + "".join(f"{int(size) // 1024:>7}K" for size in sizes)
        for (iommu, shape, depth), cells in rows.items():
            yield f"  {iommu:17}{shape:11}{depth:>3} " + "".join(
                f"{cells[size]:8.3f}" if size in cells else "        " for size in sizes)


def differences(numbers, again):
    """(difference, cell) of each number that was counted twice."""
    for kind, iommus in again.items():
        for iommu, drivers in iommus.items():
            for driver, cells in drivers.items():
                for cell, one in cells.items():
                    for what in "total", "alone":
                        a, b = numbers[kind][iommu][driver][cell][what], one[what]
                        if a:
                            yield abs(a - b) / a, f"{kind} {iommu} {driver} {cell} {what}"


def report(now, again, before, is_complete):
    """The lines to print, and the numbers of comparisons that passed and failed. The whole kernel is
    not compared one request at a time, unless all is counted, on a machine that does nothing else."""
    lines, passed, failed = [], 0, 0
    for kind in "whole", "alone":
        for mode in "read", "write":
            lines += table(now["ratios"], now["limits"], kind, mode)
    lines.append("goals (the worst cell of each):")
    for what, limit, values in goals(now["numbers"], now["limits"]):
        if values:
            worst, key = max(values)
            reached = sum(value <= limit + 1e-9 for value, _ in values)
            lines.append(f"  {what}: {worst:.3f}, goal {limit}: {reached} of {len(values)} cells reach"
                         f" it; {key}")
    for iommu, drivers in now["numbers"].get("memory", {}).items():
        for driver, held in drivers.items():
            lines.append(f"memory, {iommu}, {driver}: " + ", ".join(
                f"{what} {value}" for what, value in held.items()))
    for iommu, drivers in now["numbers"].get("cpus", {}).items():
        for driver, one in drivers.items():
            lines.append(f"writes to lines that processors share, a request, {iommu}, {driver}: "
                         f"alone {one['alone']}, whole {one['whole']}" + "".join(
                             f", {where} {writes}" for where, writes in one["where"].items()))
    for key, value in now["ratios"].items():
        if key not in before or not is_complete and key[:5] == "whole" and key.endswith(" 1"):
            continue
        if value > before[key] * (1 + WORSE):
            failed += 1
            lines.append(f"worse: {key}: {value:.3f}, was {before[key]:.3f}")
        else:
            passed += 1
    apart = list(differences(now["numbers"], again))
    if apart:
        most, key = max(apart)
        lines.append(f"two runs differ by {most:.2%} at most, in {key}")
        if most > DIFFER:
            failed += 1
        else:
            passed += 1
    return lines, passed, failed
