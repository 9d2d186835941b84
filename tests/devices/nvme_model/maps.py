# SPDX-License-Identifier: GPL-2.0
"""Addresses that the guest's IOMMU maps for the device, as QEMU reports them."""

import bisect


class Maps:
    """Ranges that do not overlap, each with the number of the report that it came with."""

    def __init__(self):
        self.starts, self.ranges = [], []
        self.reports = 0

    def _cut(self, addr, end):
        """Removes the addresses from addr to end; what is left of a range around them stays."""
        at = max(bisect.bisect_right(self.starts, addr) - 1, 0)
        while at < len(self.ranges) and self.ranges[at][0] < end:
            start, stop, report = self.ranges[at]
            if stop <= addr:
                at += 1
                continue
            left = [(start, addr, report)] if start < addr else []
            right = [(end, stop, report)] if end < stop else []
            self.ranges[at : at + 1] = left + right
            self.starts[at : at + 1] = [r[0] for r in left + right]
            at += len(left)

    def add(self, addr, size):
        """Notes that size bytes are mapped."""
        self.reports += 1
        self._cut(addr, addr + size)
        at = bisect.bisect_left(self.starts, addr)
        self.starts.insert(at, addr)
        self.ranges.insert(at, (addr, addr + size, self.reports))

    def remove(self, addr, size):
        """Notes that size bytes are mapped no more."""
        self._cut(addr, addr + size)

    def _over(self, addr, size):
        at = max(bisect.bisect_right(self.starts, addr) - 1, 0)
        while at < len(self.ranges) and self.ranges[at][0] < addr + size:
            if self.ranges[at][1] > addr:
                yield self.ranges[at]
            at += 1

    def touches(self, addr, size):
        """Returns whether any of size bytes is mapped."""
        return any(self._over(addr, size))

    def newest(self, addr, size):
        """Returns the number of the newest report of what is mapped there, 0 if nothing is."""
        return max((report for _, _, report in self._over(addr, size)), default=0)

    def longest(self, addr, size):
        """Returns the length of the longest range of what is mapped there."""
        return max((end - start for start, end, _ in self._over(addr, size)), default=0)
