# SPDX-License-Identifier: GPL-2.0
"""All numbers as JSON and CSV for the cache; charts and tables for Documentation/performance."""

import csv
import json
import os

import svg
from parts import PARTS
from ratios import pairs


def put(out, name, text):
    path = os.path.join(out, name)
    with open(path + ".new", "w") as file:
        file.write(text)
    os.rename(path + ".new", path)


def table(out, name, rows):
    with open(os.path.join(out, name), "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def whole(numbers):
    calls = ["flushes", "flushes at map", "allocations", "IOVA ranges", "IOVA tree", "locks", "interrupts"]
    yield (["IOMMU", "mode", "bytes", "memory", "depth", "driver", "whole", "alone"] + PARTS + calls)
    for key, *both in pairs(numbers):
        for driver, one in zip(("C", "Rust"), both):
            yield (key.split() + [driver, one["total"], one["alone"]]
                   + [one["parts"][part] for part in PARTS]
                   + [one["calls"].get(call, 0) for call in calls])


def maps(numbers, kind):
    yield ["IOMMU", "method", "phyrs", "gaps", "ranges", "map", "unmap"] + PARTS + ["flushes", "flushes at map"]
    for iommu, drivers in numbers.get(kind, {}).items():
        for cell, one in drivers[""].items():
            method, phyrs, gaps = cell.split()
            yield ([iommu, method, phyrs, gaps, one["ranges"], one["map"], one["unmap"]]
                   + [one["parts"][part] for part in PARTS]
                   + [one["calls"].get(call, 0) for call in ("flushes", "flushes at map")])


def charts(out, now):
    numbers = now["numbers"]
    rows = []
    for key, c, rust in pairs(numbers):
        if key.split()[1:3] + key.split()[4:] in (["read", "4096", "1"], ["read", "131072", "1"]):
            for driver, one in ("C", c), ("Rust", rust):
                rows.append((f"{key} {driver}", [one["parts"][part] for part in PARTS]))
            rows.append(("", []))
    if rows:
        put(out, "parts.svg", svg.stacked("instructions per request, by part", PARTS, rows))
    for iommu, drivers in numbers.get("map", {}).items():
        rows = [(cell, [one["map"] / int(cell.split()[1]), one["unmap"] / int(cell.split()[1])])
                for cell, one in drivers[""].items() if cell.split()[1] in ("1", "32", "256")]
        put(out, f"map-{iommu}.svg", svg.stacked(
            f"instructions per phyr, {iommu}: method, phyrs, gaps", ["map", "unmap"], rows))
    rows = [(f"{phyrs} pages", [cells["map"] / phyrs, cells["unmap"] / phyrs])
            for phyrs, cells in linear(numbers)]
    if rows:
        put(out, "growth.svg", svg.stacked(
            "instructions per page, linear, behind an Intel IOMMU", ["map", "unmap"], rows))


def headline(numbers):
    """(IOMMU, C strict, C lazy or None, Rust strict): the numbers of 4 KiB reads, 32 in flight."""
    whole = numbers.get("whole", {})
    cell = "read 4096 contiguous 32"

    def of(iommu, driver):
        return whole.get(iommu, {}).get(driver, {}).get(cell)

    for iommu in "intel", "intel-plain", "amd", "virtio", "none":
        name, dash, plain = iommu.partition("-plain")
        c, lazy, rust = of(iommu, "nvme"), of(f"{name}-lazy{dash}{plain}", "nvme"), of(iommu, "rust_nvme")
        if c and rust:
            yield iommu, c, lazy, rust


def write_headline(out, now):
    """The table, and the picture, with which the page begins."""
    heads = ["IOMMU", "C, strict", "C, lazy", "Rust, strict", "of C, strict", "of C, lazy",
             "flushes, C", "flushes, Rust", "told of maps, C", "told of maps, Rust"]
    text = [".. SPDX-License-Identifier: GPL-2.0", ".. Written by scripts/bench.", "", ".. list-table::",
            "   :header-rows: 1", ""]
    bars = []

    def row(cells):
        text.extend(("   * - " if i == 0 else "     - ") + str(cell) for i, cell in enumerate(cells))

    def calls(one, which):
        return f"{one['calls'].get(which, 0):.2f}"

    row(heads)
    for iommu, c, lazy, rust in headline(now["numbers"]):
        row([iommu, f"{c['total']:,.0f}", f"{lazy['total']:,.0f}" if lazy else "",
             f"{rust['total']:,.0f}", f"{rust['total'] / c['total']:.2f}",
             f"{rust['total'] / lazy['total']:.2f}" if lazy else ""]
            + [calls(one, which) for which in ("flushes", "flushes at map") for one in (c, rust)])
        for who, one in ("C strict", c), ("C lazy", lazy), ("Rust strict", rust):
            if one:
                bars.append((f"{iommu} {who}", [one["parts"][part] for part in PARTS]))
        bars.append(("", []))
    if bars:
        put(out, "headline.txt", "\n".join(text) + "\n")
        put(out, "headline.svg", svg.stacked(
            "instructions of the kernel for a read of 4 KiB, 32 in flight, by part", PARTS, bars))


def linear(numbers):
    """(pages, numbers) for each linear mapping behind an Intel IOMMU."""
    found = {}
    for kind in "map", "growth":
        for cell, one in numbers.get(kind, {}).get("intel", {}).get("", {}).items():
            if cell.startswith("linear "):
                found[int(cell.split()[1])] = one
    return sorted(found.items())


def save(out, now):
    put(out, "results.json", json.dumps(now, indent=1, sort_keys=True) + "\n")
    table(out, "whole.csv", whole(now["numbers"]))
    table(out, "map.csv", maps(now["numbers"], "map"))
    table(out, "growth.csv", maps(now["numbers"], "growth"))


def write(out, now, lines):
    charts(out, now)
    write_headline(out, now)
    text = [".. SPDX-License-Identifier: GPL-2.0", ".. Written by scripts/bench.", ""]
    text += ["Counted with " + ", ".join(f"{what} {which}" for what, which in now["versions"].items())
             + ".", "", "::", ""]
    text += ["\t" + line for line in lines]
    names = sorted(name for name in os.listdir(out)
                   if name.endswith(".svg") and name != "headline.svg")
    for name in names:
        text += ["", f".. image:: {name}"]
    put(out, "results.txt", "\n".join(text) + "\n")
