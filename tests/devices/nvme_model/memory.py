# SPDX-License-Identifier: GPL-2.0
"""The driver's memory: DMA, the end of mappings, and of I/O, and accesses that come too late.

Memory must be mapped, and stay the device's own, until the controller cannot use it any more: the command
that names it was reported as complete, or CSTS.RDY=0 was read after CC.EN=0, or bus mastering is off.
Behind an IOMMU QEMU reports the end of a mapping. Without one nothing does; but the guest tells when
its I/O has returned, from when on the memory is somebody else's: it must not be mapped any more, either.
"""

from vfio_user import Device, Refused

from .io import LATE, READ, WRITE, WRITE_ZEROES
from .queues import CQE_BYTES, SQE_BYTES

# A mapping of this size is memory that no IOMMU translates.
UNTRANSLATED = 16 << 20

# After so many messages the report of a new mapping has come, if there is one.
REPORTED = 256

# Bytes of the medium that one thread of the guest has for itself (tests/guest/nvme-model.h).
REGION = 1 << 20


class Off(Exception):
    """The driver has disabled the controller meanwhile."""


class Memory(Device):
    """A controller's accesses to memory, and what the driver may do with that."""

    def load(self, addr, size):
        """Reads memory, for a command that is in flight."""
        if not self.enabled:
            raise Off
        return self.dma_read(addr, size)

    def store(self, addr, data):
        """Writes memory, for a command that is in flight."""
        if not self.enabled:
            raise Off
        self.dma_write(addr, data)

    # What the driver ends

    @property
    def can_access(self):
        """Whether the controller may access memory, for all that the driver knows."""
        return self.master and (self.on or not self.off_seen)

    @property
    def why(self):
        """The reason for which a command may still access memory."""
        return "in flight" if self.on else "in flight before CC.EN=0, and CSTS.RDY=0 was not read"

    def mapped(self, addr, size, _flags):
        """Notes a new mapping."""
        self.maps.add(addr, size)
        # The guest may have mapped it before the access, and unmap it again at any time.
        for access in [one for one in self.unexplained if one[0] < addr + size and addr < sum(one)]:
            self.unexplained.remove(access)
            self.count("mapped again")

    def unmapped(self, addr, size):
        """Notes that a mapping has ended, and checks that nobody needs it."""
        self.maps.remove(addr, size)
        # A change of QEMU's, not of the guest's.
        if size >= UNTRANSLATED:
            return
        self.has_ended(lambda command: command.overlaps(addr, size), f"{addr:#x}+{size:#x} is unmapped")
        if not self.can_access:
            return
        for queue in self.sqs.values():
            self.check_ring("submission", queue, SQE_BYTES, addr, size)
        for queue in self.cqs.values():
            self.check_ring("completion", queue, CQE_BYTES, addr, size)

    def check_ring(self, kind, queue, entry, addr, size):
        """Notes a fault if some of a ring is unmapped."""
        if queue.addr < addr + size and addr < queue.addr + queue.entries * entry:
            self.fault(f"{addr:#x}+{size:#x} is unmapped: {kind} queue {queue.qid} is there")

    def returned(self, region):
        """The guest has all its I/O in this region of the medium back, and may use the memory for anything."""
        self.has_ended(lambda command: self.is_in(command, region), f"the I/O of region {region} has returned")
        for command in [command for command in self.done if self.is_in(command, region)]:
            self.done.remove(command)
            if any(self.is_mapped_since(addr, size, command.report) for addr, size in command.ranges):
                self.fault(f"the I/O of region {region} has returned: {command} is complete, its memory still mapped")

    def is_mapped_since(self, addr, size, report):
        """Returns whether an IOMMU maps some of this as it did at the report with this number."""
        return 0 < self.maps.newest(addr, size) <= report and self.maps.longest(addr, size) < UNTRANSLATED

    def is_in(self, command, region):
        """Returns whether an I/O command is about a region of the medium."""
        if not command.sqid or command.opcode not in (READ, WRITE, WRITE_ZEROES):
            return False
        shift, first = self.shift_told, region * REGION
        return command.lba << shift < first + REGION and first < command.lba + command.blocks << shift

    def has_ended(self, concerns, what):
        """The driver has ended the use of memory: a fault if a command that this concerns may use it."""
        if self.can_access:
            for command in [*self.commands.values(), *self.former]:
                if concerns(command):
                    self.fault(f"{what}: {command} is {self.why}")
        for command in [command for command in self.given_up if concerns(command)]:
            self.given_up.remove(command)
            self.count("ended after off")
            self.log(f"order: {what}, of {command}, after the controller was off")

    # Late accesses

    def late(self, command):
        """Moves the data of a command that the driver has given up. Returns whether it may still be mapped."""
        write, refused = command.opcode != WRITE, self.events_of.get("refused", 0)
        still = [
            self.late_access(addr, size, bytes([LATE]) * size if write else None, command.report)
            for addr, size in command.ranges
        ]
        if self.events_of.get("refused", 0) > refused and not command.refused:
            command.refused = True
            self.log(f"order: late data of {command} is refused")
        return any(still)

    def late_access(self, addr, size, data, report):
        """Writes data to memory that the driver does not expect to be used any more, or reads it.

        report is the number of the newest mapping that the device may mean: where there is a newer one
        by now, nothing is done, as that memory is the device's own by right. Nor is where no IOMMU would
        refuse it. Returns whether the memory was still mapped.
        """
        maps = self.maps
        if maps.longest(addr, size) >= UNTRANSLATED:
            self.count("not translated")
            return False
        if maps.newest(addr, size) > report:
            self.count("mapped again")
            return False
        access = None if maps.touches(addr, size) else (addr, size)
        # Reports come while the access is under way, too.
        if access:
            self.unexplained.append(access)
        try:
            if data is None:
                self.dma_read(addr, size)
            else:
                self.dma_write(addr, data)
        except Refused:
            self.count("refused")
            if access in self.unexplained:
                self.unexplained.remove(access)
            return False
        self.count("accepted" if access else "still mapped")
        self.after(REPORTED, lambda: self.explain(access))
        return not access

    def explain(self, access):
        """Notes a fault if no report came of a mapping of memory that was accessed."""
        if access in self.unexplained:
            self.unexplained.remove(access)
            self.fault(f"{access[0]:#x}+{access[1]:#x} is accessed, but not mapped")
