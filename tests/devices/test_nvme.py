# SPDX-License-Identifier: GPL-2.0
"""Tests of the NVMe model, without QEMU, and of the page about its lies."""

import os
import random
import re
import struct
import unittest

import judge
import lies_page
from nvme_model import controller, io, pointers
from nvme_model.lies import Unknown, make
from nvme_model.lies.base import LIES
from nvme_model.maps import Maps
from nvme_model.queues import Command
from vfio_user import Refused

HERE = os.path.dirname(os.path.abspath(__file__))


class Machine(controller.Controller):
    """A controller with memory of its own, and without messages: what is scheduled runs at once."""

    def __init__(self, lie="none", seed=1):
        self.memory, self.queued, self.lines = {}, [], []
        super().__init__({"size": str(1 << 20), "lie": lie}, seed, self.say)
        self.interrupts = 0

    def say(self, *words):
        self.lines.append(" ".join(map(str, words)))

    def dma_read(self, addr, size):
        if not all(self.maps.touches(at, 1) for at in range(addr, addr + size, 512)):
            raise Refused
        return bytes(self.memory.get(at, 0) for at in range(addr, addr + size))

    def dma_write(self, addr, data):
        if not all(self.maps.touches(at, 1) for at in range(addr, addr + len(data), 512)):
            raise Refused
        self.memory.update(enumerate(data, addr))

    def interrupt(self, vector=0):
        self.interrupts += 1

    def after(self, messages, function):
        self.queued.append(function)

    def run_queued(self):
        """Runs what is scheduled."""
        while self.queued:
            self.queued.pop(0)()


def entry(opcode, cid, pointer, words=()):
    """Returns a submission queue entry; words: from word 10 on."""
    data = struct.pack("<IIQQQQ", opcode | cid << 16, 1, 0, 0, *pointer)
    return (data + struct.pack(f"<{len(words)}I", *words)).ljust(64, b"\0")


SQ, CQ, BUFFER, IO_SQ, IO_CQ = 0x1000, 0x2000, 0x3000, 0x4000, 0x5000


class Driver:
    """A driver, as far as the tests need one: queue 1 of 8 entries, whose commands have a page each."""

    def __init__(self, machine):
        self.machine, self.tails = machine, [0, 0]
        machine.command(controller.MASTER)
        for addr in (SQ, CQ, BUFFER, IO_SQ, IO_CQ):
            machine.mapped(addr, 4096, 3)
        for register, value in ((controller.AQA, 0x70007), (controller.ASQ, SQ), (controller.ACQ, CQ)):
            machine.write(0, register, 8 if register != controller.AQA else 4, value)
        machine.write(0, controller.CC, 4, 0x460001)
        self.submit(0, entry(0x05, 1, (IO_CQ, 0), (7 << 16 | 1, 1 << 16 | 3)))
        self.submit(0, entry(0x01, 2, (IO_SQ, 0), (7 << 16 | 1, 1 << 16 | 1)))

    def submit(self, qid, command):
        """Submits a command, and lets the controller do all that it has to do."""
        base = (SQ, IO_SQ)[qid]
        self.machine.memory.update(enumerate(command, base + self.tails[qid] * 64))
        self.tails[qid] = (self.tails[qid] + 1) % 8
        self.machine.write(0, 0x1000 + 8 * qid, 4, self.tails[qid])
        self.machine.run_queued()

    def read(self, cid, lba=0):
        """Reads 8 blocks into the buffer."""
        self.submit(1, entry(0x02, cid, (BUFFER, 0), (lba, 0, 7)))


