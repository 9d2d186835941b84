# SPDX-License-Identifier: GPL-2.0
"""Judges what tests/guest/nvme-lies has printed and logged.

    judge.py table TABLE            the lies of a table, as arguments of the guest's program
    judge.py left LIES OUT LOG      those of them that were not told, as the guest has ended before
    judge.py told SPLATS OUT LOG [RESULTS]
                                    a line for each lie, what came of it, and after those that RESULTS has of
                                    others
    judge.py judge TABLE SEED IOMMU SPLATS OUT LOG [LIE]...
                                    a line for each lie, "ok" or "not ok" with the reason: a KTAP document
"""

import re
import sys
from typing import NamedTuple

DATA = ("empty", "foreign", "stale", "late")
# What is good for a counter or a state, or absent.
GOOD = (
    ("other", "good"),
    ("canary", "unchanged"),
    ("module", "free"),
    ("revoked", "yes"),
    ("faults", "0"),
    ("beside", "0"),
)
# Lies that end with accesses to memory that must be unmapped by then.
LATE = ("held", "gone-held", "rdy-stuck")
# Lines of a driver in a section, apart from those that are asked for: a lie may not flood the log.
MANY = 40
# Its line about a controller that is bound, and those that are good news.
SUMMARY = re.compile(r"queues of \d+, up to .*, \d+ namespaces")
INFO = re.compile(
    r"queues of \d+, up to .*, [1-9]\d* namespaces|the controller was reset|probe with driver|\d+/\d+/\d+ default/read/poll queues|pci function"
)


class Row(NamedTuple):
    """A row of the table."""

    lie: str
    how: str
    data: str
    alive: str
    line: str


def rows(path):
    """Reads the table of lies."""
    with open(path, encoding="utf-8") as file:
        for line in file:
            if line.strip() and not line.startswith("#"):
                words, data, alive, said = (field.strip() for field in line.split("|", 3))
                lie, _, how = words.partition("@")
                yield Row(lie, how, data, alive, said)


def lines(path):
    """Reads a log of a console."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return [line.rstrip() for line in file]


class Told:
    """What is known of one lie: the guest's line, and its part of the kernel log."""

    def __init__(self, lie, how, seed, splats):
        self.lie, self.how, self.seed, self.splats = lie, how, seed, splats
        self.values, self.log, self.ended, self.hangs = {}, [], False, ""

    def number(self, name):
        """Returns a counter, 0 if the guest has none."""
        return int(self.values.get(name, "0"))

    @property
    def said(self):
        """The lines of the driver for the controller."""
        return [line.split(": ", 1)[1] for line in self.log if re.search(r"nvme .*: ", line) and not INFO.search(line)]

    @property
    def splat(self):
        """The first line of the kernel that no lie may cause, or nothing."""
        return next((line for line in self.log if self.splats.search(line)), "")

    def reason(self):
        """Returns the last line of the driver, for a controller that is of no use."""
        # Not the one about the controller, if there is another: "... 0 namespaces".
        said = [line for line in self.said if not SUMMARY.search(line)] or self.said
        return f": {said[-1]}" if said else ", without a word"

    def end(self):
        """Returns what came of it, in a few words."""
        values = self.values
        if "Kernel panic" in "".join(self.log):
            return f"panic: {self.splat}"
        if self.hangs:
            return f"hangs: {self.hangs}" + (f"; {clean(self.splat)}" if self.splat else "")
        if not values:
            return "the guest ended"
        if values["bound"] == "no":
            out = f"not bound{self.reason()}"
        elif values["disk"] != "yes":
            out = f"no disk{self.reason()}"
        elif values.get("revoked") == "none":
            return "no dma-bufs"
        else:
            wrong = [name for name in DATA if self.number(name)]
            out = f"wrong data ({', '.join(wrong)})" if wrong else "some I/O fails" if self.number("errors") else "I/O goes on"
            if any("reset" in line for line in self.log):
                out += ", after a reset"
            if values["alive"] == "no":
                out += "; then the disk is dead"
        if self.splat:
            out += f"; {clean(self.splat)}"
        for name, what in (("beside", "memory beside a buffer changed"), ("faults", "against the rules (see the model's log)")):
            if self.number(name):
                out += f"; {what}"
        return out


def clean(line):
    """Returns a line of the log without what differs in each run."""
    line = re.sub(r"^\[ *[0-9.]+\] ", "", line)
    return re.sub(r"CPU#?: ?\d+ |PID: \d+|0x[0-9a-f]{8,}|/\d+$", "", line).strip()


def sections(out, log, splats):
    """Returns what is known of each lie, in their order."""
    told, current, times = [], None, {}
    for line in lines(log):
        mark = re.search(r"nvme-lies: (begin|end|hangs) (\S+) ?(.*)", line)
        if mark and mark[1] == "begin":
            how, _, seed = mark[3].partition(" ")
            current = Told(mark[2], how, seed, splats)
            told.append(current)
        elif mark and mark[1] == "end":
            current.ended, current = True, None
        elif mark and current:
            current.hangs = mark[3]
        elif current:
            current.log.append(line)
    for line in lines(out):
        words = line.split(" ")
        if words[0] == "lie":
            # In the order in which they were told, and the last one may have no line.
            nth = times[words[1]] = times.get(words[1], 0) + 1
            same = [one for one in told if one.lie == words[1]][nth - 1 :]
            # The end of a log can be lost.
            if same:
                same[0].values = dict(word.split("=", 1) for word in words[2:] if "=" in word)
    return told


