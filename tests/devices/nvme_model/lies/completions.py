# SPDX-License-Identifier: GPL-2.0
"""Wrong completions."""

from dataclasses import replace

from .base import Lie, lie

TAGS, GENERATIONS = 1 << 12, 16
RETRY = 0x006  # Internal error; the command may be tried again.
# Messages for which a command is held whose completion is a lie: long enough for the driver to see it.
HELD = 60


class Entries(Lie):
    """Changes the completions of I/O commands."""

    def entries(self, command, entry):
        if command.sqid == 0 or not self.started() or not self.due():
            return [entry]
        entries = self.change(command, entry)
        self.told(f"{command}: {entries}")
        return entries

    def change(self, command, entry):
        """Returns the completions."""
        raise NotImplementedError

    def free(self, sqid):
        """Returns an identifier that no command in flight has: of a free tag, or of one that no queue has."""
        taken = {other.cid % TAGS for other in self.model.commands.values()}
        tags = [tag for tag in range(self.model.sqs[sqid].entries - 1) if tag not in taken]
        return self.random.choice(tags or [TAGS - 1]) | self.random.randrange(GENERATIONS) << 12


@lie("cid-wrong", rate=0.2)
class WrongCid(Entries):
    """Completes a command that is not in flight, and then the right one."""

    def change(self, command, entry):
        return [replace(entry, cid=self.free(command.sqid)), entry]


@lie("cid-instead", most=1)
class InsteadCid(Entries):
    """Completes a command that is not in flight, and the right one never."""

    def change(self, command, entry):
        return [replace(entry, cid=self.free(command.sqid))]


@lie("cid-range", rate=0.2)
class RangeCid(Entries):
    """Completes a tag that no queue has, and then the right one."""

    def change(self, command, entry):
        tag = self.random.randrange(self.model.sqs[command.sqid].entries - 1, TAGS)
        return [replace(entry, cid=tag | self.random.randrange(GENERATIONS) << 12), entry]


@lie("twice")
class Twice(Entries):
    """Completes each command twice."""

    def change(self, command, entry):
        return [entry, entry]


@lie("queue-wrong", rate=0.2)
class WrongQueue(Entries):
    """Completes a command in another I/O queue as well."""

    def change(self, command, entry):
        others = [qid for qid in self.model.cqs if qid not in (0, command.sqid)]
        return [replace(entry, queue=self.random.choice(others or [0])), entry]


@lie("queue-admin", rate=0.2)
class AdminQueue(Entries):
    """Completes a command in the admin queue as well."""

    def change(self, command, entry):
        return [replace(entry, queue=0), entry]


@lie("sqid")
class WrongSqid(Entries):
    """Names a wrong submission queue."""

    def change(self, command, entry):
        return [replace(entry, sqid=self.random.randrange(1 << 16))]


@lie("head")
class WrongHead(Entries):
    """Names a wrong head of the submission queue."""

    def change(self, command, entry):
        return [replace(entry, head=self.random.randrange(1 << 16))]


@lie("phase-never", most=1)
class NoPhase(Entries):
    """Writes an entry whose phase does not flip."""

    def change(self, command, entry):
        return [replace(entry, phase=self.model.cqs[command.sqid].phase ^ 1)]


@lie("phase-early", most=1)
class EarlyPhase(Entries):
    """Flips the phase of the next entry as well, and writes that entry later."""

    def change(self, command, entry):
        queue = self.model.cqs[command.sqid]
        if queue.tail + 1 < queue.entries and not queue.full():
            self.model.later(0, lambda: self.model.store(queue.place(), entry.pack(queue.phase)))
        return [entry]


@lie("status-garbage", rate=0.3)
class Garbage(Entries):
    """Reports any status."""

    def change(self, command, entry):
        return [replace(entry, status=self.random.randrange(1 << 15))]


@lie("status-retry", rate=0.1)
class Retry(Entries):
    """Reports an error after which the command may be tried again."""

    def change(self, command, entry):
        return [replace(entry, status=RETRY)]


@lie("result", rate=0.5)
class Result(Entries):
    """Reports any result of commands that have none."""

    def change(self, command, entry):
        return [replace(entry, result=self.random.randrange(1 << 32))]


@lie("storm", most=1)
class Storm(Entries):
    """Fills the whole ring, and goes on without regard to its head."""

    def change(self, command, entry):
        queue = self.model.cqs[command.sqid]
        return [replace(entry, cid=self.free(command.sqid)) for _ in range(queue.entries - 2)] + [entry]


@lie("cid-former", rate=0.3)
class Former(Lie):
    """Completes the command that had the tag before, while the one that has it is at work."""

    def tell(self, command):
        generation = (command.cid // TAGS - 1) % GENERATIONS
        cid = command.cid % TAGS | generation << 12
        self.told(f"{command}: {cid:#x}")
        status = self.model.io.resolve(command)
        self.model.complete_as(command, cid)
        self.model.resume(HELD, command, status)


@lie("cid-other", rate=0.3)
class Other(Lie):
    """Completes another command that is in flight, before its data."""

    held = None

    def tell(self, command):
        if self.held is None:
            self.held = command, self.model.io.resolve(command)
            return
        (other, status), self.held = self.held, None
        if other.sqid == command.sqid and self.model.is_in_flight(other):
            self.told(f"{command}: {other}")
            self.model.complete_as(other, other.cid)
            self.model.later(HELD, lambda: self.model.late(other))
        else:
            self.model.resume(0, other, status)
        self.honest(command)


@lie("never", most=2)
class Never(Lie):
    """Does nothing for a command, and never completes it."""

    def tell(self, command):
        self.model.io.resolve(command)
        self.told(f"{command}")


@lie("admin-cid", rate=1.0)
class AdminCid(Lie):
    """Completes another admin command, and then the right one."""

    def entries(self, command, entry):
        if command.sqid or not self.due():
            return [entry]
        self.told(f"{command}")
        return [replace(entry, cid=self.random.randrange(1 << 16)), entry]


@lie("admin-twice")
class AdminTwice(Lie):
    """Completes each admin command twice."""

    def entries(self, command, entry):
        if command.sqid == 0:
            self.told(f"{command}")
        return [entry] * (1 if command.sqid else 2)


@lie("admin-status", rate=0.3)
class AdminStatus(Lie):
    """Reports any status of admin commands."""

    def entries(self, command, entry):
        if command.sqid or not self.due():
            return [entry]
        self.told(f"{command}")
        return [replace(entry, status=self.random.randrange(1, 1 << 15))]


@lie("admin-result")
class AdminResult(Lie):
    """Reports any result of admin commands."""

    def entries(self, command, entry):
        if command.sqid:
            return [entry]
        self.told(f"{command}")
        return [replace(entry, result=self.random.randrange(1 << 32))]


@lie("admin-never", most=1)
class AdminNever(Lie):
    """Never completes admin command number N."""

    def run_admin(self, command):
        self.seen += 1
        if self.seen == self.number(1):
            self.told(f"{command}")
        else:
            super().run_admin(command)
