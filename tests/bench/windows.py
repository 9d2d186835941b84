# SPDX-License-Identifier: GPL-2.0
"""The windows that a guest of scripts/bench has left, and their labels."""

import itertools
import struct
from collections import Counter


def read(path):
    """{address: executions} of each window of a file."""
    with open(path, "rb") as file:
        while head := file.read(8):
            entries, = struct.unpack("<Q", head)
            yield dict(struct.iter_unpack("<QQ", file.read(16 * entries)))


class Run:
    """A guest's windows, the limits of its disk, and the addresses of its modules."""

    def __init__(self, path):
        self.path = path
        self.limits, self.sections = {}, {}
        self.lines = []
        with open(path + ".txt") as lines:
            for line in lines:
                kind, *rest = line.split()
                if kind == "limit":
                    self.limits[rest[0]] = rest[1] if len(rest) == 2 else " ".join(rest[1:])
                elif kind == "section":
                    self.sections.setdefault(rest[0], {})[rest[1]] = int(rest[2], 16)
                else:
                    self.lines.append((kind, *rest))
        self.windows = read(path + ".bin")

    def next(self):
        try:
            return next(self.windows)
        except StopIteration:
            raise SystemExit(f"{self.path}: fewer windows than expected") from None

    def cells(self):
        """(cell, requests, counts) of each cell: the median of the slopes of its pairs."""
        lines = iter([label for kind, *label in self.lines if kind == "window"])
        for cell, labels in itertools.groupby(lines, key=lambda label: label[:-1]):
            slopes = []
            for short, long in zip(*[iter(list(labels))] * 2):
                few, counts = self.next(), Counter(self.next())
                counts.subtract(few)
                slopes.append((int(long[-1]) - int(short[-1]), counts))
            slopes.sort(key=lambda slope: sum(slope[1].values()))
            yield " ".join(cell), *slopes[(len(slopes) - 1) // 2]
        self.finish()

    def memory(self):
        """Numbers on the memory that is held for each request."""
        for kind, *rest in self.lines:
            if kind == "disk":
                yield from ((rest[i], int(rest[i + 1])) for i in range(0, len(rest), 2))

    def shared(self):
        """(line, address, accesses) of cache lines that processors share, of the last window:
        of each processor, its reads and its writes."""
        with open(self.path + ".lines", "rb") as file:
            found = []
            while head := file.read(8):
                entries, = struct.unpack("<Q", head)
                # Eight processors, see count.c.
                found = list(struct.iter_unpack("<18Q", file.read(144 * entries)))
        return [(line, address, counts) for line, address, *counts in found]

    def maps(self):
        """(method, phyrs, gaps, ranges, counts of map, counts of unmap) of the cheapest round."""
        for kind, *label in self.lines:
            if kind == "none":
                self.next(), self.next()
            elif kind == "map":
                method, phyrs, gaps, ranges, rounds = label[0], *map(int, label[1:])
                both = [(self.next(), self.next()) for _ in range(rounds)]
                least = (min((pair[i] for pair in both), key=lambda counts: sum(counts.values()))
                         for i in (0, 1))
                yield method, phyrs, gaps, ranges, *least
        self.finish()

    def finish(self):
        if next(self.windows, None) is not None:
            raise SystemExit(f"{self.path}: more windows than expected")
