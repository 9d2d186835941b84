# SPDX-License-Identifier: GPL-2.0
"""Data that comes too late, or to the wrong place."""

from vfio_user import Refused

from .. import pointers
from ..io import READ
from .base import Lie, lie

# Messages after which a command that the driver has given up is done: at once, soon, late.
LATE = (0, 40, 400)
# Tries for memory that stays mapped for the device, as that of a registered buffer does, and messages
# between two of them: until it is unmapped, or nobody will.
TRIES, PAUSE = 400, 100


@lie("data-late", rate=0.5)
class Late(Lie):
    """Completes a command first, and moves its data N messages later."""

    @classmethod
    def pick(cls, rng):
        return str(rng.randrange(LATE[-1]))

    def tell(self, command):
        if self.model.io.resolve(command) or not command.ranges:
            self.honest(command)
            return
        self.told(f"{command}")
        self.model.complete_as(command, command.cid)
        self.model.later(self.number(50), lambda: self.model.late(command))


@lie("data-never", rate=0.3)
class NoData(Lie):
    """Completes a command and moves no data."""

    def tell(self, command):
        status = self.model.io.resolve(command)
        self.told(f"{command}")
        self.model.finish(command, status)


@lie("prp-again", rate=0.5)
class Again(Lie):
    """Reads the list of a command again after its completion, and writes to what is there by then."""

    @classmethod
    def pick(cls, rng):
        return str(rng.randrange(LATE[-1]))

    def identify(self, cns, nsid, page):
        if cns == 1:
            page[536:540] = bytes(4)

    def tell(self, command):
        self.honest(command)
        if command.opcode == READ and command.descriptors:
            self.told(f"{command}")
            self.model.later(self.number(40), lambda: self.again(command))

    def again(self, command):
        """Moves the data once more, by the list as it is now."""
        size = self.model.io.size(command)
        try:
            pointers.resolve(command, size, self.model.dma_read)
            self.model.io.scatter(command.ranges, bytes(size), self.model.dma_write)
        except (Refused, pointers.Invalid):
            self.model.count("refused")


@lie("prp-former", rate=0.5)
class FormerList(Lie):
    """Writes the data of a command to the memory of the one before as well."""

    def tell(self, command):
        past = [other for other in self.model.past if other.ranges]
        self.honest(command)
        if past:
            self.told(f"{command} to that of {past[-1]}")
            past[-1].opcode = READ
            self.model.late(past[-1])


@lie("past-all", rate=0.1)
class Past(Lie):
    """Writes to the memory of every former command."""

    def tell(self, command):
        self.honest(command)
        for other in [other for other in self.model.past if other.ranges]:
            self.told(f"{other}")
            self.model.late(other)


# One for each thread of the load: more would take another timeout.
@lie("held", most=4)
class Held(Lie):
    """Holds commands, and moves their data after the driver has given them up."""

    def tell(self, command):
        self.model.io.resolve(command)
        self.told(f"{command}")

    def off(self, commands):
        commands = [command for command in commands if command.ranges]
        self.model.log(f"order: {len(commands)} commands are moved late, now that the driver knows it is off")
        for messages in LATE[:-1]:
            self.model.later(messages, lambda: [self.model.late(command) for command in commands])
        self.model.later(LATE[-1], lambda: self.again(commands, TRIES))

    def again(self, commands, tries):
        """Moves their data, and that of those that were still mapped again, until they are not."""
        commands = [command for command in commands if self.model.late(command)]
        if commands and tries and self.model.lie is self:
            self.model.later(PAUSE, lambda: self.again(commands, tries - 1))
