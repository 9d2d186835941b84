# SPDX-License-Identifier: GPL-2.0
"""The function of an instruction of the guest's kernel, and its object file or module."""

import bisect
import glob
import os
import subprocess


def llvm(tool, *args):
    return subprocess.run(["llvm-" + tool, *args], check=True, capture_output=True, text=True).stdout


class Symbols:
    """Functions by address: of the kernel in a folder, and of modules where they were loaded."""

    def __init__(self, kdir, modules):
        self.kdir = kdir
        self.modules = modules
        self.kernel = self.of_kernel()  # (address, function, object file)
        self.files = {}  # of a module, its (section, offset, function)
        self.table = []

    def of_kernel(self):
        owners = {}
        for name, path in self.objects():
            owners.setdefault(name, set()).add(path)
        found, last = [], ""
        with open(os.path.join(self.kdir, "System.map")) as lines:
            for line in lines:
                address, kind, name = line.split()
                if kind not in "tTwW":
                    continue
                paths = owners.get(name, set())
                # Functions with the same name are identified by their neighbours: the linker
                # keeps the functions of a file together.
                if len(paths) == 1:
                    last = next(iter(paths))
                elif paths and last not in paths:
                    last = min(paths)
                found.append((int(address, 16), name, last if paths else ""))
        return sorted(found)

    def objects(self):
        """The functions of each object file that the kernel was linked from."""
        listing = llvm("nm", "--defined-only", "--print-file-name",
                       os.path.join(self.kdir, "vmlinux.a"))
        for line in listing.splitlines():
            where, rest = line.split(": ", 1)
            fields = rest.split()
            if len(fields) == 3 and fields[1] in "tTwW":
                yield fields[2], where.split(":")[-1].replace(self.kdir + "/", "")

    def of_module(self, name):
        if name not in self.files:
            path, = (path for file in {name + ".ko", name.replace("_", "-") + ".ko"}
                     for folder in (self.modules, self.kdir + "/installed/lib/modules/*/kernel")
                     for path in glob.glob(f"{folder}/**/{file}", recursive=True))
            self.files[name] = []
            for line in llvm("objdump", "--syms", path).splitlines():
                # 0000000000000010 g     F .text  00000000000000ab .hidden name
                flags, _, rest = line.partition("\t")
                fields = flags.split()
                if len(fields) > 2 and fields[-2] == "F":
                    self.files[name].append((fields[-1], int(fields[0], 16), rest.split()[-1]))
        return self.files[name]

    def load(self, sections):
        """Adds modules; sections: {module: {section: address}}."""
        self.table = list(self.kernel)
        for module, where in sections.items():
            self.table += [(where[section] + offset, function, module)
                           for section, offset, function in self.of_module(module)
                           if section in where]
        self.table.sort()
        self.first = {}
        for address, function, _ in self.table:
            self.first.setdefault(function, []).append(address)
        self.known = {}

    def of(self, address):
        """(function, object file or module) of an instruction."""
        if address not in self.known:
            at = bisect.bisect_right(self.table, (address, "\xff" * 9, "")) - 1
            self.known[address] = self.table[at][1:] if at >= 0 else ("?", "")
        return self.known[address]

    def calls(self, function, counts):
        """The number of calls of a function: executions of its first instruction."""
        return sum(counts.get(address, 0) for address in self.first.get(function, []))

    @staticmethod
    def readable(names):
        """{name: demangled name}."""
        names = list(names)
        out = subprocess.run(["llvm-cxxfilt"], input="\n".join(names), check=True,
                             capture_output=True, text=True).stdout.splitlines()
        return dict(zip(names, out))
