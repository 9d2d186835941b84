# SPDX-License-Identifier: GPL-2.0
"""From windows to numbers: instructions and calls per operation, by part."""

from collections import Counter

from parts import ALONE, CALLS, PARTS, part_of


def sums(symbols, counts, operations=1):
    """{"total", "alone", "parts", "calls"} of the counts, per operation."""
    parts = Counter()
    for address, count in counts.items():
        parts[part_of(*symbols.of(address))] += count
    calls = {what: sum(symbols.calls(name, counts) for name in names)
             for what, names in CALLS.items()}
    return {
        "total": round(sum(parts.values()) / operations, 2),
        "alone": round(sum(parts[part] for part in ALONE) / operations, 2),
        "parts": {part: round(parts[part] / operations, 2) for part in PARTS},
        "calls": {what: round(count / operations, 3) for what, count in calls.items() if count},
    }


def functions(symbols, counts, operations, number):
    """The functions in which most instructions are, as lines."""
    by = Counter()
    for address, count in counts.items():
        by[symbols.of(address)] += count
    top = by.most_common(number)
    names = symbols.readable(name for (name, _), _ in top)
    yield f"{sum(by.values()) / operations:10.1f}  in all"
    for (name, where), count in top:
        yield f"{count / operations:10.1f}  {part_of(name, where):22} {where:36} {names[name]}"


def whole(symbols, run):
    """Of each cell of a driver."""
    symbols.load(run.sections)
    return {cell: sums(symbols, counts, requests) for cell, requests, counts in run.cells()}


def mappings(symbols, run):
    """Of each road, number of phyrs and of gaps: a map and an unmap."""
    symbols.load(run.sections)
    found = {}
    for road, phyrs, gaps, ranges, make, end in run.maps():
        both = Counter(make)
        both.update(end)
        one = sums(symbols, both)
        one["map"], one["unmap"] = sum(make.values()), sum(end.values())
        one["ranges"] = ranges
        # Of phyr itself, without the kernel functions that it calls.
        found[f"{road} {phyrs} {gaps}"] = one
    return found
