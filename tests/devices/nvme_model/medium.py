# SPDX-License-Identifier: GPL-2.0
"""The medium: a file with the data of the namespace."""

import ctypes
import os

KEEP_SIZE, PUNCH_HOLE = 1, 2


class Medium:
    """A raw image. Without a path it is a file that nobody else sees."""

    def __init__(self, path, size):
        if path:
            self.file = os.open(path, os.O_RDWR)
            self.size = os.fstat(self.file).st_size
        else:
            self.file = os.memfd_create("nvme")
            os.ftruncate(self.file, size)
            self.size = size
        self.fallocate = ctypes.CDLL(None, use_errno=True).fallocate
        self.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]

    def read(self, at, size):
        """Reads size bytes."""
        data = os.pread(self.file, size, at)
        return data + bytes(size - len(data))

    def write(self, at, data):
        """Writes data."""
        while data:
            done = os.pwrite(self.file, data, at)
            at, data = at + done, data[done:]

    def zero(self, at, size):
        """Makes size bytes read as zeroes."""
        if size and self.fallocate(self.file, KEEP_SIZE | PUNCH_HOLE, at, size):
            raise OSError(ctypes.get_errno(), "fallocate")
