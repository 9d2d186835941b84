# SPDX-License-Identifier: GPL-2.0
"""The honest controller, of which each lie replaces something."""

LIES = {}


def lie(name, rate=1.0, most=None):
    """Enters a class in the table of lies, with its rate and the number of times it is told."""

    def enter(kind):
        LIES[name] = type(kind.__name__, (kind,), {"rate": rate, "most": most, "__doc__": kind.__doc__})
        return kind

    return enter


class Lie:
    """Answers as a proper controller does."""

    rate, most = 1.0, None
    # I/O commands that are honest after the lie has begun, so that the disk comes up.
    grace = 12
    # DMA of commands in flight may be refused through no fault of the driver.
    hurts_itself = False
    doorbell_stride = 0
    # The longest transfer, where it is not that of the settings.
    longest = None

    def __init__(self, model, name, value, rng):
        self.model, self.name, self.value, self.random = model, name, value, rng
        self.times = self.seen = 0

    @classmethod
    def pick(cls, _rng):
        """Returns a value for lies at random, nothing for the default."""
        return ""

    def number(self, default):
        """Returns the value of the lie."""
        return int(self.value, 0) if self.value else default

    def due(self):
        """Returns whether this is the occasion for a lie."""
        if self.most is not None and self.times >= self.most:
            return False
        return self.random.random() < self.rate

    def told(self, what):
        """Notes that the lie was told."""
        self.times += 1
        self.model.count("told")
        if self.times <= 20:
            self.model.log(f"lie {self.name}: {what}")

    def started(self):
        """Counts an I/O command. Returns whether the lie may be told now."""
        self.seen += 1
        return self.seen > self.grace

    # Occasions

    def register(self, _offset, _size, value):
        """Returns what the driver reads from a register."""
        return value

    def gets_ready(self):
        """Returns whether CSTS.RDY=1 follows CC.EN=1."""
        return True

    def stops(self):
        """Returns whether CSTS.RDY=0 follows CC.EN=0."""
        return True

    def shuts_down(self):
        """Returns whether CSTS.SHST follows CC.SHN."""
        return True

    def identify(self, cns, nsid, page):
        """Changes what Identify returns."""

    def queues(self, value):
        """Returns the number of queues that is granted."""
        return value

    def run_admin(self, command):
        """Runs an admin command."""
        self.model.admin.run(command)

    def run(self, command):
        """Runs an I/O command."""
        if self.started() and self.due():
            self.tell(command)
        else:
            self.honest(command)

    def tell(self, command):
        """Runs an I/O command for which the lie is due."""
        self.honest(command)

    def honest(self, command):
        """Runs an I/O command as a proper controller."""
        self.model.io.run(command)

    def entries(self, _command, entry):
        """Returns the completions of a command."""
        return [entry]

    def interrupt(self, vector):
        """Sends an interrupt."""
        self.model.interrupt(vector)

    def off(self, commands):
        """The driver has turned the controller off while these commands were in flight."""
