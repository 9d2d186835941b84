# SPDX-License-Identifier: GPL-2.0
#
# Pictures and tables that say what the code says, compared with it:
#
# - a block of the class "house": a tree of folders, each of which imports from those above it,
#   with the module of each, as in Kbuild;
# - a block of the class "way": files, each once, and the functions() named on its line;
# - a block after the comment "from: FILE": lines of that file;
# - a table after the comment "errnos: TYPE": a variant of TYPE and its errno in each row, or with
#   "errnos only: TYPE" just the errnos;
# - the glossary: each type of a library of which rustdoc has a page.

import os
import re

from docutils import nodes
from sphinx.util import logging

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
logger = logging.getLogger(__name__)


def read(path):
    with open(os.path.join(TOP, path), encoding="utf-8") as file:
        return file.read()


def crates():
    """Returns {folder: (module, folders that it imports from)} of the libraries, by Kbuild."""
    kbuild = read("Kbuild").replace("\\\n", " ")
    found = {}
    for module, objects in re.findall(r"^(\w+)-y\s*:=(.*)", kbuild, re.M):
        if folder := re.search(r"rust/(\w+)/" + module + r"\.o", objects):
            uses = re.search(rf"call uses,rust/{folder[1]}/{module}\.o,([\w ]+)\)", kbuild)
            found[folder[1]] = module + ".ko", set(uses[1].split() if uses else ())
    return found


def check_house(node):
    known, above = crates(), []
    for line in node.astext().splitlines():
        row = re.search(r"rust/(\w+)\s+(\S+\.ko)", line)
        if not row:
            continue
        above = [(at, folder) for at, folder in above if at < row.start()]
        imports = {folder for _, folder in above}
        if known.pop(row[1], None) != (row[2], imports):
            yield f"Kbuild builds rust/{row[1]} otherwise: {crates().get(row[1])}"
        above.append((row.start(), row[1]))
    for folder in known:
        yield f"rust/{folder} is missing"


def check_way(node):
    seen = set()
    for line in node.astext().splitlines():
        for path in re.findall(r"(?:rust|samples)/[\w/]+\.rs", line):
            if path in seen:
                yield f"{path} stands twice"
            seen.add(path)
            if not os.path.exists(os.path.join(TOP, path)):
                yield f"no such file: {path}"
                continue
            for name in re.findall(r"(\w+)\(\)", line):
                if not re.search(rf"fn {name}\b|\b{name}\(", read(path)):
                    yield f"{path} has no {name}()"


def errnos(enum):
    """Returns {variant: errnos} as the conversion of the enumeration to an errno has it."""
    found = {}
    for where, _, files in os.walk(os.path.join(TOP, "rust")):
        for name in files:
            if not name.endswith(".rs"):
                continue
            text = read(os.path.join(where, name))
            for body in re.findall(rf"impl (?:\w+<)?From<{enum}> for Error \{{(.*?)\n\}}", text, re.S):
                variants = []
                for arm in re.finditer(r"\b[A-Z]\w+::(\w+)|=>\s*(E[A-Z0-9]+)\b", body):
                    if arm[1]:
                        variants = variants + [arm[1]] if "|" in body[: arm.start()].rsplit("\n", 1)[-1] else [arm[1]]
                    else:
                        for variant in variants:
                            found.setdefault(variant, set()).add(arm[2])
    return found


def check_errnos(comment, table):
    only, enum = re.match(r"errnos( only)?: (\w+)", comment.astext()).groups()
    code = errnos(enum)
    if not code:
        yield f"{enum} has no conversion to an errno"
    rows = [[entry.astext() for entry in row] for body in table.findall(nodes.tbody) for row in body]
    if only:
        said, meant = {row[0] for row in rows}, set().union(*code.values())
        if not meant <= said:
            yield f"errnos of {enum} that are missing: {meant - said}"
        return
    said = {}
    for variant, errno, *_ in rows:
        if re.fullmatch(r"E[A-Z0-9]+", errno):
            said.setdefault(variant.split("::")[-1], set()).add(errno)
    # The others pass an errno on, or print theirs in the text.
    wrong = {v for v in said.keys() | code.keys() if said.get(v) != code.get(v)}
    for variant in sorted(wrong):
        yield f"{enum}::{variant} is {code.get(variant)}, not {said.get(variant)}"


def check_excerpt(comment, block):
    path = comment.astext().split()[1]
    lines = [line.strip() for line in read(path).splitlines()]
    wanted = [line.strip() for line in block.astext().splitlines()]
    if not any(lines[at : at + len(wanted)] == wanted for at in range(len(lines))):
        yield f"{path} does not have these lines"


def check_glossary(app, glossary):
    said = {word for node in glossary.findall(nodes.literal) for word in re.findall(r"\w+", node.astext())}
    modules = {module.removesuffix(".ko") for module, _ in crates().values()}
    for path, page in sorted(app.code_pages.items()):
        item = re.fullmatch(r"(?:struct|enum|trait|type)\.(\w+)\.html", os.path.basename(page))
        if item and path.split("::")[0] in modules and item[1] not in said:
            yield f"{path} is missing"


def check(app, env):
    for problem in check_glossary(app, env.get_doctree("glossary")):
        logger.warning("%s", problem, location="glossary")
    for doc in env.found_docs:
        document = env.get_doctree(doc)
        for block in document.findall(nodes.literal_block):
            for kind, function in ("house", check_house), ("way", check_way):
                if kind in block.get("classes", []):
                    for problem in function(block):
                        logger.warning("%s", problem, location=block)
        for comment in document.findall(nodes.comment):
            for kind, node, function in (
                ("errnos", nodes.table, check_errnos),
                ("from:", nodes.literal_block, check_excerpt),
            ):
                if comment.astext().startswith(kind):
                    for problem in function(comment, comment.next_node(node, descend=False, siblings=True)):
                        logger.warning("%s", problem, location=comment)


def setup(app):
    app.connect("env-check-consistency", check)
    return {"parallel_read_safe": True}
