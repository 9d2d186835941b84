# SPDX-License-Identifier: GPL-2.0
"""Numbers from windows: instructions and calls per operation, by part."""

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
    """Lines for the functions with most instructions."""
    by = Counter()
    for address, count in counts.items():
        by[symbols.of(address)] += count
    top = by.most_common(number)
    names = symbols.readable(name for (name, _), _ in top)
    yield f"{sum(by.values()) / operations:10.1f}  in all"
    for (name, where), count in top:
        yield f"{count / operations:10.1f}  {part_of(name, where):22} {where:36} {names[name]}"


def whole(symbols, run):
    """{cell: sums} of a driver."""
    symbols.load(run.sections)
    return {cell: sums(symbols, counts, requests) for cell, requests, counts in run.cells()}


def memory(_, run):
    return dict(run.memory())


def processors(symbols, run):
    """Writes per request, by the first processor, to cache lines that another one accesses at least
    at every second request: by the driver and its mapping, by the whole kernel, and where."""
    symbols.load(run.sections)
    requests = [int(label[-1]) for kind, *label in run.lines if kind == "window"][-1]
    lines = {}
    for line, address, counts in run.shared():
        lines.setdefault(line, []).append((address, counts))
    where, alone, whole = Counter(), 0, 0
    for accesses in lines.values():
        by = [sum(counts[i] + counts[i + 1] for _, counts in accesses)
              for i in range(0, len(accesses[0][1]), 2)]
        if min(by[0], max(by[1:])) * 2 < requests:
            continue
        for address, (_, writes, *_) in accesses:
            function, path = symbols.of(address)
            whole += writes
            if part_of(function, path) in ALONE:
                alone += writes
            where[function] += writes
    most = [(name, writes) for name, writes in where.most_common(8) if writes * 100 > requests]
    names = symbols.readable(name for name, _ in most)
    return {"alone": round(alone / requests, 3), "whole": round(whole / requests, 3),
            "where": {names[name]: round(writes / requests, 3) for name, writes in most}}


def mappings(symbols, run):
    """{"METHOD PHYRS GAPS": sums of a map and an unmap}."""
    symbols.load(run.sections)
    found = {}
    for method, phyrs, gaps, ranges, make, end in run.maps():
        both = Counter(make)
        both.update(end)
        one = sums(symbols, both)
        one["map"], one["unmap"] = sum(make.values()), sum(end.values())
        one["ranges"] = ranges
        found[f"{method} {phyrs} {gaps}"] = one
    return found