def faults(row, told, translated):
    """Yields what should not have happened, with an IOMMU that translates or without one."""
    values = told.values
    if not values or not told.ended:
        yield told.end()
        return
    if told.splat:
        yield f"the kernel says: {told.splat}"
    if row.lie not in ("none", "random") and "+" not in row.lie and not told.number("told"):
        yield "the lie was not told"
    if row.lie in LATE:
        # Where no IOMMU would refuse it, the model makes none.
        if not told.number("refused" if translated else "untranslated"):
            yield "no late access was tried"
        if not told.number("after_off"):
            yield "no use of memory ended after the controller was off"
    for name, good in GOOD:
        if values.get(name, good) != good:
            yield f"{name} is {values[name]}"
    if values["again"] not in ("-", "errors=0,empty=0,foreign=0,stale=0,late=0,beside=0"):
        yield f"bound again: {values['again']}"
    yield from of_disk(row, values, told)
    yield from of_log(row, told)


def of_disk(row, values, told):
    """Yields what is wrong with the disk."""
    disk = values["disk"] == "yes"
    if row.data != "any" and disk != (row.data != "none"):
        yield "there is a disk" if disk else "there is no disk"
        return
    if row.data in ("right", "errors") and any(told.number(name) for name in DATA):
        yield told.end()
    if row.data == "right" and told.number("errors"):
        yield f"{values['errors']} errors"
    if row.data == "errors" and not told.number("errors"):
        yield "no I/O fails"
    if row.alive in ("yes", "no") and values["alive"] != row.alive:
        yield f"alive is {values['alive']}"


def of_log(row, told):
    """Yields what is wrong with the driver's lines."""
    want = row.line.removeprefix("+")
    have = len([line for line in told.said if want and re.search(want, line)])
    # A queue has a line of its own; what makes the driver refuse a controller or a namespace has one.
    most = MANY if row.line.startswith("+") else 1 if row.data == "none" else 2
    if want and not 1 <= have <= most:
        yield f"{have} times in the log: {want}"
    if len(told.said) > MANY:
        yield f"{len(told.said)} lines in the log"


NOTHING = re.compile("(?!)")


def pattern(path, slots=r"0000:00:1[0-9a-f]\.0|00:1[0-9a-f]\.0"):
    """Returns a pattern for lines that must not be in the log; a refusal of the model's DMA is none."""
    alternatives = "|".join(line for line in lines(path) if line and not line.startswith("#"))
    # A bound device's name is in front of AMD's line.
    amd = rf"({slots}): AMD-Vi: Event logged|AMD-Vi: Event logged.*({slots})"
    refusals = rf"DMAR: DRHD: handling fault status|DMAR: \[DMA .*({slots})|{amd}|fault from EP 1[2-9]"
    return re.compile(rf"^(?!.*({refusals})).*({alternatives})".replace(r"\b", r"\b"))


def main():
    """Does what the arguments ask for."""
    what, *arguments = sys.argv[1:]
    if what == "table":
        print(*(f"{row.lie}@{row.how}" for row in rows(arguments[0])))
    elif what == "left":
        lies, out, log = arguments
        print(*lies.split(" ")[len(sections(out, log, NOTHING)) :])
    elif what == "told":
        splats, out, log, *results = arguments
        ends = dict(line.split(" | ", 1) for path in results for line in lines(path))
        for told in sections(out, log, pattern(splats)):
            ends[f"{told.lie}@{told.how}"] = told.end()
        for lie, end in ends.items():
            print(f"{lie} | {end}")
    elif what == "judge":
        table, seed, iommu, splats, out, log, *lies = arguments
        sys.exit(judge(list(rows(table)), int(seed), iommu != "none", sections(out, log, pattern(splats)), lies))


def judge(table, seed, translated, sections_of, lies):
    """Prints a line for each lie. Returns whether one of them is bad."""
    known = {f"{row.lie}@{row.how}": row for row in table}
    lies = lies or list(known)
    results = []
    for told in sections_of:
        lie = f"{told.lie}@{told.how}"
        row = known.get(lie) or Row(told.lie, told.how, "any", "any", "")
        results.append((f"{lie}, seed {told.seed}", list(faults(row, told, translated)), told.end()))
    # A fuzzer tells the same ones again and again.
    for nth in range(len(results), len(lies)):
        results.append((f"{lies[nth]}, seed {seed + nth}", ["it was not told"], ""))
    print(f"KTAP version 1\n1..{len(results)}")
    for nth, (name, reasons, end) in enumerate(results, 1):
        print(f"{'not ok' if reasons else 'ok'} {nth} {name}: {'; '.join(reasons) or end}")
    return any(reasons for _, reasons, _ in results)


if __name__ == "__main__":
    main()
