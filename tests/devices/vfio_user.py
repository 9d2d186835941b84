# SPDX-License-Identifier: GPL-2.0
"""PCI devices outside of QEMU: the server's side of the vfio-user protocol.

QEMU's vfio-user-pci puts a device that is another program into a guest.  QEMU sends it each access
to its registers, and each mapping that the guest's IOMMU gets or loses for it; DMA is a request to
QEMU, which translates the address as for its own devices, and refuses what is not mapped.

A model is a class derived from Device, and ends with main(Model).  scripts/vm --device starts it:

    python3 tests/devices/MODEL.py SOCKET LOG [seed=NUMBER] [OPTION=VALUE]...

The rules for a model:

- QEMU stands still until its message is answered.  DMA is therefore impossible in read(), write(),
  reset(), mapped(), unmapped() and command(): they schedule it by after(), with 0 for "at once".
- Functions of after() run one after the other, never inside of one another.  While one waits for its
  DMA, messages go on being handled, so registers may change meanwhile, as with a real device.
- Time is counted in events: messages of QEMU.  If none comes for a while (IDLE), what is to run next
  does, so nothing waits for ever.
- Choices are made with self.random, which begins with the seed.

The protocol: QEMU's docs/interop/vfio-user.rst.
"""

import array
import errno
import heapq
import json
import os
import random
import select
import socket
import struct
import sys
import traceback

# Commands.
(VERSION, DMA_MAP, DMA_UNMAP, GET_INFO, GET_REGION_INFO, GET_REGION_IO_FDS, GET_IRQ_INFO, SET_IRQS,
 REGION_READ, REGION_WRITE, DMA_READ, DMA_WRITE, RESET, DIRTY_PAGES, REGION_WRITE_MULTI) = range(1, 16)

HEADER = struct.Struct("<HHIII")  # id, command, size, flags, errno
REPLY, NO_REPLY, ERROR = 0x1, 0x10, 0x20
TYPE_MASK = 0xF

# Bytes of one DMA request.  An answer that the buffer of a socket does not hold stops QEMU for ever.
TRANSFER = 1 << 16

# VFIO: regions and interrupts by their index, flags.
CONFIG_REGION, REGIONS = 7, 9
INTX, MSI, MSIX, IRQS = 0, 1, 2, 5
FLAG_RESET, FLAG_PCI = 1, 2
REGION_READABLE, REGION_WRITABLE = 1, 2
IRQ_EVENTFD, IRQ_MASKABLE, IRQ_AUTOMASKED, IRQ_NORESIZE = 1, 2, 4, 8
DATA_EVENTFD, ACTION_UNMASK = 4, 16
MAP_READ, MAP_WRITE = 1, 2

# Configuration space.
CONFIG_SIZE = 256
COMMAND, CAPABILITIES, INTERRUPT_PIN = 0x04, 0x34, 0x3D
MEMORY_SPACE, BUS_MASTER = 2, 4
CAP_MSI, CAP_VENDOR, CAP_EXPRESS, CAP_MSIX = 0x05, 0x09, 0x10, 0x11
AT_MSI, AT_VENDOR, AT_EXPRESS = 0x40, 0x60, 0x80
VENDOR_SIZE = 32
EXPRESS_SIZE = 60
DEVICE_CONTROL = AT_EXPRESS + 8
FLR = 1 << 15

# A BAR of the frame's own has the MSI-X table and the pending bits, for up to 2048 vectors.
MSIX_BAR, MSIX_BAR_SIZE, MSIX_PENDING = 4, 1 << 16, 1 << 15

# Seconds without a message after which the device is idle.
IDLE = 0.005


class Refused(Exception):
    """QEMU refused a DMA access: nothing is mapped there, or bus mastering is off."""


class Ended(Exception):
    """QEMU has closed the connection: the guest has ended."""


