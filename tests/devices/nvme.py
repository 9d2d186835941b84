# SPDX-License-Identifier: GPL-2.0
"""nvme: an NVMe controller that lies, comes late, and keeps every address that it was given.

    nvme_model/controller   registers and queues, and what the driver does with its memory
      admin, io             commands                       identity   structures of Identify
      pointers              PRPs and SGLs                  medium     the data
      queues                rings and their entries        maps       addresses that are mapped
      memory                DMA, and the end of mappings and of I/O
      mailbox               the guest's way to it: the next lie, and counters
      lies/                 dishonest answers, by name; without one it is a proper controller

Options:
"""

from nvme_model.controller import Controller
from vfio_user import Device, main


class Nvme(Controller, Device):
    """The controller as a device for vfio_user."""


if __name__ == "__main__":
    main(Nvme)