class Honest(unittest.TestCase):
    """The controller without a lie."""

    def test_read(self):
        machine = Machine()
        driver = Driver(machine)
        machine.medium.write(4096, b"x" * 4096)
        driver.read(5, 8)
        self.assertEqual(machine.dma_read(BUFFER, 4096), b"x" * 4096)
        result = struct.unpack("<IIHHHH", machine.dma_read(IO_CQ, 16))
        self.assertEqual(result, (0, 0, 1, 1, 5, 1))
        self.assertEqual(machine.faults, [])

    def test_block_range(self):
        machine = Machine()
        Driver(machine).read(5, 1 << 20)
        self.assertEqual(struct.unpack("<H", machine.dma_read(IO_CQ + 14, 2))[0] >> 1, 0x4080)


class Verdict(unittest.TestCase):
    """What a driver may not do."""

    def unmap(self, lie, *steps):
        """Returns the faults of a driver that unmaps the buffer of a held command after these steps."""
        machine = self.held(lie, *steps)
        machine.unmapped(BUFFER, 4096)
        return machine.faults

    def held(self, lie, *steps):
        """Returns the controller after a command that it may hold, and these steps."""
        machine = Machine(lie)
        driver = Driver(machine)
        for cid in range(controller.lies.Lie.grace + 1):
            driver.read(cid)
            machine.write(0, 0x100C, 4, (cid + 1) % 8)
        # Those before it, which have the same buffer.
        machine.done.clear()
        for step in steps:
            step(machine)
            machine.run_queued()
        return machine

    def test_in_flight(self):
        self.assertEqual(len(self.unmap("never")), 1)
        self.assertEqual(self.unmap("none"), [])

    def test_off(self):
        disable = lambda machine: machine.write(0, controller.CC, 4, 0x460000)
        see = lambda machine: machine.read(0, controller.CSTS, 4)
        stop = lambda machine: machine.command(0)
        self.assertEqual(len(self.unmap("never", disable)), 1)
        self.assertEqual(self.unmap("never", disable, see), [])
        self.assertEqual(self.unmap("never", stop), [])

    def test_returned(self):
        disable = lambda machine: machine.write(0, controller.CC, 4, 0x460000)
        see = lambda machine: machine.read(0, controller.CSTS, 4)
        back = lambda machine: machine.mail_write(4, 4, 0)
        other = lambda machine: machine.mail_write(4, 4, 1)
        for lie, faults, *steps in (
            ("never", 1, back),
            ("never", 0, other),
            ("never", 1, disable, back),
            ("never", 0, disable, see, back),
        ):
            machine = self.held(lie, *steps)
            self.assertEqual(len(machine.faults), faults, (lie, machine.faults))
        self.assertEqual(machine.events_of["ended after off"], 1)

    def test_still_mapped(self):
        back = lambda machine: machine.mail_write(4, 4, 0)
        unmap = lambda machine: machine.unmapped(BUFFER, 4096)
        again = lambda machine: machine.mapped(BUFFER, 4096, 3)
        for faults, *steps in ((1, back), (0, unmap, back), (0, unmap, again, back)):
            machine = Machine()
            Driver(machine).read(5)
            for step in steps:
                step(machine)
            self.assertEqual(len(machine.faults), faults, machine.faults)

    def test_ring(self):
        machine = Machine()
        Driver(machine)
        machine.unmapped(IO_CQ, 4096)
        self.assertEqual(len(machine.faults), 1)

    def test_accepted(self):
        machine = Machine()
        Driver(machine)
        # Whatever it says, all memory is mapped.
        machine.dma_write = lambda addr, data: None
        machine.late_access(0x100000, 512, bytes(512), 0)
        machine.run_queued()
        self.assertEqual(len(machine.faults), 1)
        machine.late_access(0x100000, 512, bytes(512), 0)
        machine.mapped(0x100000, 4096, 3)
        machine.unmapped(0x100000, 4096)
        machine.run_queued()
        self.assertEqual(len(machine.faults), 1)

    def test_reported_meanwhile(self):
        machine = Machine()
        Driver(machine)
        machine.dma_write = lambda addr, data: machine.mapped(addr, 4096, 3)
        machine.late_access(0x100000, 512, bytes(512), 0)
        machine.run_queued()
        self.assertEqual(machine.faults, [])

    def test_late_writes_are_refused(self):
        machine = Machine("held")
        driver = Driver(machine)
        for cid in range(controller.lies.Lie.grace + 1):
            driver.read(cid)
            machine.write(0, 0x100C, 4, (cid + 1) % 8)
        machine.write(0, controller.CC, 4, 0x460000)
        machine.run_queued()
        machine.read(0, controller.CSTS, 4)
        machine.unmapped(BUFFER, 4096)
        machine.run_queued()
        self.assertEqual((machine.events_of["refused"], machine.faults), (3, []))