class Device:
    """A device without registers; a model replaces what it has."""

    vendor = 0x1234
    device = 0
    subsystem = (0x1AF4, 0x1100)
    class_code = 0x00FF00
    revision = 0x10
    bars = {0: 4096}  # memory BARs: sizes, powers of two
    intx = False  # an interrupt line: is_pending()
    msi = 0  # MSI vectors
    msix = 0  # MSI-X vectors
    express = False  # PCI Express, with function level reset
    mailbox = False  # a vendor-specific capability of 28 bytes: mail_read(), mail_write()
    known = {}  # options: name -> what it is

    def __init__(self, options, seed, log):
        self.options, self.seed, self.log = options, seed, log
        self.random = random.Random(seed)
        self.server = None  # set by main()

    # For the model to replace.

    def read(self, bar, offset, size):
        return 0

    def write(self, bar, offset, size, value):
        pass

    def mail_read(self, offset, size):
        return 0

    def mail_write(self, offset, size, value):
        pass

    def reset(self):
        """The guest resets the device."""

    def mapped(self, addr, size, flags):
        """The IOMMU maps this now, for MAP_READ and MAP_WRITE; without one, all memory."""

    def unmapped(self, addr, size):
        """It does not any more."""

    def command(self, value):
        """The PCI command register was written."""

    def is_pending(self):
        """Whether the interrupt line is asserted."""
        return False

    def ended(self):
        """The guest has ended."""

    def counts(self):
        """What was done, in one line."""
        return ""

    def verdict(self):
        """Faults that were found, a line each."""
        return []

    # For the model to use.

    def event(self):
        """The number of messages so far."""
        return self.server.events

    def bus_master(self):
        return bool(self.server.command() & BUS_MASTER)

    def dma_read(self, addr, size):
        return self.server.dma_read(addr, size)

    def dma_write(self, addr, data):
        self.server.dma_write(addr, data)

    def interrupt(self, vector=0):
        return self.server.interrupt(vector)

    def after(self, messages, function):
        """Run function after so many further messages; 0: when this one is answered."""
        self.server.after(messages, function)


