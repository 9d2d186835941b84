# SPDX-License-Identifier: GPL-2.0
"""The structures that Identify returns, with the fields that drivers read."""

import struct

BYTES = 4096
NAMESPACE, CONTROLLER, ACTIVE, DESCRIPTORS, NVM_NAMESPACE, NVM_CONTROLLER, ANY_NAMESPACE = 0, 1, 2, 3, 5, 6, 8

# Fields: structure, offset, format.
FIELDS = {
    "vid": (CONTROLLER, 0, "H"),
    "mdts": (CONTROLLER, 77, "B"),
    "cntlid": (CONTROLLER, 78, "H"),
    "rtd3e": (CONTROLLER, 88, "I"),
    "oacs": (CONTROLLER, 256, "H"),
    "frmw": (CONTROLLER, 260, "B"),
    "lpa": (CONTROLLER, 261, "B"),
    "sqes": (CONTROLLER, 512, "B"),
    "cqes": (CONTROLLER, 513, "B"),
    "nn": (CONTROLLER, 516, "I"),
    "oncs": (CONTROLLER, 520, "H"),
    "vwc": (CONTROLLER, 525, "B"),
    "awupf": (CONTROLLER, 528, "H"),
    "sgls": (CONTROLLER, 536, "I"),
    "nsze": (NAMESPACE, 0, "Q"),
    "ncap": (NAMESPACE, 8, "Q"),
    "nsfeat": (NAMESPACE, 24, "B"),
    "nlbaf": (NAMESPACE, 25, "B"),
    "flbas": (NAMESPACE, 26, "B"),
    "mc": (NAMESPACE, 27, "B"),
    "dps": (NAMESPACE, 29, "B"),
    "dlfeat": (NAMESPACE, 33, "B"),
    "nawupf": (NAMESPACE, 36, "H"),
    "nabo": (NAMESPACE, 42, "H"),
    "nabspf": (NAMESPACE, 44, "H"),
    "noiob": (NAMESPACE, 46, "H"),
    "npwg": (NAMESPACE, 64, "H"),
    "npda": (NAMESPACE, 70, "H"),
    "nows": (NAMESPACE, 72, "H"),
    "nsattr": (NAMESPACE, 99, "B"),
    "ms": (NAMESPACE, 128, "H"),
    "lbads": (NAMESPACE, 130, "B"),
    "wzsl": (NVM_CONTROLLER, 1, "B"),
    "dmrl": (NVM_CONTROLLER, 3, "B"),
    "dmrsl": (NVM_CONTROLLER, 4, "I"),
    "dmsl": (NVM_CONTROLLER, 8, "Q"),
}

ONCS_DSM, ONCS_WRITE_ZEROES = 1 << 2, 1 << 3
SQES, CQES = 0x66, 0x44


def put(page, name, value):
    """Writes a field, cut to its size."""
    _, at, kind = FIELDS[name]
    size = struct.calcsize(kind)
    page[at : at + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")


def shift(page):
    """Returns the logarithm of the size of a block, of Identify Namespace."""
    return page[130 + 4 * (page[26] & 0xF)]


def text(page, at, size, words):
    """Writes text, with spaces after it."""
    page[at : at + size] = words.encode().ljust(size)


class Settings:
    """The sizes of this controller, by its options."""

    version = 0x10400

    def __init__(self, options, medium):
        self.block = int(options.get("block", 512))
        self.shift = self.block.bit_length() - 1
        self.blocks = medium.size >> self.shift
        self.mdts = int(options.get("mdts", 7))
        self.sgl = int(options.get("sgl", 1))
        self.queues = int(options.get("queues", 8))

    @property
    def most(self):
        """The bytes of the longest transfer."""
        return 4096 << self.mdts

    def page(self, cns, nsid):
        """Returns the structure that is asked for, or None."""
        make = {
            NAMESPACE: self.namespace,
            CONTROLLER: self.controller,
            ACTIVE: self.active,
            DESCRIPTORS: self.descriptors,
            NVM_NAMESPACE: lambda nsid: bytearray(BYTES),
            NVM_CONTROLLER: lambda nsid: bytearray(BYTES),
        }.get(cns)
        return make(nsid) if make else None

    def controller(self, _nsid):
        """Identify Controller."""
        page = bytearray(BYTES)
        text(page, 4, 20, "phyr-lies")
        text(page, 24, 40, "controller of tests/devices")
        text(page, 64, 8, "1")
        text(page, 768, 256, "nqn.2026-01.phyr:lies")
        page[768 + 21 : 1024] = bytes(256 - 21)
        page[80:84] = struct.pack("<I", self.version)
        page[111] = 1  # An I/O controller.
        for name, value in {
            "vid": 0x1234,
            "mdts": self.mdts,
            "sqes": SQES,
            "cqes": CQES,
            "nn": 1,
            "oncs": ONCS_DSM | ONCS_WRITE_ZEROES,
            "vwc": 1,
            "sgls": self.sgl,
        }.items():
            put(page, name, value)
        return page

    def namespace(self, nsid):
        """Identify Namespace; all zero for one that is not there."""
        page = bytearray(BYTES)
        if nsid == 1:
            put(page, "nsze", self.blocks)
            put(page, "ncap", self.blocks)
            put(page, "dlfeat", 1 | 8)
            put(page, "lbads", self.shift)
        return page

    def active(self, above):
        """The list of namespaces above an id."""
        page = bytearray(BYTES)
        if above < 1:
            page[0:4] = struct.pack("<I", 1)
        return page

    def descriptors(self, _nsid):
        """The identifiers of the namespace: an EUI-64, and the command set."""
        page = bytearray(BYTES)
        page[0:12] = bytes([1, 8, 0, 0]) + b"phyrlies"
        page[12:17] = bytes([4, 1, 0, 0, 0])
        return page