class Lies(unittest.TestCase):
    """Lies by name."""

    def test_all_of_the_table(self):
        machine = Machine()
        for row in judge.rows(os.path.join(HERE, "nvme.lies")):
            self.assertEqual(make(machine, row.lie, 1).name, row.lie)

    def test_all_are_in_the_table(self):
        told = {row.lie.partition("=")[0] for row in judge.rows(os.path.join(HERE, "nvme.lies"))}
        self.assertEqual(set(LIES) - told - {"random", "admin-never"}, set())

    def test_unknown(self):
        for words in "truth", "never+truth":
            with self.assertRaises(Unknown):
                make(Machine(), words, 1)

    def test_several(self):
        several = make(Machine(), "cap-dstrd=2:1.0+never:0.5:3", 1)
        self.assertEqual(several.name, "cap-dstrd=2:1.0+never:0.5")
        self.assertEqual([(some.rate, some.most) for some in several.lies], [(1.0, None), (0.5, 3)])
        self.assertEqual(several.doorbell_stride, 2)

    def test_those_of_a_seed_by_their_names(self):
        for seed in range(300):
            words = make(Machine(), "random", seed).name.removeprefix("random, which is ")
            names = [some.name for some in make(Machine(), f"{words}+none", seed).lies]
            self.assertEqual("+".join(names[:-1]), re.sub(":[0-9.]+", "", words))

    def test_values_at_random(self):
        values = {}
        for seed in range(3000):
            for part in make(Machine(), "random", seed).lies:
                name, _, value = part.name.partition("=")
                values.setdefault(name, set()).add(value)
        self.assertEqual(set(LIES) - set(values), {"random"})
        for name in "ones", "cfs-read", "gone-read", "data-late", "cap-dstrd", "vs":
            self.assertGreater(len(values[name]), 5, name)
        self.assertLessEqual({"0x0", "0xffffffff"}, values["queues"])

    def test_kept_are_known(self):
        with open(os.path.join(HERE, "nvme.seeds"), encoding="utf-8") as file:
            kept = [line.split("#")[0].strip() for line in file if not line.startswith("#") and line.strip()]
        self.assertGreater(len(kept), 0)
        for words in kept:
            name, how, seed = words.split("@")
            self.assertEqual(make(Machine(), name, int(seed)).name, name)
            self.assertIn(how, lies_page.HOW)

    def test_a_refusal_names_what_is_wrong(self):
        for row in judge.rows(os.path.join(HERE, "nvme.lies")):
            self.assertTrue(row.data != "none" or row.line, row.lie)

    def decisions(self, seed):
        """Returns all that the controller logs of one run of random lies, and its memory after that."""
        machine = Machine("random", seed)
        machine.tell(f"random {seed}")
        driver = Driver(machine)
        for cid in range(40):
            driver.read(cid, cid)
            machine.read(0, controller.CSTS, 4)
            machine.write(0, 0x100C, 4, (cid + 1) % 8)
            if cid % 16 == 15:
                machine.write(0, controller.CC, 4, 0x460000)
                machine.run_queued()
                machine.read(0, controller.CSTS, 4)
                driver = Driver(machine)
        machine.summary()
        return machine.lines, machine.memory, machine.interrupts

    def test_a_seed_is_a_run(self):
        runs = [self.decisions(seed) for seed in range(40)]
        self.assertEqual(runs, [self.decisions(seed) for seed in range(40)])
        self.assertGreater(len({"\n".join(lines) for lines, _, _ in runs}), 38)
        # They say what was told, and when.
        self.assertGreater(sum("lie " in line and ": queue " in line for lines, _, _ in runs for line in lines), 100)


