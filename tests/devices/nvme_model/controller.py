# SPDX-License-Identifier: GPL-2.0
"""The controller: registers, queues, and what the driver does with its memory.

Messages of QEMU come while a command is under way, too (each DMA is one): write() only notes the new
value, and pump() acts on it, one thing after the other.

What a proper driver never does is a fault of the driver, and part of the verdict:

- memory of a command, or of a queue, is unmapped, or its I/O returns, while the controller may use it (memory);
- a command names memory that is not mapped;
- an identifier is used twice at a time; a doorbell has a value that the ring has no entry for.
"""

import struct

from vfio_user import Refused

from . import admin, identity, io, lies
from .mailbox import Mailbox
from .maps import Maps
from .medium import Medium
from .memory import Memory, Off
from .queues import SQE_BYTES, Command, CompletionQueue, Entry, SubmissionQueue

CAP, VS, CC, CSTS, NSSR, AQA, ASQ, ACQ = 0x00, 0x08, 0x14, 0x1C, 0x20, 0x24, 0x28, 0x30
DOORBELLS, BAR = 0x1000, 0x4000
RDY, CFS, SHST_COMPLETE = 1 << 0, 1 << 1, 2 << 2
MASTER = 1 << 2

# Entries of a queue, less one; CC.EN takes effect within 2 * 500 ms; physically contiguous queues.
MQES, TIMEOUT = 1023, 2

def text_of(events):
    """Returns the numbers of events as text."""
    return ", ".join(f"{what} {n}" for what, n in sorted(events.items())) or "nothing"


