# SPDX-License-Identifier: GPL-2.0
"""The guest's way to the model: 28 bytes of a vendor-specific capability in configuration space.

Written to the first 4 bytes: words for Nvme.tell(), four bytes at a time, the last ones with a zero.
Read: numbers of 32 bits, at 4 times their place in COUNTERS.
"""

# Number of words obeyed, and events since then; I/O commands in flight, and fetched.
COUNTERS = ("obeyed", "told", "faults", "refused", "still mapped", "mapped again", "in flight")


class Mailbox:
    """What the guest asks for, and what it is told."""

    def __init__(self, model):
        self.model, self.words, self.obeyed = model, b"", 0

    def read(self, offset):
        """Reads a counter."""
        name = COUNTERS[offset // 4 % len(COUNTERS)]
        if name == "obeyed":
            return self.obeyed
        if name == "in flight":
            return sum(1 for sqid, _ in self.model.commands if sqid)
        return self.model.events_of.get(name, 0)

    def write(self, offset, data):
        """Takes some of the words; obeys when they are complete."""
        if offset:
            return
        self.words += data
        words, end, _ = self.words.partition(b"\0")
        if end:
            self.words = b""
            self.obeyed += 1
            self.model.tell(words.decode())
