#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Ratios from the counts that the guests of scripts/bench have left, and Documentation/performance."""

import argparse
import glob
import os
import subprocess
import sys

import measure
import pages
import ratios
from symbols import Symbols
from windows import Run

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
OUT = os.path.join(TOP, "Documentation/performance")
RATIOS = os.path.join(OUT, "ratios.csv")


def runs(results):
    for path in sorted(glob.glob(os.path.join(results, "*.bin"))):
        path = path.removesuffix(".bin")
        kind, iommu, *rest = os.path.basename(path).split(".")
        yield kind, iommu, rest, Run(path)


def of_kernel(symbols, iommu):
    """The symbols of the kernel that a guest of this IOMMU has booted."""
    return symbols[iommu.endswith("-plain")]


def collect(symbols, results):
    """{kind: {IOMMU: {driver: {cell: ...}}}}, the same for second counts, and the disks' limits."""
    first, again, limits = {}, {}, {}
    for kind, iommu, rest, run in runs(results):
        into = again if rest[-1:] == ["again"] else first
        who = rest[0] if rest and rest[0] != "again" else ""
        if kind == "cpus":
            who = " ".join(rest)
        how = {"whole": measure.whole, "memory": measure.memory,
               "cpus": measure.processors}.get(kind, measure.mappings)
        of = into.setdefault(kind, {}).setdefault(iommu, {})
        of.setdefault(who, {}).update(how(of_kernel(symbols, iommu), run))
        if run.limits:
            limits.setdefault(iommu, {})[who] = run.limits
    return first, again, limits


def top(symbols, results, name, number):
    for kind, iommu, rest, run in runs(results):
        if os.path.basename(run.path) != name:
            continue
        of = of_kernel(symbols, iommu)
        of.load(run.sections)
        if kind == "whole":
            for cell, requests, counts in run.cells():
                print(f"\n== {name}: {cell}: instructions per request")
                print("\n".join(measure.functions(of, counts, requests, number)))
        else:
            for method, phyrs, gaps, ranges, make, end in run.maps():
                for what, counts in ("map", make), ("unmap", end):
                    print(f"\n== {name}: {method}, {phyrs} phyrs, {gaps} gaps, {ranges} ranges: {what}")
                    print("\n".join(measure.functions(of, counts, 1, number)))


def versions(kdir):
    def first(*command):
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")[0]

    with open(os.path.join(kdir, "include/config/kernel.release")) as release:
        kernel = release.read().strip()
    return {
        "kernel": kernel,
        "configuration": "scripts/configs/" + os.path.basename(kdir).split("-")[2] + ".config",
        "QEMU": first("qemu-system-x86_64", "--version"),
        "rustc": first("rustc", "--version"),
        "clang": first("clang", "--version"),
    }


def main():
    parser = argparse.ArgumentParser()
    # Two of each: the second has no helpers in line.
    parser.add_argument("--kernel", required=True, nargs=2)
    parser.add_argument("--modules", required=True, nargs=2)
    parser.add_argument("--results", required=True)
    parser.add_argument("--top", type=int)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--headline", action="store_true")
    parser.add_argument("name", nargs="?")
    args = parser.parse_args()
    symbols = [Symbols(*of) for of in zip(args.kernel, args.modules)]
    if args.top:
        top(symbols, args.results, args.name, args.top)
        return 0
    numbers, again, limits = collect(symbols, args.results)
    now = {"versions": versions(args.kernel[0]), "limits": limits, "numbers": numbers,
           "ratios": ratios.of(numbers)}
    committed = ratios.load(RATIOS) if os.path.exists(RATIOS) else {}
    lines, passed, failed = ratios.report(now, again, committed, args.write)
    print("\n".join(lines))
    pages.save(args.results, now)
    print(f"all numbers: {args.results}/results.json, and as CSV beside it")
    if args.headline:
        pages.write_headline(OUT, now)
        ratios.save(RATIOS, {**committed, **now["ratios"]})
    if args.write:
        ratios.save(RATIOS, now["ratios"])
        pages.write(OUT, now, lines)
    print(f"{passed} passed, {failed} failed")
    return failed != 0


sys.exit(main())
