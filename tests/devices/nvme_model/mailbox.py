# SPDX-License-Identifier: GPL-2.0
"""The guest's way to the model: 28 bytes of a vendor-specific capability in configuration space.

Written to the first 4 bytes: words for Nvme.tell(), four bytes at a time, the last ones with a zero.
Written to the next 4 bytes: the number of a region of the medium of which all I/O has returned.
Read: numbers of 32 bits, at 4 times their place in COUNTERS.
"""

# Events since the last lie began, and I/O commands that are in flight now.
COUNTERS = ("ended after off", "told", "faults", "refused", "still mapped", "not translated", "in flight")


class Mailbox:
    """What the guest asks for, and what it is told."""

    def __init__(self, model):
        self.model, self.words = model, b""

    def read(self, offset):
        """Reads a counter."""
        name = COUNTERS[offset // 4 % len(COUNTERS)]
        if name == "in flight":
            return sum(1 for sqid, _ in self.model.commands if sqid)
        return self.model.events_of.get(name, 0)

    def write(self, offset, data):
        """Takes some of the words, and obeys when they are complete; or the number of a region."""
        if offset:
            self.model.returned(int.from_bytes(data, "little"))
            return
        self.words += data
        words, end, _ = self.words.partition(b"\0")
        if end:
            self.words = b""
            self.model.tell(words.decode())