class Server:
    """Connection to QEMU."""

    def __init__(self, device, connection):
        self.device, self.connection = device, connection
        device.server = self
        self.events = 0
        self.pending, self.fds = b"", []
        self.scheduled, self.order, self.working = [], 0, False
        self.request_id = 0
        self.in_message = False
        self.config = config_space(device)
        self.eventfds = {INTX: {}, MSI: {}, MSIX: {}}
        self.handlers = {
            VERSION: self.version,
            DMA_MAP: self.dma_map,
            DMA_UNMAP: self.dma_unmap,
            GET_INFO: self.get_info,
            GET_REGION_INFO: self.get_region_info,
            GET_IRQ_INFO: self.get_irq_info,
            SET_IRQS: self.set_irqs,
            REGION_READ: self.region_read,
            REGION_WRITE: self.region_write,
            RESET: self.reset,
            REGION_WRITE_MULTI: self.region_write_multi,
        }

    # Messages.

    def take(self, size):
        while len(self.pending) < size:
            data, control, _, _ = self.connection.recvmsg(1 << 20, socket.CMSG_SPACE(16 * 4))
            if not data:
                raise Ended
            for level, kind, fds in control:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    self.fds.extend(array.array("i", fds[: len(fds) // 4 * 4]))
            self.pending += data
        taken, self.pending = self.pending[:size], self.pending[size:]
        return taken

    def message(self):
        number, command, size, flags, error = HEADER.unpack(self.take(HEADER.size))
        return number, command, flags, error, self.take(size - HEADER.size)

    def send(self, number, command, data=b"", flags=0, error=0):
        size = HEADER.size + len(data)
        try:
            self.connection.sendall(HEADER.pack(number, command, size, flags, error) + data)
        except (BrokenPipeError, ConnectionResetError):
            raise Ended from None

    def handle(self, number, command, flags, _error, data):
        """Answer a message of QEMU."""
        self.events += 1
        outer, self.in_message = self.in_message, True
        handler = self.handlers.get(command)
        if handler:
            answer, error = handler(data), 0
        else:
            answer, error = b"", errno.EOPNOTSUPP
        self.in_message = outer
        for fd in self.fds:
            os.close(fd)
        self.fds.clear()
        if not flags & NO_REPLY:
            self.send(number, command, answer, REPLY | (ERROR if error else 0), error)

    def request(self, command, data):
        """Send a request, and answer QEMU's messages until its answer comes."""
        if self.in_message:
            raise RuntimeError("DMA while QEMU waits for an answer: use after()")
        self.request_id = (self.request_id + 1) & 0xFFFF
        self.send(self.request_id, command, data)
        while True:
            number, answered, flags, error, answer = self.message()
            if flags & TYPE_MASK != REPLY:
                self.handle(number, answered, flags, error, answer)
            elif number == self.request_id:
                if flags & ERROR:
                    raise Refused(os.strerror(error))
                return answer

    def after(self, messages, function):
        self.order += 1
        heapq.heappush(self.scheduled, (self.events + messages, self.order, function))

    def work(self):
        """Run what is scheduled next."""
        self.working = True
        heapq.heappop(self.scheduled)[2]()
        self.working = False

    def run(self):
        """Handle messages until the guest has ended."""
        try:
            while True:
                while self.scheduled and self.scheduled[0][0] <= self.events:
                    self.work()
                idle = IDLE if self.scheduled else None
                if self.pending or select.select([self.connection], [], [], idle)[0]:
                    self.handle(*self.message())
                else:
                    self.work()
        except (Ended, ConnectionResetError):
            self.device.ended()

    # DMA and interrupts.

    def dma_read(self, addr, size):
        data = b""
        while len(data) < size:
            step = min(size - len(data), TRANSFER)
            data += self.request(DMA_READ, struct.pack("<QQ", addr + len(data), step))[16 : 16 + step]
        return data

    def dma_write(self, addr, data):
        for start in range(0, len(data), TRANSFER):
            part = data[start : start + TRANSFER]
            self.request(DMA_WRITE, struct.pack("<QQ", addr + start, len(part)) + part)

    def interrupt(self, vector):
        """Send an interrupt; returns False if the guest has not enabled it."""
        for index in (MSIX, MSI, INTX):
            fd = self.eventfds[index].get(vector)
            if fd is not None:
                os.write(fd, struct.pack("<Q", 1))
                return True
        return False

    def command(self):
        return struct.unpack_from("<H", self.config, COMMAND)[0]

    # Handlers: take a message's data, return that of the answer.

    def version(self, data):
        capabilities = {
            "max_msg_fds": 16,
            "max_data_xfer_size": TRANSFER,
            "pgsizes": 4096,
            "max_dma_maps": 65535,
        }
        return data[:4] + json.dumps({"capabilities": capabilities}).encode() + b"\0"

    def dma_map(self, data):
        _, flags, _, addr, size = struct.unpack_from("<IIQQQ", data)
        self.device.mapped(addr, size, flags)
        return b""

    def dma_unmap(self, data):
        _, _, addr, size = struct.unpack_from("<IIQQ", data)
        self.device.unmapped(addr, size)
        return data[:24]

    def get_info(self, _data):
        return struct.pack("<IIII", 16, FLAG_RESET | FLAG_PCI, REGIONS, IRQS)

    def get_region_info(self, data):
        index = struct.unpack_from("<I", data, 8)[0]
        sizes = all_bars(self.device) | {CONFIG_REGION: CONFIG_SIZE}
        size = sizes.get(index, 0)
        flags = REGION_READABLE | REGION_WRITABLE if size else 0
        return struct.pack("<IIIIQQ", 32, flags, index, 0, size, 0)

    def get_irq_info(self, data):
        index = struct.unpack_from("<I", data, 8)[0]
        number = {INTX: int(self.device.intx), MSI: self.device.msi, MSIX: self.device.msix}.get(index, 0)
        flags = IRQ_EVENTFD | (IRQ_MASKABLE | IRQ_AUTOMASKED if index == INTX else IRQ_NORESIZE)
        return struct.pack("<IIII", 16, flags, index, number)

    def set_irqs(self, data):
        _, flags, index, start, number = struct.unpack_from("<IIIII", data)
        vectors = self.eventfds.get(index)
        if vectors is None:
            return b""
        if flags & ACTION_UNMASK:
            # It masks the line each time it gets the interrupt.
            if index == INTX and self.device.is_pending():
                self.interrupt(0)
            return b""
        if number == 0:
            gone = list(vectors)
        else:
            gone = range(start, start + number) if flags & DATA_EVENTFD else []
        for vector in gone:
            fd = vectors.pop(vector, None)
            if fd is not None:
                os.close(fd)
        if flags & DATA_EVENTFD:
            for vector in range(start, start + min(number, len(self.fds))):
                vectors[vector] = self.fds.pop(0)
        return b""

    def region_read(self, data):
        offset, region, size = struct.unpack_from("<QII", data)
        return data[:16] + self.read(region, offset, size)

    def region_write(self, data):
        offset, region, size = struct.unpack_from("<QII", data)
        self.write(region, offset, data[16 : 16 + size])
        return data[:16]

    def region_write_multi(self, data):
        number, at = struct.unpack_from("<Q", data)[0], 8
        for _ in range(number):
            offset, region, size = struct.unpack_from("<QII", data, at)
            self.write(region, offset, data[at + 16 : at + 16 + size])
            at += 16 + 8
        return data[:8]

    def reset(self, _data=b""):
        struct.pack_into("<H", self.config, COMMAND, 0)
        self.device.reset()
        return b""

    def read(self, region, offset, size):
        if region == CONFIG_REGION:
            if self.device.mailbox and AT_VENDOR + 4 <= offset < AT_VENDOR + VENDOR_SIZE:
                value = self.device.mail_read(offset - AT_VENDOR - 4, size)
                return value.to_bytes(size, "little")
            return bytes(self.config[offset : offset + size]).ljust(size, b"\0")
        if region in self.device.bars:
            value = self.device.read(region, offset, size) & ((1 << 8 * size) - 1)
            return value.to_bytes(size, "little")
        return bytes(size)

    def write(self, region, offset, data):
        value = int.from_bytes(data, "little")
        if region in self.device.bars:
            self.device.write(region, offset, len(data), value)
        elif region == CONFIG_REGION:
            self.write_config(offset, data, value)

    def write_config(self, offset, data, value):
        if self.device.mailbox and AT_VENDOR + 4 <= offset < AT_VENDOR + VENDOR_SIZE:
            self.device.mail_write(offset - AT_VENDOR - 4, len(data), value)
            return
        if self.device.express and offset == DEVICE_CONTROL and value & FLR:
            self.reset()
            return
        self.config[offset : offset + len(data)] = data
        if offset <= COMMAND < offset + len(data):
            self.device.command(self.command())


def all_bars(device):
    return device.bars | ({MSIX_BAR: MSIX_BAR_SIZE} if device.msix else {})


def config_space(device):
    """The PCI configuration space.  QEMU answers for some of it itself."""
    config = bytearray(CONFIG_SIZE)
    struct.pack_into("<HHHH", config, 0, device.vendor, device.device, 0, 0x10)
    struct.pack_into("<I", config, 8, device.class_code << 8 | device.revision)
    struct.pack_into("<HH", config, 0x2C, *device.subsystem)
    link = CAPABILITIES  # of the byte that has the place of the next capability

    def capability(at, number):
        nonlocal link
        config[link], config[at], link = at, number, at + 1

    config[INTERRUPT_PIN] = int(device.intx)
    if device.msi:
        capability(AT_MSI, CAP_MSI)
        # 64-bit addresses; the logarithm of the number of vectors.
        struct.pack_into("<H", config, AT_MSI + 2, 0x80 | (device.msi.bit_length() - 1) << 1)
    if device.msix:
        capability(AT_MSI, CAP_MSIX)
        table, pending = MSIX_BAR, MSIX_PENDING | MSIX_BAR
        struct.pack_into("<HII", config, AT_MSI + 2, device.msix - 1, table, pending)
    if device.mailbox:
        capability(AT_VENDOR, CAP_VENDOR)
        config[AT_VENDOR + 2] = VENDOR_SIZE
    if device.express:
        capability(AT_EXPRESS, CAP_EXPRESS)
        # Version 2, an endpoint, that can be reset.
        struct.pack_into("<HI", config, AT_EXPRESS + 2, 2, 1 << 28)
    return config


def parse(model, arguments):
    """Returns the seed and the options; exits with one line for what is wrong."""
    options, seed = {}, 1
    for argument in arguments:
        name, _, value = argument.partition("=")
        if name == "seed":
            try:
                seed = int(value, 0)
            except ValueError:
                sys.exit(f"seed: not a number: {value}")
        elif name in model.known:
            options[name] = value or "1"
        else:
            sys.exit(f"no such option: {name}; it has: {' '.join(['seed', *model.known])}")
    return seed, options


def main(model):
    """Run the model; exits with 1 if it has found a fault, with 2 if it is broken itself."""
    name = os.path.basename(sys.argv[0]).removesuffix(".py")
    if len(sys.argv) < 3:
        print(sys.modules[model.__module__].__doc__.strip())
        for option, what in model.known.items():
            print(f"  {option:12} {what}")
        sys.exit(0 if "--help" in sys.argv else 2)
    path, log_path = sys.argv[1:3]
    seed, options = parse(model, sys.argv[3:])
    with open(log_path, "w", buffering=1, encoding="utf-8") as log, socket.socket(socket.AF_UNIX) as listener:
        server = None

        def say(*words):
            print(server.events if server else 0, *words, file=log)

        try:
            device = model(options, seed, say)
            listener.bind(path)
            listener.listen(1)
            connection = listener.accept()[0]
            os.unlink(path)
            server = Server(device, connection)
            server.run()
        except Exception:  # pylint: disable=broad-except
            traceback.print_exc(file=log)
            sys.exit(2)
        faults = device.verdict()
        for fault in faults:
            print(f"{name}: FAULT: {fault}", file=log)
        print(f"{name}: seed {seed}: {device.counts()}", file=log)
        sys.exit(1 if faults else 0)