class Pointers(unittest.TestCase):
    """PRPs and SGLs."""

    def test_prp_list(self):
        pages = [0x10000 + 0x2000 * n for n in range(600)]
        lists = {0x1000: pages[1:512] + [0x9000], 0x9000: pages[512:]}
        load = lambda addr, size: struct.pack("<512Q", *lists[addr] + [0] * (512 - len(lists[addr])))[:size]
        command = Command(1, entry(2, 0, (pages[0] + 512, 0x1000)))
        self.assertEqual(
            pointers.prp(command, 599 * 4096 + 3584, load),
            [(pages[0] + 512, 3584)] + [(page, 4096) for page in pages[1:]],
        )

    def test_offsets(self):
        for pointer, size in (((3, 0), 512), ((0, 0x1001), 8192), ((0, 0x1001), 1 << 20)):
            with self.assertRaises(pointers.Invalid):
                pointers.prp(Command(1, entry(2, 0, pointer)), size, None)

    def test_maps(self):
        some, maps, truth = random.Random(1), Maps(), {}
        for report in range(300):
            first, count = some.randrange(100), some.randrange(1, 20)
            if some.randrange(2):
                maps.add(first, count)
                truth.update(dict.fromkeys(range(first, first + count), maps.reports))
            else:
                maps.remove(first, count)
                for at in range(first, first + count):
                    truth.pop(at, None)
            for at in range(120):
                self.assertEqual(maps.newest(at, 1), truth.get(at, 0), (report, at))


class LateData(unittest.TestCase):
    """Data of late accesses to memory that is written to the medium next."""

    def test_does_not_get_to_the_medium(self):
        honest = bytes(range(256)) * 2
        self.assertEqual(io.without_late(honest + io.LATE_SECTOR + honest), honest + bytes(512) + honest)
        self.assertEqual(io.without_late(honest), honest)


class Splats(unittest.TestCase):
    """Lines of the kernel that no lie may cause."""

    def is_splat(self, line):
        """Returns whether a line is one."""
        return bool(judge.pattern(os.path.join(HERE, "../../scripts/configs/splats")).search(line))

    def test_refusals_of_the_model_are_none(self):
        for line in (
            "DMAR: [DMA Write NO_PASID] Request device [00:10.0] fault addr 0x1000",
            "rust_nvme 0000:00:10.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0000 address=0x0 flags=0x0009]",
            "AMD-Vi: Event logged [IO_PAGE_FAULT device=0000:00:10.0 domain=0x0000 address=0x0 flags=0x0009]",
        ):
            self.assertFalse(self.is_splat(line), line)

    def test_those_of_others_are(self):
        for line in (
            "DMAR: [DMA Write NO_PASID] Request device [00:02.0] fault addr 0x1000",
            "rust_nvme 0000:00:02.0: AMD-Vi: Event logged [IO_PAGE_FAULT domain=0x0000 address=0x0 flags=0x0009]",
            "WARNING: drivers/iommu/dma-iommu.c:1 at iommu_dma_unmap_phys",
        ):
            self.assertTrue(self.is_splat(line), line)


class Page(unittest.TestCase):
    """Documentation/nvme_lies.rst."""

    def test_is_what_the_results_say(self):
        with open(os.path.join(HERE, "../../Documentation/nvme_lies.rst"), encoding="utf-8") as file:
            self.assertEqual(file.read(), lies_page.page())

    def test_all_were_tried(self):
        for row in judge.rows(os.path.join(HERE, "nvme.lies")):
            self.assertIn(f"{row.lie}@{row.how}", lies_page.results("nvme.rust_nvme"))
