# SPDX-License-Identifier: GPL-2.0
"""Writes Documentation/nvme_lies.rst: the lies, and what came of each with two drivers.

    lies_page.py            prints it, from nvme.lies and the results beside it
    nvme.rust_nvme, nvme.c_driver  results, as scripts/nvme-lies --results writes them
"""

import os
import sys

from judge import rows
from nvme_model.lies import fields
from nvme_model.lies.base import LIES

HERE = os.path.dirname(os.path.abspath(__file__))
HOW = {
    "load": "",
    "unbind": "; the driver is unbound meanwhile",
    "remove": "; it is removed meanwhile",
    "reset": "; it is reset from outside meanwhile",
    "revoke": "; the dma-buf that they are for is revoked meanwhile",
}
HEAD = """.. SPDX-License-Identifier: GPL-2.0

=======================
A controller that lies
=======================

.. tests/devices/lies_page.py writes this page.

``tests/devices/nvme.py`` is an NVMe controller outside of QEMU, which tells one of these lies at a time; :doc:`testing`
describes how. A guest binds the driver, has four threads read, write and compare, ends the lie, and
unbinds the driver. Meanwhile another disk of the same driver is used, and a process looks at its memory again and
again. ``make test`` demands of rust_nvme what :doc:`testing` lists; the C driver of the same kernel (7.3.4) was run
once, with the same lies and the same seeds, and is judged by nobody.

"Wrong data" is what no driver can know: the controller says that a read succeeded and has not written its data, or
writes to memory that is still mapped for it. It is never memory of anybody else.

"""


def results(name):
    """Reads the results of a driver."""
    out = {}
    with open(os.path.join(HERE, name), encoding="utf-8") as file:
        for line in file:
            lie, _, end = line.strip().partition(" | ")
            out[lie] = end
    return out


def what(lie):
    """Describes a lie."""
    name, _, value = lie.partition("=")
    if name == "none":
        return "No lie."
    if fields.find(name):
        return f"Identify: {name.upper()} is {value}."
    if name.startswith("cap-"):
        return f"CAP.{name[4:].upper()} is {value}."
    if name == "vs":
        return f"VS is {value}."
    text = LIES[name].__doc__.split("\n", maxsplit=1)[0]
    return text.replace(" N ", f" {value} ")


def page():
    """Returns the text of the page."""
    columns = results("nvme.rust_nvme"), results("nvme.c_driver")
    lines = [HEAD, ".. list-table::", "   :header-rows: 1", "   :widths: 18 32 25 25", ""]
    lines += ["   * - Lie", "     - The controller", "     - rust_nvme", "     - nvme, the C driver"]
    for row in rows(os.path.join(HERE, "nvme.lies")):
        key = f"{row.lie}@{row.how}"
        lines += [f"   * - {row.lie}", f"     - {what(row.lie)[:-1]}{HOW[row.how]}."]
        lines += [f"     - {column.get(key, 'not tried')}" for column in columns]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
