# SPDX-License-Identifier: GPL-2.0
"""Interrupts without cause, and none."""

from .base import Lie, lie


# Each of them takes a timeout.
@lie("msix-never", most=4)
class Never(Lie):
    """Sends no interrupts of I/O queues for a while."""

    def interrupt(self, vector):
        if vector and self.seen > self.grace and self.due():
            self.told(f"vector {vector}")
        else:
            super().interrupt(vector)

    def tell(self, command):
        self.honest(command)


@lie("msix-some", rate=0.1, most=3)
class Some(Lie):
    """Leaves out some interrupts of I/O queues."""

    def interrupt(self, vector):
        if vector and self.seen > self.grace and self.due():
            self.told(f"vector {vector}")
        else:
            super().interrupt(vector)


@lie("msix-storm")
class Storm(Lie):
    """Sends every interrupt many times, whatever happens."""

    def interrupt(self, _vector):
        self.told("all vectors")
        for _ in range(self.number(20)):
            for vector in range(self.model.vectors):
                self.model.interrupt(vector)


@lie("msix-wrong", most=3)
class Wrong(Lie):
    """Sends the interrupt of another queue."""

    def interrupt(self, vector):
        if vector and self.seen > self.grace and self.due():
            self.told(f"vector {vector}")
            vector = (vector + 1) % self.model.vectors
        super().interrupt(vector)
