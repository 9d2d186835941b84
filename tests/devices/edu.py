# SPDX-License-Identifier: GPL-2.0
"""edu: QEMU's edu device as an oracle of mappings.

Its DMA engine and its interrupts do what the driver says.  It keeps every address that it was ever
given, and tries those again that are not mapped any more: as the IOMMU reports the unmap, some events
later, and at random while others are mapped.  That is a fault if it is possible, if it is possible
GRACE events later as well, and if the IOMMU has not reported by then that the address is mapped again.

Or the guest says, by the mailbox, that mappings have ended.  The model then tries them by reading and
writing, whatever the IOMMU has reported, and what is possible is a fault at once.

A mapping whose end was never reported is a fault when its address is mapped again.

The mailbox is a vendor-specific capability, for programs and suites in the guest:

  offset  read                           write
  0x64    MAGIC
  0x68    0: done                        1: no mapping is left; 2: as 1, try all old addresses;
                                         3: the range at 0x70 is not mapped; 4: keep the next command
                                         without carrying it out; 5: carry it out now; 6: forget it;
                                         7: the range at 0x70 is mapped, access it;
                                         8: tell the lies of the seed at 0x70 (edu_lies), 0 for none
  0x6c    accesses that were possible
  0x70    1: a command is kept           address, 64 bits
  0x78                                   size, 64 bits

Options:
"""

import bisect

import edu_lies
import vfio_user
from vfio_user import Refused

BUFFER_ADDR, BUFFER_SIZE = 0x40000, 4096
IDENTITY, LIVENESS = 0x00, 0x04
INTERRUPT, RAISE, ACKNOWLEDGE = 0x24, 0x60, 0x64
SOURCE, DESTINATION, COUNT, COMMAND = 0x80, 0x88, 0x90, 0x98
START, TO_MEMORY, WITH_INTERRUPT = 1, 2, 4
DMA_DONE = 0x100

MAGIC = 0x6361726F
MAIL_COMMAND, MAIL_RESULT, MAIL_ADDR, MAIL_SIZE = 4, 8, 12, 20
OVER, ALL_OVER, RANGE_OVER, HOLD, CARRY_OUT, FORGET, ACCESS, LIE = range(1, 9)

# Events after which an access must not be possible any more.  The guest writes an entry of a page table
# before it invalidates it, which is what QEMU reports as a new mapping.  And as a device moves to another
# domain, QEMU reports the end of all mappings before the guest has flushed the IOTLB.
GRACE = 64

# Events between two tries at random: fewer would have the guest handle faults and do nothing else.
PACE = 16

# Old addresses that are tried again each time a mapping is over.
SAMPLE = 4

NOT_MAPPED = "possible where nothing is mapped: "

# Writes here are interrupts, not memory.
MESSAGES = range(0xFEE00000, 0xFEF00000)


class Ranges:
    """What the IOMMU maps, by its reports."""

    def __init__(self):
        self.starts, self.ranges = [], {}  # sorted; start -> (end, flags)

    def overlapping(self, addr, size):
        at = bisect.bisect_right(self.starts, addr)
        if at and self.ranges[self.starts[at - 1]][0] > addr:
            at -= 1
        while at < len(self.starts) and self.starts[at] < addr + size:
            yield self.starts[at]
            at += 1

    def add(self, addr, size, flags):
        self.remove(addr, size)
        bisect.insort(self.starts, addr)
        self.ranges[addr] = (addr + size, flags)

    def remove(self, addr, size):
        for start in list(self.overlapping(addr, size)):
            self.starts.remove(start)
            end, flags = self.ranges.pop(start)
            for left, right in (start, addr), (addr + size, end):
                if left < right:
                    bisect.insort(self.starts, left)
                    self.ranges[left] = (right, flags)

    def find(self, addr):
        return next(self.overlapping(addr, 1), None)


def not_last(addr):
    """Not the last byte of a page: for that QEMU's virtio-iommu may find the mapping of the next page."""
    return addr & ~1


class Old:
    """An address that the device was given."""

    def __init__(self, addr, size):
        self.addr, self.size = addr, size
        self.used = 0  # the event of the last command with it
        self.gone = False  # reported as unmapped, or said to be over
        self.new = True  # not yet tried by reading and writing since it was used


class Suspect:
    """An access that was possible, though no mapping is known."""

    def __init__(self, addr, what, event):
        self.addr, self.what, self.event = addr, what, event


