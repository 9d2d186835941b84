# SPDX-License-Identifier: GPL-2.0
"""The edu model and the protocol, on a machine that can be wrong: python3 -m unittest, in this folder."""

import os
import select
import socket
import struct
import threading
import unittest

import edu
import vfio_user
from vfio_user import ERROR, HEADER, REPLY

BASE, SIZE = 0x10000, 0x3000


class Machine:
    """QEMU, an IOMMU and a driver."""

    def __init__(self, *options, seed=1):
        ours, theirs = socket.socketpair()
        self.socket, self.requests, self.number = ours, [], 0
        self.possible = set()  # pages that the device can reach
        self.lines = []
        self.device = edu.Edu(dict.fromkeys(options, "1"), seed, self.say)
        server = vfio_user.Server(self.device, theirs)
        self.thread = threading.Thread(target=server.run)
        self.thread.start()
        self.config(vfio_user.COMMAND, 7, 2)

    def say(self, *words):
        self.lines.append(" ".join(map(str, words)))

    def exactly(self, size):
        data = b""
        while len(data) < size:
            data += self.socket.recv(size - len(data))
        return data

    def message(self):
        number, command, size, flags, _ = HEADER.unpack(self.exactly(HEADER.size))
        return number, command, flags, self.exactly(size - HEADER.size)

    def call(self, command, data):
        """As QEMU does: nothing is translated while it waits."""
        self.number += 1
        self.socket.sendall(HEADER.pack(self.number, command, HEADER.size + len(data), 0, 0) + data)
        while True:
            number, answered, flags, answer = self.message()
            if flags & 0xF == REPLY:
                self.check_order(number)
                return answer
            self.requests.append((number, answered, answer))

    def check_order(self, number):
        if number != self.number:
            raise AssertionError(f"an answer to {number}, not to {self.number}")

    def translate(self):
        """Answers the device's requests until it has nothing to do, however slow it is."""
        server = self.device.server
        while True:
            # Read in this order: what is scheduled is taken out after it works.
            done = not server.scheduled and not server.working
            if self.requests:
                self.answer(*self.requests.pop(0))
            elif select.select([self.socket], [], [], 0.001)[0]:
                number, command, _, data = self.message()
                self.requests.append((number, command, data))
            elif done:
                return

    def answer(self, number, command, data):
        addr, size = struct.unpack_from("<QQ", data)
        reached = all(page in self.possible for page in range(addr >> 12, (addr + size + 4095) >> 12))
        out = data[:16] + (b"\0" * size if command == vfio_user.DMA_READ else b"")
        flags, error = (REPLY, 0) if reached else (REPLY | ERROR, 14)
        self.socket.sendall(HEADER.pack(number, command, HEADER.size + len(out), flags, error) + out)

    def region(self, region, offset, value, size):
        data = struct.pack("<QII", offset, region, size) + value.to_bytes(size, "little")
        self.call(vfio_user.REGION_WRITE, data)

    def config(self, offset, value, size=4):
        self.region(vfio_user.CONFIG_REGION, offset, value, size)

    def result(self):
        data = struct.pack("<QII", 0x6C, vfio_user.CONFIG_REGION, 4)
        return struct.unpack_from("<I", self.call(vfio_user.REGION_READ, data), 16)[0]

    def map(self):
        self.possible.update(range(BASE >> 12, (BASE + SIZE) >> 12))
        self.call(vfio_user.DMA_MAP, struct.pack("<IIQQQ", 32, 3, 0, BASE, SIZE))

    def unmap(self):
        self.call(vfio_user.DMA_UNMAP, struct.pack("<IIQQ", 24, 0, BASE, SIZE))

    def copy(self):
        """Has the device read what is mapped."""
        for register, value in (edu.SOURCE, BASE + 8), (edu.DESTINATION, edu.BUFFER_ADDR), (edu.COUNT, 64):
            self.region(0, register, value, 8)
        self.region(0, edu.COMMAND, edu.START, 8)
        self.translate()

    def mail(self, command):
        self.config(0x68, command)
        self.translate()
        return self.result()

    def end(self):
        self.socket.close()
        self.thread.join()
        self.device.server.connection.close()
        return self.device.verdict()


