# SPDX-License-Identifier: GPL-2.0
"""Rings of an NVMe controller, and the entries that pass through them."""

import dataclasses
import struct

SQE_BYTES = 64
CQE_BYTES = 16


@dataclasses.dataclass
class Entry:
    """A completion queue entry, as the controller means to write it."""

    result: int = 0
    head: int = 0
    sqid: int = 0
    cid: int = 0
    status: int = 0
    # Completion queue, and phase: those of the queue it belongs to, unless a lie says otherwise.
    queue: int | None = None
    phase: int | None = None

    def pack(self, phase):
        """Returns the 16 bytes with this phase bit; the status is that of bits 15:1."""
        last = self.status << 1 | phase
        return struct.pack("<IIHHHH", self.result, 0, self.head, self.sqid, self.cid, last)


class Command:
    """A submission queue entry, with the memory that it names.

    ranges are those of the data, descriptors those of PRP lists and SGL segments; both are the
    driver's to unmap only once the command is told to be complete.
    """

    def __init__(self, sqid, data):
        self.sqid = sqid
        self.words = struct.unpack("<16I", data)
        self.opcode = self.words[0] & 0xFF
        self.cid = self.words[0] >> 16
        self.psdt = self.words[0] >> 14 & 3
        self.nsid = self.words[1]
        self.pointer = struct.unpack_from("<QQ", data, 24)
        self.sgl = data[24:40]
        self.ranges = []
        self.descriptors = []
        # Number of reports of mappings when it was fetched.
        self.report = 0
        # A late access of it was refused.
        self.refused = False

    @property
    def lba(self):
        """The first logical block of a read, write or write zeroes."""
        return self.words[10] | self.words[11] << 32

    @property
    def blocks(self):
        """The number of its logical blocks."""
        return (self.words[12] & 0xFFFF) + 1

    def overlaps(self, addr, size):
        """Returns whether it still needs some of the addresses from addr on."""
        return any(a < addr + size and addr < a + n for a, n in self.ranges + self.descriptors)

    def __str__(self):
        return f"queue {self.sqid} command {self.cid:#x} opcode {self.opcode:#x}"


class SubmissionQueue:
    """A ring of commands."""

    def __init__(self, qid, addr, entries, cqid):
        self.qid, self.addr, self.entries, self.cqid = qid, addr, entries, cqid
        self.head = self.tail = 0

    def ahead(self):
        """Returns the number of commands up to the tail or the end of the ring."""
        end = self.tail if self.tail >= self.head else self.entries
        return end - self.head

    def advance(self, count):
        """Takes count commands."""
        self.head = (self.head + count) % self.entries


class CompletionQueue:
    """A ring of completions."""

    def __init__(self, qid, addr, entries, vector, interrupts):
        self.qid, self.addr, self.entries = qid, addr, entries
        self.vector, self.interrupts = vector, interrupts
        self.head = self.tail = 0
        self.phase = 1
        # Entries for which there is no room.
        self.waiting = []
        # Something was added since the last interrupt.
        self.news = False

    def full(self):
        """Returns whether one more entry would make it look empty."""
        return (self.tail + 1) % self.entries == self.head

    def place(self):
        """Returns the address of the next entry."""
        return self.addr + self.tail * CQE_BYTES

    def advance(self):
        """Goes on to the next entry."""
        self.tail += 1
        if self.tail == self.entries:
            self.tail = 0
            self.phase ^= 1
