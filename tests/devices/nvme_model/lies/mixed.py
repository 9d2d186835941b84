# SPDX-License-Identifier: GPL-2.0
"""Several lies at once, chosen by the seed."""

from ..identity import FIELDS
from . import fields
from .base import LIES, Lie, lie

# For a long run: what ends the life of the controller at once is rarely chosen, as it hides others.
RARE = ("admin-never", "rdy-never", "gone-read", "identify-ones", "identify-random", "identify-zeroes", "ones")


class Several(Lie):
    """For each occasion one of some lies, each with a rate of its own."""

    def __init__(self, model, lies, rng):
        super().__init__(model, "+".join(f"{some.name}:{some.rate}" for some in lies), "", rng)
        self.lies = lies
        self.hurts_itself = any(some.hurts_itself for some in lies)
        self.doorbell_stride = max(some.doorbell_stride for some in lies)
        self.longest = max((some.longest or 0 for some in lies), default=0) or None

    def one_of(self, occasion):
        """Returns the function for an occasion of one of the lies that have something to say."""
        honest = getattr(Lie, occasion)
        able = [some for some in self.lies if getattr(type(some), occasion) is not honest]
        return getattr(self.random.choice(able or self.lies), occasion)

    def register(self, offset, size, value):
        for some in self.lies:
            value = some.register(offset, size, value)
        return value

    def gets_ready(self):
        return all(some.gets_ready() for some in self.lies)

    def stops(self):
        return all(some.stops() for some in self.lies)

    def shuts_down(self):
        return all(some.shuts_down() for some in self.lies)

    def identify(self, cns, nsid, page):
        for some in self.lies:
            some.identify(cns, nsid, page)

    def queues(self, value):
        return self.one_of("queues")(value)

    def run_admin(self, command):
        self.one_of("run_admin")(command)

    def run(self, command):
        # Both ways in which a lie takes part in a command.
        able = [some for some in self.lies if type(some).tell is not Lie.tell or type(some).run is not Lie.run]
        self.random.choice(able or self.lies).run(command)

    def entries(self, command, entry):
        return self.one_of("entries")(command, entry)

    def interrupt(self, vector):
        self.one_of("interrupt")(vector)

    def off(self, commands):
        for some in self.lies:
            some.off(commands)


@lie("random")
class Random(Several):
    """Some lies of all, chosen by the seed, with values and rates of its choice."""

    def __init__(self, model, _name, _value, rng):
        super().__init__(model, chosen(model, rng), rng)
        self.name = f"random, which is {self.name}"


def chosen(model, rng):
    """Returns some lies."""
    names = [name for name in LIES if name != "random"]
    weights = [1 if name in RARE else 10 for name in names]
    lies = [with_value(model, name, rng) for name in rng.choices(names, weights, k=rng.choice((1, 1, 2, 3)))]
    if rng.random() < 0.3:
        field = rng.choice(list(FIELDS))
        value = rng.choice((0, 1, 255, 65535, (1 << 32) - 1, (1 << 64) - 1, rng.randrange(1 << 64)))
        lies.append(fields.Field(model, f"{field}={value}", str(value), rng))
    for some in lies:
        some.rate = rng.choice((0.02, 0.1, 0.5, some.rate))
    return lies


def with_value(model, name, rng):
    """Returns a lie with any value, if it has one."""
    value = LIES[name].pick(rng)
    return LIES[name](model, f"{name}={value}" if value else name, value, rng)
