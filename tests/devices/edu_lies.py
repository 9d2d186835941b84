# SPDX-License-Identifier: GPL-2.0
"""Dishonest answers of the edu model, some of all, chosen by a seed; seed 0 is the honest device."""

import random

# Messages after which late data moves.
LATE = 60
ALL_ONES = 0xFFFFFFFF
COMMAND, START = 0x98, 1
# Identity, state of the interrupt, the count and the command.
OTHERS = (0x00, 0x24, 0x90, COMMAND)


class Honest:
    """Answers as the device does; each lie replaces something of it."""

    def __init__(self, edu, rng, rate):
        self.edu, self.random, self.rate = edu, rng, rate

    def due(self, what):
        """Returns whether to tell it now, and notes it."""
        if self.random.random() >= self.rate:
            return False
        self.edu.log(f"lie {type(self).__name__}: {what}")
        return True

    def register(self, _offset, value):
        """Returns what the driver reads."""
        return value

    def carry_out(self):
        """Carries out the command."""
        self.edu.carry_out()

    def interrupt(self):
        """Sends an interrupt."""
        self.edu.interrupt()


class Never(Honest):
    """Does not carry out a command."""

    def carry_out(self):
        if not self.due("a command"):
            super().carry_out()


class Early(Honest):
    """Reports a command as done, and moves its data later."""

    def carry_out(self):
        running = self.edu.running
        if running is None or not self.due(hex(running[1])):
            super().carry_out()
            return
        self.edu.finish(running[0])
        self.edu.after(LATE, lambda: self.edu.move_late(running))


class Twice(Honest):
    """Moves the data of a command once more, later."""

    def carry_out(self):
        running = self.edu.running
        super().carry_out()
        if running is not None and self.due(hex(running[1])):
            self.edu.after(LATE, lambda: self.edu.move_late(running))


class Former(Honest):
    """Accesses all addresses that it ever had, beside what it should do."""

    def carry_out(self):
        if self.due(f"{len(self.edu.old)} addresses"):
            for old in list(self.edu.old.values()):
                if old.gone:
                    self.edu.attempt(self.edu.place(old), self.random.random() < 0.5, "by a lie")
        super().carry_out()


class Ones(Honest):
    """Reads of registers return all ones."""

    def register(self, offset, value):
        return ALL_ONES if self.due(hex(offset)) else value


class Garbage(Honest):
    """Reads of registers return anything."""

    def register(self, offset, value):
        return self.random.getrandbits(32) if offset in OTHERS and self.due(hex(offset)) else value


class Busy(Honest):
    """The command reads as not done."""

    def register(self, offset, value):
        return value | START if offset == COMMAND and self.due("start is set") else value


class Idle(Honest):
    """The command reads as done."""

    def register(self, offset, value):
        return value & ~START if offset == COMMAND and self.due("start is clear") else value


class Silent(Honest):
    """Sends no interrupt."""

    def interrupt(self):
        if not self.due("no interrupt"):
            super().interrupt()


class Storm(Honest):
    """Sends interrupts without cause, at each access to a register."""

    def register(self, offset, value):
        if self.due("interrupts"):
            for _ in range(5):
                self.edu.interrupt()
        return value


LIES = (Never, Early, Twice, Former, Ones, Garbage, Busy, Idle, Silent, Storm)


class Mixed(Honest):
    """For each occasion one of some lies, each with a rate of its own."""

    def __init__(self, edu, seed):
        rng = random.Random(f"edu {seed}")
        super().__init__(edu, rng, 1)
        kinds = rng.sample(LIES, rng.choice((1, 1, 2, 3)))
        self.lies = [kind(edu, rng, rng.choice((0.02, 0.1, 0.5, 1))) for kind in kinds]
        self.name = " ".join(f"{type(lie).__name__}:{lie.rate}" for lie in self.lies)

    def one_of(self, occasion):
        """Returns the function for an occasion of one of those that have something to say."""
        honest = getattr(Honest, occasion)
        able = [lie for lie in self.lies if getattr(type(lie), occasion) is not honest]
        return getattr(self.random.choice(able or self.lies), occasion)

    def register(self, offset, value):
        for lie in self.lies:
            value = lie.register(offset, value)
        return value

    def carry_out(self):
        self.one_of("carry_out")()

    def interrupt(self):
        self.one_of("interrupt")()


def make(edu, seed):
    """Returns the lies of this seed, none for 0, and their names."""
    if seed == 0:
        return Honest(edu, None, 0), "none"
    mixed = Mixed(edu, seed)
    return mixed, mixed.name
