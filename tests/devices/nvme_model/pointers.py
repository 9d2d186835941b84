# SPDX-License-Identifier: GPL-2.0
"""PRPs and SGLs: the memory that a command names, as ranges of addresses."""

import struct

PAGE = 4096

INVALID_FIELD = 0x002
TRANSFER_ERROR = 0x004
SGL_INVALID_SEGMENT = 0x00D
SGL_INVALID_COUNT = 0x00E
SGL_LENGTH = 0x00F
SGL_INVALID_TYPE = 0x011
PRP_OFFSET = 0x013


class Invalid(Exception):
    """A descriptor that the specification does not allow, with the status to report."""

    def __init__(self, status, reason):
        super().__init__(reason)
        self.status, self.reason = status, reason


def joined(ranges):
    """Joins ranges that are adjacent."""
    out = []
    for addr, size in ranges:
        if out and out[-1][0] + out[-1][1] == addr:
            out[-1] = (out[-1][0], out[-1][1] + size)
        else:
            out.append((addr, size))
    return out


def prp(command, size, load):
    """Finds the ranges of size bytes that the command's two PRP entries name.

    load(addr, size) reads memory.
    """
    first, second = command.pointer
    if first & 3:
        raise Invalid(PRP_OFFSET, f"PRP 1 is {first:#x}: not a multiple of 4")
    room = min(size, PAGE - first % PAGE)
    ranges, size = [(first, room)], size - room
    if size == 0:
        return ranges
    if size <= PAGE:
        if second % PAGE:
            raise Invalid(PRP_OFFSET, f"PRP 2 is {second:#x}: not a page")
        return joined(ranges + [(second, size)])
    return joined(ranges + prp_list(command, second, size, load))


def prp_list(command, at, size, load):
    """Finds the ranges of size bytes in the PRP list at this address."""
    ranges = []
    while size:
        if at & 7:
            raise Invalid(PRP_OFFSET, f"the PRP list is at {at:#x}: not a multiple of 8")
        fits, needed = (PAGE - at % PAGE) // 8, -(-size // PAGE)
        entries = min(fits, needed)
        command.descriptors.append((at, entries * 8))
        pages = struct.unpack(f"<{entries}Q", load(at, entries * 8))
        # The last entry of a page is that of the next list, where one is needed.
        if needed > fits:
            pages, at = pages[:-1], pages[-1]
        for page in pages:
            if page % PAGE:
                raise Invalid(PRP_OFFSET, f"a PRP of the list is {page:#x}: not a page")
            ranges.append((page, min(size, PAGE)))
            size -= ranges[-1][1]
    return ranges


DATA_BLOCK, BIT_BUCKET, SEGMENT, LAST_SEGMENT = range(4)
# More segments than any driver makes: a list in a circle ends.
MAX_SEGMENTS = 256


def sgl(command, size, load):
    """Finds the ranges of size bytes that the command's SGL descriptor names."""
    ranges, descriptors, have = [], [command.sgl], 0
    for _ in range(MAX_SEGMENTS):
        follow = None
        for n, raw in enumerate(descriptors):
            addr, length, kind = struct.unpack("<QI3xB", raw)
            kind >>= 4
            if kind == DATA_BLOCK:
                if length:
                    ranges.append((addr, min(length, size - have)))
                have = min(size, have + length)
            elif kind in (SEGMENT, LAST_SEGMENT):
                if n + 1 != len(descriptors):
                    raise Invalid(SGL_INVALID_SEGMENT, f"SGL descriptor {n} of {len(descriptors)} is a segment")
                follow = addr, length
            else:
                raise Invalid(SGL_INVALID_TYPE, f"SGL descriptor of type {kind}")
        if follow is None:
            break
        addr, length = follow
        if not length or length % 16:
            raise Invalid(SGL_INVALID_COUNT, f"an SGL segment of {length} bytes")
        command.descriptors.append((addr, length))
        data = load(addr, length)
        descriptors = [data[at : at + 16] for at in range(0, length, 16)]
    if have != size:
        raise Invalid(SGL_LENGTH, f"the SGL has {have} bytes, not {size}")
    return joined(ranges)


def resolve(command, size, load):
    """Finds the memory of a command that transfers size bytes."""
    find = sgl if command.psdt else prp
    command.ranges = find(command, size, load)
