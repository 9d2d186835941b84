# SPDX-License-Identifier: GPL-2.0
"""Lies by name: NAME[=VALUE][:RATE[:MOST]], or several of them, joined by "+".

RATE is the share of the occasions on which a lie is told, MOST the number of times. "none" is the honest
controller, "random" some of all, chosen by the seed.
"""

import random

from . import completions, data, fields, interrupts, mixed, registers  # pylint: disable=unused-import
from .base import LIES, Lie


class Unknown(Exception):
    """There is no lie of this name."""


def make(model, words, seed):
    """Returns the lie of this name."""
    rng = random.Random(f"{words} {seed}")
    lies = [single(model, part, rng) for part in words.split("+")]
    return lies[0] if len(lies) == 1 else mixed.Several(model, lies, rng)


def single(model, words, rng):
    """Returns one lie."""
    words, *numbers = words.split(":")
    name, _, value = words.partition("=")
    kind = Lie if name == "none" else LIES.get(name) or fields.find(name)
    if kind is None:
        raise Unknown(f"no such lie: {name}; there are: none {' '.join(sorted(LIES))} {' '.join(fields.names())}")
    lie = kind(model, words, value, rng)
    if numbers:
        lie.rate = float(numbers[0])
    if len(numbers) > 1:
        lie.most = int(numbers[1])
    return lie