class EduTest(unittest.TestCase):
    def run_machine(self, *options, unmaps=True, reports=True, seed=1):
        machine = Machine(*options, seed=seed)
        machine.map()
        machine.copy()
        if unmaps:
            machine.possible.clear()
        if reports:
            machine.unmap()
        return machine

    def test_an_honest_machine_has_no_fault(self):
        machine = self.run_machine()
        self.assertEqual(machine.mail(edu.OVER), 0)
        self.assertEqual(machine.end(), [])
        self.assertGreaterEqual(machine.device.refused, 5)
        self.assertEqual(machine.device.accepted, 0)
        self.assertEqual(machine.device.outlived, 0)
        self.assertEqual(machine.device.commands, 1)

    def test_a_missing_flush_is_a_fault(self):
        machine = self.run_machine(unmaps=False)
        self.assertGreater(machine.mail(edu.OVER), 0)
        self.assertIn("possible where nothing is mapped", machine.end()[0])

    def test_without_the_mailbox_it_is_found_as_well(self):
        machine = self.run_machine(unmaps=False)
        machine.translate()
        for _ in range(2 * edu.GRACE):
            machine.region(0, edu.LIVENESS, 0, 4)
        machine.translate()
        self.assertIn("after its unmap", machine.end()[0])

    def test_a_flush_that_is_reported_early_is_none(self):
        machine = self.run_machine(unmaps=False)
        machine.translate()
        machine.possible.clear()
        for _ in range(2 * edu.GRACE):
            machine.region(0, edu.LIVENESS, 0, 4)
        machine.translate()
        self.assertEqual(machine.end(), [])
        self.assertGreater(machine.device.early, 0)

    def test_what_stays_mapped_is_a_fault(self):
        machine = self.run_machine(unmaps=False, reports=False)
        self.assertGreater(machine.mail(edu.OVER), 0)
        self.assertIn("possible though its mapping has ended", machine.end()[0])
        self.assertGreater(machine.device.accepted, 0)

    def test_a_late_flush_is_counted(self):
        machine = self.run_machine("lazy", unmaps=False, reports=False)
        self.assertEqual(machine.mail(edu.OVER), 0)
        self.assertGreater(machine.device.window, 0)
        self.assertFalse([line for line in machine.lines if "possible: write to" in line])
        machine.possible.clear()
        machine.unmap()
        self.assertEqual(machine.mail(edu.ALL_OVER), 0)
        self.assertEqual(machine.end(), [])
        # From the command that says so on: its result is read, and then the unmap is reported.
        self.assertEqual(machine.device.outlived, 2)
        self.assertIn("2 after the driver's unmap", machine.device.counts())

    def test_without_reports_the_mailbox_decides(self):
        machine = Machine()
        machine.possible.update(range(BASE >> 12, (BASE + SIZE) >> 12))
        machine.copy()
        machine.unmap()
        for _ in range(2 * edu.GRACE):
            machine.region(0, edu.LIVENESS, 0, 4)
        machine.translate()
        self.assertEqual(machine.device.faults, [])
        self.assertGreater(machine.mail(edu.OVER), 0)
        self.assertEqual(len(machine.end()), 1)

    def test_mapped_again_is_no_fault(self):
        machine = self.run_machine(unmaps=False)
        # The try was possible, the new mapping is reported after it.
        machine.translate()
        machine.map()
        for _ in range(2 * edu.GRACE):
            machine.region(0, edu.LIVENESS, 0, 4)
        machine.translate()
        self.assertEqual(machine.end(), [])
        self.assertGreater(machine.device.again, 0)

    def test_mapped_again_without_an_end_is_a_fault(self):
        machine = self.run_machine(reports=False)
        machine.map()
        self.assertIn("the end of its last mapping was not reported", machine.end()[0])

    def held(self, command_register):
        machine = Machine()
        machine.map()
        machine.mail(edu.HOLD)
        machine.copy()
        machine.config(vfio_user.COMMAND, command_register, 2)
        machine.possible.clear()
        machine.unmap()
        machine.translate()
        return machine

    def test_unmapped_under_a_command_is_a_fault(self):
        self.assertIn("while the device had a command", self.held(7).end()[0])

    def test_unmapped_without_bus_mastering_is_none(self):
        machine = self.held(3)
        self.assertEqual(machine.mail(edu.CARRY_OUT), 0)
        self.assertEqual(machine.end(), [])

    def test_a_late_command_that_reaches_memory_is_a_fault(self):
        machine = self.held(3)
        machine.possible.update(range(BASE >> 12, (BASE + SIZE) >> 12))
        self.assertEqual(machine.mail(edu.CARRY_OUT), 1)
        self.assertIn("late command", machine.end()[0])

    def test_too_few_tries_are_a_fault(self):
        machine = Machine()
        machine.device.least = 1
        self.assertIn("fewer than 1", machine.end()[0])

    def test_the_same_seed_is_the_same_run(self):
        def lines(seed):
            machine = self.run_machine(unmaps=False, seed=seed)
            machine.mail(edu.OVER)
            machine.end()
            return machine.lines

        self.assertEqual(lines(5), lines(5))
        self.assertNotEqual(lines(5), lines(6))

    def test_lies_of_a_seed_are_a_run(self):
        def lines(seed):
            machine = Machine()
            machine.map()
            machine.config(0x70, seed)
            machine.config(0x74, 0)
            machine.mail(edu.LIE)
            for _ in range(6):
                machine.copy()
                machine.mail(edu.FORGET)
            machine.end()
            return machine.lines

        runs = [lines(seed) for seed in range(20)]
        self.assertEqual(runs, [lines(seed) for seed in range(20)])
        self.assertGreater(len(set(map(str, runs))), 15)
        self.assertGreater(sum(line.startswith("lie ") for run in runs for line in run), 15)

    def test_kept_seeds_are_the_lies_that_found_a_fault(self):
        here = os.path.dirname(os.path.abspath(__file__))
        with open(os.path.join(here, "edu.seeds"), encoding="utf-8") as file:
            kept = [line.split("#") for line in file if line[0].isdigit()]
        self.assertGreater(len(kept), 0)
        for seed, names, _ in kept:
            self.assertEqual(edu.edu_lies.make(None, int(seed))[1], names.strip())

    def test_dma_within_a_message_is_an_error(self):
        machine = Machine()
        machine.device.server.in_message = True
        with self.assertRaises(RuntimeError):
            machine.device.dma_read(BASE, 1)
        machine.device.server.in_message = False
        machine.end()


class RangesTest(unittest.TestCase):
    def test_parts_of_a_range(self):
        ranges = edu.Ranges()
        ranges.add(0x1000, 0x9000, 3)
        ranges.remove(0x3000, 0x1000)
        ranges.add(0x3800, 0x1000, 1)
        found = [ranges.find(addr) for addr in (0xFFF, 0x1000, 0x2FFF, 0x3000, 0x3800, 0x47FF, 0x4800, 0x9FFF, 0xA000)]
        self.assertEqual(found, [None, 0x1000, 0x1000, None, 0x3800, 0x3800, 0x4800, 0x4800, None])
        ranges.remove(0, 1 << 64)
        self.assertEqual((ranges.starts, ranges.ranges), ([], {}))


if __name__ == "__main__":
    os.chdir(os.path.dirname(os.path.abspath(__file__)))
    unittest.main()
