# SPDX-License-Identifier: GPL-2.0
"""Identify structures with other values: a field by its name, such as lbads=255, or whole structures."""

import struct

from ..identity import ACTIVE, CONTROLLER, FIELDS, NAMESPACE, put
from .base import Lie, lie


class Field(Lie):
    """A field of an Identify structure has another value."""

    def identify(self, cns, nsid, page):
        field = self.name.partition("=")[0]
        if FIELDS[field][0] != cns:
            return
        self.told(f"{field}, namespace {nsid}")
        put(page, field, self.number(0))

    @property
    def longest(self):
        """A longest transfer that is a lie may be used."""
        return 1 << 40 if self.name.startswith("mdts") else None


def find(name):
    """Returns the lie about a field."""
    return Field if name in FIELDS else None


def names():
    """Returns the names of all fields."""
    return [f"{name}=VALUE" for name in FIELDS]


@lie("queues")
class Queues(Lie):
    """Another number of queues is granted."""

    @classmethod
    def pick(cls, rng):
        # Of submission and of completion queues: none, 65536, or any number.
        return hex(rng.choice((0, 0xFFFFFFFF, rng.getrandbits(32), rng.getrandbits(4) << 16 | rng.getrandbits(4))))

    def queues(self, value):
        self.told(f"{value:#x}")
        return self.number(0xFFFFFFFF)


@lie("identify-random")
class Random(Lie):
    """Identify returns random bytes."""

    def identify(self, cns, nsid, page):
        self.told(f"CNS {cns}, namespace {nsid}")
        page[:] = self.random.randbytes(len(page))


@lie("identify-ones")
class Ones(Lie):
    """Identify returns all ones."""

    def identify(self, cns, nsid, page):
        self.told(f"CNS {cns}, namespace {nsid}")
        page[:] = b"\xff" * len(page)


@lie("identify-zeroes")
class Zeroes(Lie):
    """Identify returns zeroes."""

    def identify(self, cns, nsid, page):
        self.told(f"CNS {cns}, namespace {nsid}")
        page[:] = bytes(len(page))


@lie("identify-bits", rate=0.3)
class Bits(Lie):
    """Some bytes of the controller's and the namespace's structure are others."""

    def identify(self, cns, nsid, page):
        if cns not in (CONTROLLER, NAMESPACE):
            return
        self.told(f"CNS {cns}, namespace {nsid}")
        for _ in range(self.random.randrange(1, 30)):
            page[self.random.randrange(400 if cns == NAMESPACE else 600)] = self.random.randrange(256)


@lie("list-endless")
class Endless(Lie):
    """There are always more namespaces."""

    def identify(self, cns, nsid, page):
        if cns == ACTIVE:
            self.told(f"above {nsid}")
            page[:] = struct.pack("<1024I", *((nsid + 1 + n) & 0xFFFFFFFF for n in range(1024)))
        elif cns == NAMESPACE and nsid > 1:
            put(page, "lbads", 9)


@lie("list-backwards")
class Backwards(Lie):
    """The list of namespaces does not ascend."""

    def identify(self, cns, nsid, page):
        if cns == ACTIVE:
            self.told(f"above {nsid}")
            page[:16] = struct.pack("<4I", 1, 7, 5, 5)