class Edu(vfio_user.Device):
    vendor, device = 0x1234, 0x11E8
    class_code, revision = 0x00FF00, 0x10
    bars = {0: 1 << 20}
    intx = True
    msi = 1
    mailbox = True
    known = {
        "lazy": "the IOMMU is flushed late: what is possible until then is counted; none is a fault",
        "tries": "a run with fewer tries than this is a fault [0]",
    }

    def __init__(self, options, seed, log):
        super().__init__(options, seed, log)
        self.lazy = "lazy" in options
        self.least = int(options.get("tries", "0"))
        self.maps, self.old, self.suspects, self.faults = Ranges(), {}, [], []
        self.mail, self.mail_busy, self.mail_found = bytearray(28), 0, 0
        self.tried = self.refused = self.accepted = self.again = self.early = self.window = self.off = 0
        self.commands = self.accessed = self.lived = self.last_random = 0
        # What the driver has unmapped, and the IOMMU has not reported yet: address, size and event of that.
        # Then the most events that one has lived after the driver's unmap.
        self.lingering, self.outlived = [], 0
        self.hold, self.held, self.blind = False, None, False
        self.lie, _ = edu_lies.make(self, 0)
        self.reset()

    def reset(self):
        self.registers = {IDENTITY: 0x010000ED, LIVENESS: 0, INTERRUPT: 0}
        self.buffer = bytearray(BUFFER_SIZE)
        # The command, and the one that reads as done whether or not it is.
        self.running = self.told_done = None

    # Registers.

    def read(self, bar, offset, size):
        self.tick()
        value = self.lie.register(offset, self.registers.get(offset, 0))
        if offset == COMMAND and not value & START:
            self.told_done = self.running
        return value

    def write(self, bar, offset, size, value):
        self.tick()
        if offset == LIVENESS:
            self.registers[LIVENESS] = ~value & 0xFFFFFFFF
        elif offset == RAISE:
            self.raise_interrupt(value)
        elif offset == ACKNOWLEDGE:
            self.registers[INTERRUPT] &= ~value
        elif offset in (SOURCE, DESTINATION, COUNT) and self.running is None:
            self.registers[offset] = value
        elif offset == COMMAND and value & START and self.running is None:
            self.registers[COMMAND] = value
            self.start(value)

    def raise_interrupt(self, reason):
        self.registers[INTERRUPT] |= reason
        self.lie.interrupt()

    def is_pending(self):
        return self.registers[INTERRUPT] != 0

    # Commands.

    def start(self, command):
        source, destination = (self.registers.get(reg, 0) for reg in (SOURCE, DESTINATION))
        size = self.registers.get(COUNT, 0)
        addr, inside = (destination, source) if command & TO_MEMORY else (source, destination)
        self.commands += 1
        self.running = (command, addr, inside - BUFFER_ADDR, size)
        self.log("command", hex(command), hex(addr), size)
        self.given(addr, size)
        if self.hold:
            self.hold, self.held = False, self.running
        else:
            # Some drivers poll, some wait: after a random number of polls, or as nothing happens.
            self.after(self.random.randrange(4), self.lie.carry_out)

    def given(self, addr, size):
        old = self.old.setdefault((addr, size), Old(addr, size))
        old.used, old.gone, old.new = self.event(), False, True

    def transfer(self, running):
        command, addr, inside, size = running
        if not (0 <= inside and inside + size <= BUFFER_SIZE):
            self.log("outside of the buffer", inside, size)
        elif command & TO_MEMORY:
            self.dma_write(addr, bytes(self.buffer[inside : inside + size]))
        else:
            self.buffer[inside : inside + size] = self.dma_read(addr, size)

    def carry_out(self):
        running = self.running
        if running is None:
            return
        try:
            self.transfer(running)
        except Refused as why:
            self.log("command refused:", hex(running[1]), why)
        else:
            if self.commands == 1 and self.maps.find(running[1]) is None:
                # As QEMU's for the first stage of Intel's IOMMU.
                self.log("the IOMMU reports no mappings: only what the mailbox says is tried")
                self.blind = True
        if self.running is running:
            self.finish(running[0])

    def move_late(self, running):
        """Moves the data of a command that was reported as done: to what is mapped there by now, if anything is."""
        command, addr, _, _ = running
        if self.maps.find(addr) is None:
            self.attempt(not_last(addr), bool(command & TO_MEMORY), "after its command was done")
            return
        try:
            self.transfer(running)
        except Refused:
            self.refused += 1

    def finish(self, command):
        self.running = None
        self.registers[COMMAND] = command & ~START
        if command & WITH_INTERRUPT:
            self.raise_interrupt(DMA_DONE)

    # What the IOMMU reports.

    def mapped(self, addr, size, flags):
        self.log("map", hex(addr), hex(size), flags)
        if next(self.maps.overlapping(addr, size), None) is not None:
            self.fault(f"{addr:#x} is mapped again, and the end of its last mapping was not reported")
        self.maps.add(addr, size, flags)
        again = [suspect for suspect in self.suspects if addr <= suspect.addr < addr + size]
        self.again += len(again)
        self.suspects = [suspect for suspect in self.suspects if suspect not in again]

    def unmapped(self, addr, size):
        self.log("unmap", hex(addr), hex(size))
        self.maps.remove(addr, size)
        self.end_lingering(addr, size)
        for old in self.old.values() if not self.blind else ():
            if not old.gone and addr < old.addr + old.size and old.addr < addr + size:
                self.ended_mapping(old)

    def linger(self, addr, size):
        """The driver has unmapped this: notes that it is mapped, if it is."""
        if next(self.maps.overlapping(addr, size), None) is not None:
            self.lingering.append((addr, size, self.event()))

    def end_lingering(self, addr, size):
        """This is not mapped any more: notes how long it has lived since the driver's unmap."""
        ended = [one for one in self.lingering if addr < one[0] + one[1] and one[0] < addr + size]
        self.lingering = [one for one in self.lingering if one not in ended]
        self.outlived = max([self.outlived, *(self.event() - event for _, _, event in ended)])

    def ended_mapping(self, old):
        old.gone = True
        self.lived = max(self.lived, self.event() - old.used)
        running = None if self.running is self.told_done else self.running
        if running and running[1:4:2] == (old.addr, old.size) and self.bus_master():
            self.fault(f"{old.addr:#x} was unmapped while the device had a command for it, and may do DMA")
        elif self.held and self.held[1:4:2] == (old.addr, old.size):
            self.log("order: the memory of the kept command is unmapped, bus mastering is off")
        # At once, soon, and later.
        for events in 0, self.random.randrange(1, PACE), self.random.randrange(PACE, 4 * PACE):
            self.after(events, lambda: self.attempt(self.place(old), False, "after its unmap"))

    def command(self, value):
        self.log("pci command", hex(value))

    # Tries.

    def place(self, old):
        """A byte of an old address: an edge, or any."""
        last = old.addr + max(old.size, 1) - 1
        return not_last(self.random.choice((old.addr, last, self.random.randint(old.addr, last))))

    def attempt(self, addr, write, what):
        """Access a byte that should not be mapped; returns whether that was possible."""
        if addr in MESSAGES:
            return False
        self.tried += 1
        if self.maps.find(addr) is not None:
            self.again += 1
            return False
        if not self.bus_master():
            self.off += 1
        event = self.event()
        try:
            if write:
                self.dma_write(addr, b"\xee")
            else:
                self.dma_read(addr, 1)
        except Refused:
            self.refused += 1
            return False
        if self.maps.find(addr) is not None:
            self.again += 1
            return False
        what = f"{'write to' if write else 'read of'} {addr:#x} {what}"
        self.log("possible:", what)
        self.suspects.append(Suspect(addr, what, event))
        return True

    def tick(self):
        """Counts a message: ends the grace of suspects, and tries an old address now and then."""
        now = self.event()
        while self.suspects and now - self.suspects[0].event > GRACE:
            suspect = self.suspects.pop(0)
            self.after(0, lambda suspect=suspect: self.confirm(suspect))
        if now - self.last_random >= PACE and self.old and not self.blind:
            self.last_random = now
            self.after(0, self.attempt_any)

    def confirm(self, suspect):
        """A suspect, after its grace: a fault if it is possible even now."""
        if self.maps.find(suspect.addr) is not None:
            self.again += 1
        elif self.attempt(suspect.addr, False, "still"):
            self.suspects.pop()
            self.accept(NOT_MAPPED + suspect.what)
        else:
            self.early += 1

    def attempt_any(self):
        gone = [old for old in self.old.values() if old.gone]
        if gone:
            self.attempt(self.place(self.random.choice(gone)), False, "long after its unmap")

    def ended(self):
        # Their grace is not over.
        self.early += len(self.suspects)
        self.end_lingering(0, 1 << 64)

    # The mailbox.

    def mail_read(self, offset, size):
        self.tick()
        values = {
            0: MAGIC,
            MAIL_COMMAND: self.mail_busy,
            MAIL_RESULT: self.mail_found,
            MAIL_ADDR: int(self.held is not None),
        }
        return values.get(offset, 0) & ((1 << 8 * size) - 1)

    def mail_write(self, offset, size, value):
        self.tick()
        self.mail[offset : offset + size] = value.to_bytes(size, "little")
        if offset == MAIL_COMMAND:
            self.mail_busy, self.mail_found = value, 0
            self.after(0, lambda: self.mail_command(value))

    def mail_command(self, command):
        if command == OVER:
            self.over(False)
        elif command == ALL_OVER:
            self.over(True)
        elif command == RANGE_OVER:
            self.range_over(*self.mail_range())
        elif command == ACCESS:
            self.access(*self.mail_range())
        elif command == HOLD:
            self.hold = True
        elif command == CARRY_OUT and self.held:
            self.late()
        elif command == FORGET and self.held:
            self.forget()
        elif command == LIE:
            self.forget()
            seed, _ = self.mail_range()
            self.lie, names = edu_lies.make(self, seed)
            self.log(f"lies of seed {seed}: {names}")
        self.mail_busy = 0

    def forget(self):
        """Has no command any more."""
        self.running = self.held = None
        self.registers[COMMAND] = 0

    def mail_range(self):
        return (int.from_bytes(self.mail[at : at + 8], "little") for at in (MAIL_ADDR, MAIL_SIZE))

    def access(self, addr, size):
        """This is mapped: brings its translation into the IOTLB, where a flush must take it out again."""
        for at in addr, addr + size - 1:
            try:
                self.dma_read(not_last(at), 1)
                self.accessed += 1
            except Refused:
                # It may be mapped for writing alone.
                self.log("not for reading:", hex(at))

    def over(self, everything):
        """No mapping is left: tries what is new, and some or all of the rest."""
        fresh = [old for old in self.old.values() if old.new]
        rest = [old for old in self.old.values() if not old.new]
        if not everything:
            rest = self.random.sample(rest, min(SAMPLE, len(rest)))
        for old in fresh + rest:
            if old.new:
                self.linger(old.addr, max(old.size, 1))
            old.new, old.gone = False, True
            if not self.attempt_over(self.place(old), False):
                self.write_over(self.place(old))

    def range_over(self, addr, size):
        """This is not mapped: tries its edges, which access() has brought into the IOTLB."""
        self.linger(addr, size)
        edges = [not_last(addr), not_last(addr + size - 1)]
        # All of them: any() would end with the first.
        if not any([self.attempt_over(at, False) for at in edges]):
            self.write_over(self.random.choice(edges))

    def write_over(self, addr):
        """Where a late flush is no fault, the page may belong to somebody else by now."""
        if not self.lazy:
            self.attempt_over(addr, True)

    def attempt_over(self, addr, write):
        """Access what the driver has ended, whatever the IOMMU has reported; returns whether it is a fault."""
        if self.maps.find(addr) is None:
            # A suspect is not waited for: the guest maps nothing now.
            possible = self.attempt(addr, write, "after its mapping has ended")
            if possible:
                self.ended_early(NOT_MAPPED + self.suspects.pop().what)
            return possible
        self.tried += 1
        try:
            self.dma_read(addr, 1)
            self.ended_early(f"possible though its mapping has ended: read of {addr:#x}")
        except Refused:
            self.ended_early(f"the mapping of {addr:#x} has ended, and its end is not reported")
        return True

    def ended_early(self, what):
        self.mail_found += 0 if self.lazy else 1
        if self.lazy:
            self.window += 1
        else:
            self.accept(what)

    def late(self):
        """Carries out the command that was kept, after the driver has given it up."""
        _, addr, _, _ = self.held
        self.tried += 1
        if not self.bus_master():
            self.off += 1
        try:
            self.transfer(self.held)
        except Refused:
            self.refused += 1
        else:
            self.mail_found += 1
            self.accept(f"{NOT_MAPPED}late command for {addr:#x}")

    # The verdict.

    def accept(self, what):
        self.accepted += 1
        self.fault(what)

    def fault(self, what):
        self.log("FAULT:", what)
        self.faults.append(what)

    def counts(self):
        return (
            f"{self.commands} commands, {len(self.old)} old addresses, {self.accessed} accesses to mappings, "
            f"{self.tried} tries: "
            f"{self.refused} refused ({self.off} by bus mastering), {self.accepted} accepted, {self.again} mapped again, "
            f"{self.early} before the flush was over, {self.window} before a late flush, {len(self.faults)} faults; "
            + ("no mapping is reported" if self.blind else self.lives())
        )

    def lives(self):
        """Returns how long translations lived."""
        return f"mapped up to {self.lived} events after the last command, {self.outlived} after the driver's unmap"

    def verdict(self):
        if self.tried < self.least:
            self.fault(f"{self.tried} tries are fewer than {self.least}")
        if self.lazy and not self.window:
            self.fault("no late flush was seen")
        return self.faults


if __name__ == "__main__":
    vfio_user.main(Edu)
