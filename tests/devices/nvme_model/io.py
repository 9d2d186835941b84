# SPDX-License-Identifier: GPL-2.0
"""I/O commands of the NVM command set."""

import struct

from vfio_user import Refused

from . import pointers

DNR = 1 << 14
FLUSH, WRITE, READ, WRITE_ZEROES, DATASET_MANAGEMENT = 0x00, 0x01, 0x02, 0x08, 0x09
INVALID_OPCODE, INVALID_FIELD, INVALID_NAMESPACE, LBA_RANGE = 0x001, 0x002, 0x00B, 0x080
DEALLOCATE = 1 << 2
EVERY_NAMESPACE = 0xFFFFFFFF

# The byte that late data consists of.
LATE = 0xEE
LATE_SECTOR = bytes([LATE]) * 512


def without_late(data):
    """Returns data with zeroes for late data: from the medium it would come back to a driver that nobody lies to."""
    if LATE_SECTOR not in data:
        return data
    sectors = [data[at : at + 512] for at in range(0, len(data), 512)]
    return b"".join(bytes(512) if sector == LATE_SECTOR else sector for sector in sectors)


class Io:
    """The I/O commands of a controller: first resolve(), then move()."""

    def __init__(self, ctrl):
        self.ctrl = ctrl

    def run(self, command):
        """Runs a command to its completion."""
        status = self.resolve(command) or self.move(command)
        self.ctrl.finish(command, status)

    def size(self, command):
        """Returns the bytes that a command transfers."""
        if command.opcode in (READ, WRITE):
            return command.blocks << self.ctrl.settings.shift
        if command.opcode == DATASET_MANAGEMENT:
            return ((command.words[10] & 0xFF) + 1) * 16
        return 0

    def resolve(self, command):
        """Checks a command and finds its memory. Returns its status, 0 for success."""
        settings = self.ctrl.settings
        if command.opcode not in (FLUSH, WRITE, READ, WRITE_ZEROES, DATASET_MANAGEMENT):
            return INVALID_OPCODE | DNR
        if command.nsid != 1 and (command.opcode, command.nsid) != (FLUSH, EVERY_NAMESPACE):
            return INVALID_NAMESPACE | DNR
        if command.opcode in (READ, WRITE, WRITE_ZEROES):
            if command.lba + command.blocks > settings.blocks:
                return LBA_RANGE | DNR
        size = self.size(command)
        if size > (self.ctrl.lie.longest or settings.most):
            return INVALID_FIELD | DNR
        return self.guarded(command, lambda: size and pointers.resolve(command, size, self.ctrl.load))

    def guarded(self, command, function):
        """Calls function, and returns the status of a command whose memory is no good."""
        try:
            function()
            return 0
        except pointers.Invalid as invalid:
            if not self.ctrl.lie.hurts_itself:
                self.ctrl.fault(f"{command}: {invalid.reason}")
            return invalid.status | DNR
        except Refused:
            self.ctrl.refused(f"{command}: its memory is refused")
            return pointers.TRANSFER_ERROR | DNR

    def move(self, command):
        """Moves the data of a command that was resolved. Returns its status."""
        return self.guarded(command, lambda: self.act(command))

    def act(self, command):
        """Does what a command asks for."""
        shift, medium = self.ctrl.settings.shift, self.ctrl.medium
        at, size = command.lba << shift, command.blocks << shift
        if command.opcode == READ:
            self.scatter(command.ranges, medium.read(at, size), self.ctrl.store)
        elif command.opcode == WRITE:
            medium.write(at, without_late(self.gather(command)))
        elif command.opcode == WRITE_ZEROES:
            medium.zero(at, size)
        elif command.opcode == DATASET_MANAGEMENT:
            self.deallocate(command)

    def scatter(self, ranges, data, store):
        """Writes data to memory."""
        at = 0
        for addr, size in ranges:
            store(addr, data[at : at + size])
            at += size

    def gather(self, command):
        """Reads the data of a command."""
        return b"".join(self.ctrl.load(addr, size) for addr, size in command.ranges)

    def deallocate(self, command):
        """Makes the blocks of a dataset management command read as zeroes."""
        if not command.words[11] & DEALLOCATE:
            return
        settings = self.ctrl.settings
        for _, blocks, lba in struct.iter_unpack("<IIQ", self.gather(command)):
            blocks = max(0, min(blocks, settings.blocks - lba))
            self.ctrl.medium.zero(lba << settings.shift, blocks << settings.shift)