class Controller(Memory):
    """An NVMe controller with one namespace."""

    vendor, device, class_code, revision = 0x1234, 0x4E56, 0x010802, 2
    bars = {0: BAR}
    vectors = 9
    express = True
    mailbox = True
    mqes = MQES
    known = {
        "disk": "raw image [a throw-away one]",
        "size": "bytes of the throw-away one [64 MiB]",
        "block": "bytes of a logical block [512]",
        "queues": "most I/O queues [8]",
        "mdts": "longest transfer, as a power of two pages [7]",
        "sgl": "0: no SGLs [1]",
        "msi": "MSI, of which QEMU can unplug a device, instead of MSI-X",
        "lie": "NAME[=VALUE][:RATE[:MOST]] [none]",
    }

    def __init__(self, options, seed, log):
        super().__init__(options, seed, log)
        self.medium = Medium(options.get("disk"), int(options.get("size", 64 << 20)))
        if "msi" in options:
            # A power of two.
            self.vectors = self.msi = 8
        else:
            self.msix = self.vectors
        self.settings = identity.Settings(options, self.medium)
        self.mail = Mailbox(self)
        self.admin, self.io = admin.Admin(self), io.Io(self)
        self.maps = Maps()
        self.master = False
        self.faults = []
        # Accesses that were possible where no mapping had been reported.
        self.unexplained = []
        # Commands that were in flight as the controller was turned off, until their memory, or I/O, ends.
        self.given_up = []
        # Commands that were reported as complete, until their I/O returns.
        self.done = []
        # The logarithm of the size of a block, as the driver was told.
        self.shift_told = self.settings.shift
        self.events_of, self.totals = {}, {}
        self.clear()
        self.lie = lies.make(self, options.get("lie", "none"), seed)

    def clear(self):
        """Puts all registers and queues into the state after a reset."""
        self.regs = bytearray(DOORBELLS)
        cap = MQES | 1 << 16 | TIMEOUT << 24 | 1 << 37
        self.regs[CAP : CAP + 8] = struct.pack("<Q", cap)
        self.regs[VS : VS + 4] = struct.pack("<I", self.settings.version)
        self.on = False
        self.off_seen = True
        self.stride = 0
        self.forget()

    def forget(self):
        """Forgets queues and commands."""
        self.sqs, self.cqs = {}, {}
        self.commands, self.former = {}, []
        self.past = []

    # Registers

    def reg(self, at):
        """Returns a register of 32 bits."""
        return struct.unpack_from("<I", self.regs, at)[0]

    def set_reg(self, at, value):
        """Sets a register of 32 bits."""
        struct.pack_into("<I", self.regs, at, value & 0xFFFFFFFF)

    @property
    def enabled(self):
        """Whether CC.EN is set, whatever the controller does yet."""
        return bool(self.reg(CC) & 1)

    def reg64(self, at):
        """Returns a register of 64 bits."""
        return struct.unpack_from("<Q", self.regs, at)[0]

    def read(self, bar, offset, size):
        """Reads registers."""
        value = int.from_bytes(self.regs[offset : offset + size], "little") if bar == 0 else 0
        value = self.lie.register(offset, size, value)
        if offset == CSTS and not value & RDY and not self.on and not self.off_seen:
            self.off_seen = True
            self.log(f"order: CSTS.RDY=0 is read, {len(self.former)} commands were in flight")
            self.after(0, self.is_off)
        return value

    def write(self, bar, offset, size, value):
        """Writes registers, and has pump() look at them."""
        if bar:
            return
        if offset >= DOORBELLS:
            self.doorbell(offset - DOORBELLS, value)
        elif offset in (CC, AQA, ASQ, ASQ + 4, ACQ, ACQ + 4):
            self.regs[offset : offset + size] = value.to_bytes(size, "little")
            if offset == CC:
                self.log(f"order: CC={value:#x}, {len(self.commands)} commands are in flight")
        self.after(0, self.pump)

    def doorbell(self, at, value):
        """Notes a new tail or head."""
        qid, head = divmod(at // (4 << self.stride), 2)
        queue = (self.cqs if head else self.sqs).get(qid)
        if queue is None or not self.on:
            # Also one that was deleted, or of a controller that has failed.
            return
        if value >= queue.entries:
            self.fault(f"queue {qid}: doorbell is {value} of {queue.entries} entries")
        elif head:
            queue.head = value
        else:
            queue.tail = value

    def command(self, value):
        """Notes the PCI command register."""
        if self.master != bool(value & MASTER):
            self.master = bool(value & MASTER)
            self.log(f"order: bus mastering is {'on' if self.master else 'off'}")
            if not self.master:
                self.after(0, self.is_off)
        self.after(0, self.pump)

    def reset(self):
        """Resets the function."""
        self.log("reset")
        self.lie.off(list(self.commands.values()))
        self.clear()

    def is_off(self):
        """Tells the lie that the driver knows: no command of before is any of its business."""
        former, self.former = self.former, []
        if not self.master:
            former += self.commands.values()
        if former:
            self.given_up += former
            self.lie.off(former)

    # Work

    def pump(self):
        """Does all that there is to do."""
        while self.step():
            pass

    def step(self):
        """Does one thing. Returns whether there may be more."""
        try:
            if self.on and not self.enabled:
                self.turn_off()
            elif not self.on and self.enabled:
                self.turn_on()
            elif self.reg(CC) >> 14 & 3 and not self.reg(CSTS) >> 2 & 3:
                if not self.lie.shuts_down():
                    return False
                self.set_reg(CSTS, self.reg(CSTS) | SHST_COMPLETE)
            else:
                return self.serve()
        except Off:
            pass
        return True

    def turn_on(self):
        """Begins with empty admin queues."""
        self.forget()
        self.on, self.off_seen = True, False
        # The driver has read it by now.
        self.stride = self.lie.doorbell_stride
        aqa = self.reg(AQA)
        self.sqs[0] = SubmissionQueue(0, self.reg64(ASQ), (aqa & 0xFFF) + 1, 0)
        self.cqs[0] = CompletionQueue(0, self.reg64(ACQ), (aqa >> 16 & 0xFFF) + 1, 0, True)
        self.set_reg(CSTS, RDY if self.lie.gets_ready() else 0)

    def turn_off(self):
        """Forgets everything, and only then says so."""
        self.on = False
        former = list(self.commands.values())
        self.forget()
        self.former = former
        self.set_reg(CSTS, 0 if self.lie.stops() else RDY)

    def fail(self):
        """Sets the fatal status."""
        self.set_reg(CSTS, self.reg(CSTS) | CFS)

    def serve(self):
        """Runs the commands of each queue. Returns whether there were any."""
        if not self.on or not self.master or self.reg(CSTS) & CFS or not self.reg(CSTS) & RDY:
            return False
        busy = False
        for queue in list(self.sqs.values()):
            if queue.head != queue.tail:
                busy = True
                self.fetch(queue)
        self.ring()
        return busy

    def ring(self):
        """Sends the interrupts of new completions."""
        for queue in list(self.cqs.values()):
            self.flush(queue)
            if queue.news and queue.interrupts:
                queue.news = False
                self.lie.interrupt(queue.vector)

    def fetch(self, queue):
        """Runs the commands up to the tail or the end of the ring."""
        count = queue.ahead()
        try:
            data = self.load(queue.addr + queue.head * SQE_BYTES, count * SQE_BYTES)
        except Refused:
            self.refused(f"queue {queue.qid}: the ring cannot be read")
            self.fail()
            return
        for at in range(0, len(data), SQE_BYTES):
            if self.sqs.get(queue.qid) is not queue:
                return
            queue.advance(1)
            self.run(Command(queue.qid, data[at : at + SQE_BYTES]))

    def run(self, command):
        """Runs a command."""
        key = command.sqid, command.cid
        if key in self.commands:
            self.fault(f"{command}: the identifier is in flight")
        self.commands[key] = command
        command.report = self.maps.reports
        if command.sqid:
            self.lie.run(command)
        else:
            self.lie.run_admin(command)

    def finish(self, command, status=0, result=0):
        """Reports that a command is complete, in the words of the lie."""
        queue = self.sqs.get(command.sqid)
        if queue is None:
            return
        entry = Entry(result, queue.head, command.sqid, command.cid, status)
        for told in self.lie.entries(command, entry):
            self.post(told, queue.cqid)
        self.past.append(command)
        del self.past[:-64]
        self.done.append(command)
        del self.done[:-256]

    def complete_as(self, command, cid):
        """Reports that the command cid is complete, of the queue of another command."""
        queue = self.sqs.get(command.sqid)
        if queue is not None:
            self.post(Entry(0, queue.head, command.sqid, cid, 0), queue.cqid)
            self.ring()

    def is_in_flight(self, command):
        """Returns whether a command was neither completed nor forgotten."""
        return self.commands.get((command.sqid, command.cid)) is command

    def resume(self, messages, command, status):
        """Moves the data of a command that was held, and completes it, after so many messages."""

        def go_on():
            if self.is_in_flight(command):
                self.finish(command, status or self.io.move(command))
                self.ring()

        self.later(messages, go_on)

    def later(self, messages, function):
        """Calls function after so many messages; it may be cut short by its DMA."""

        def call():
            try:
                function()
            except Off:
                pass
            except Refused:
                self.count("refused")

        self.after(messages, call)

    def post(self, entry, cqid):
        """Writes a completion, or has it wait for room."""
        queue = self.cqs.get(cqid if entry.queue is None else entry.queue)
        if queue is None:
            return
        queue.waiting.append(entry)
        self.flush(queue)

    def flush(self, queue):
        """Writes the completions for which there is room."""
        while queue.waiting and not queue.full():
            entry = queue.waiting.pop(0)
            phase = queue.phase if entry.phase is None else entry.phase
            # From here on the driver can know, whatever order its messages come in.
            if phase == queue.phase:
                self.commands.pop((queue.qid, entry.cid), None)
            at = queue.place()
            queue.advance()
            queue.news = True
            try:
                self.store(at, entry.pack(phase))
            except Refused:
                self.refused(f"queue {queue.qid}: a completion cannot be written")

    # Results

    def refused(self, what):
        """Notes a fault if DMA for a command in flight is refused though it may master the bus."""
        if self.master and not self.lie.hurts_itself:
            self.fault(what)

    def fault(self, what):
        """Notes a fault of the driver."""
        self.count("faults")
        # Of each lie the first ones: there can be one for each unmap.
        if self.events_of["faults"] <= 20:
            self.faults.append(f"{self.lie.name}: {what}")
            self.log(f"FAULT {self.faults[-1]}")

    def count(self, what):
        """Counts an event."""
        self.events_of[what] = self.events_of.get(what, 0) + 1

    def tell(self, words):
        """Obeys the guest: the next lie by its name, and its seed."""
        self.summary()
        name, _, seed = words.partition(" ")
        self.lie = lies.make(self, name, int(seed or self.seed))
        # What comes late still belongs to the lie before.
        if name != "none":
            for what, n in self.events_of.items():
                self.totals[what] = self.totals.get(what, 0) + n
            self.events_of, self.given_up = {}, []
        if not self.on:
            self.set_reg(CSTS, 0)
        self.log(f"lie {words}: {self.lie.name}")

    def summary(self):
        """Logs the events since the lie began."""
        self.log(f"end of lie {self.lie.name}: {text_of(self.events_of)}")

    def counts(self):
        """Returns all events, as text."""
        whole = dict(self.totals)
        for what, n in self.events_of.items():
            whole[what] = whole.get(what, 0) + n
        return text_of(whole)

    def verdict(self):
        """Returns the faults of the driver."""
        self.summary()
        return self.faults

    def mail_read(self, offset, _size):
        """Reads a counter."""
        return self.mail.read(offset)

    def mail_write(self, offset, size, value):
        """Writes some of the words for tell()."""
        self.mail.write(offset, value.to_bytes(size, "little"))
