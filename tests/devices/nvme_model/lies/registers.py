# SPDX-License-Identifier: GPL-2.0
"""Registers that lie, and a controller that goes away."""

from .base import Lie, lie

CAP, VS = 0x00, 0x08
# Reads of registers, about, as a driver is bound, the controller reset once, and the driver unbound.
READS = 40


class Reads(Lie):
    """Counts reads of registers."""

    reads = 0

    @classmethod
    def pick(cls, rng):
        return str(rng.randrange(1, READS))


@lie("ones", most=1)
class Ones(Reads):
    """Read number N of a register has all ones."""

    def register(self, offset, size, value):
        self.reads += 1
        if self.reads != self.number(5):
            return value
        self.told(f"register {offset:#x}")
        return (1 << 8 * size) - 1


@lie("ones-reset", most=1)
class OnesReset(Ones):
    """Never completes a command; read number N of a register after that has all ones."""

    def tell(self, command):
        self.reads = 0
        self.told(f"{command}")

    def register(self, offset, size, value):
        return super().register(offset, size, value) if self.times else value


@lie("gone")
class Gone(Lie):
    """Nothing answers after some I/O commands."""

    away = False

    @classmethod
    def pick(cls, rng):
        # Of the commands of a load.
        return str(rng.randrange(1, 70))

    def run(self, command):
        if self.started() and self.seen > self.number(30):
            self.leave()
        if not self.away:
            self.honest(command)

    def leave(self):
        """Leaves, until the next lie."""
        if not self.away:
            self.away = True
            self.told("the controller is gone")

    def run_admin(self, command):
        if not self.away:
            super().run_admin(command)

    def entries(self, command, entry):
        return [] if self.away else [entry]

    def register(self, offset, size, value):
        return (1 << 8 * size) - 1 if self.away else value


@lie("gone-read")
class GoneRead(Reads, Gone):
    """From read number N of a register on nothing answers."""

    def run(self, command):
        if not self.away:
            self.honest(command)

    def register(self, offset, size, value):
        self.reads += 1
        if self.reads >= self.number(5):
            self.leave()
        return super().register(offset, size, value)


@lie("gone-held")
class GoneHeld(Gone):
    """Goes away with commands, and moves their data when the driver knows that it is gone."""

    def run(self, command):
        if self.started() and self.seen > self.number(30):
            self.model.io.resolve(command)
            self.leave()
        if not self.away:
            self.honest(command)

    def off(self, commands):
        for command in commands:
            if command.ranges:
                self.model.later(20, lambda command=command: self.model.late(command))


@lie("cfs", most=1)
class Fatal(Lie):
    """Has a fatal status after an I/O command."""

    def tell(self, command):
        self.told(f"{command}")
        self.model.fail()


@lie("cfs-read", most=1)
class FatalRead(Reads):
    """Has a fatal status from read number N of a register on."""

    def register(self, offset, size, value):
        self.reads += 1
        if self.reads == self.number(5):
            self.told(f"register {offset:#x}")
            self.model.after(0, self.model.fail)
        return value


@lie("cfs-always")
class FatalAlways(Lie):
    """Has a fatal status after each I/O command but the first ones, also after a reset."""

    def tell(self, command):
        self.told(f"{command}")
        self.model.fail()

    def gets_ready(self):
        if self.times:
            self.model.later(2, self.model.fail)
        return True


@lie("rdy-never")
class NeverReady(Lie):
    """Does not get ready."""

    def gets_ready(self):
        self.told("CSTS.RDY stays 0")
        return False


@lie("rdy-once")
class ReadyOnce(NeverReady):
    """Gets ready once, has a fatal status, and does not get ready again."""

    enabled = 0

    def gets_ready(self):
        self.enabled += 1
        return self.enabled == 1 or super().gets_ready()

    def tell(self, command):
        self.model.fail()


@lie("rdy-stuck")
class Stuck(Lie):
    """Does not stop, and moves the data of held commands."""

    def stops(self):
        if self.seen <= self.grace:
            return True
        self.told("CSTS.RDY stays 1")
        return False

    def tell(self, command):
        self.model.io.resolve(command)

    def off(self, commands):
        for command in commands:
            if command.ranges:
                self.model.late(command)


@lie("shst-never")
class NoShutdown(Lie):
    """Does not shut down."""

    def shuts_down(self):
        self.told("CSTS.SHST stays 0")
        return False


class Field(Lie):
    """A field of a register has another value."""

    at, shift, width, default = 0, 0, 1, 0
    # Bits of a value at random.
    bits = None

    @classmethod
    def pick(cls, rng):
        return hex(rng.getrandbits(cls.bits or cls.width))

    def register(self, offset, size, value):
        low, high = offset * 8, (offset + size) * 8
        at = self.at * 8 + self.shift
        if not low <= at < high:
            return value
        self.told(f"register {offset:#x}")
        mask = (1 << self.width) - 1 << at - low
        return value & ~mask | self.number(self.default) << at - low & mask


def field(name, at, shift, width, default, bits=None):
    """Enters a lie about a field."""
    values = {"at": at, "shift": shift, "width": width, "default": default, "bits": bits}
    lie(name)(type(name, (Field,), values))


field("cap-mqes", CAP, 0, 16, 0)
# Up to 3.5 s: a controller that never gets ready is waited for several times.
field("cap-to", CAP, 24, 8, 0, bits=3)
field("cap-css", CAP, 37, 8, 0)
field("cap-mpsmin", CAP, 48, 4, 15)
field("vs", VS, 0, 32, 0)


class Stride(Field):
    """Doorbells are far apart."""

    at, shift, width, default = CAP, 32, 4, 15

    @property
    def doorbell_stride(self):
        """The logarithm of the distance."""
        return self.number(self.default)


lie("cap-dstrd")(Stride)
