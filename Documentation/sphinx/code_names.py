# SPDX-License-Identifier: GPL-2.0
#
# Names of code in the text, which are ``literals``.  A path must exist, and an identifier must
# occur in the sources or in the kernel's; a member of a type of ours must be in a file that defines
# or implements the type.  What rustdoc has a page of is a link to it, but not in what has the class
# "unlinked": there a name may be that of something else.

import fnmatch
import glob
import os
import re
import subprocess

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
SOURCES = ["rust", "samples", "scripts", "tests", "Kbuild", "Kconfig", "Makefile", ".config.fragment"]
KERNEL = [
    "block", "drivers/base", "drivers/dma-buf", "drivers/iommu", "drivers/nvme", "drivers/pci",
    "include", "kernel/dma", "lib", "rust", "scripts/Makefile.build", "drivers/gpu", "Documentation",
]

FILE = re.compile(r"(rust|samples|scripts|tests|Documentation)/[\w./*-]*")
NAME = re.compile(r"[A-Za-z_]\w*(::\w+)*(!|\(\)|<'\w+>)?")
PATTERN = re.compile(r"\*[a-z]\w{3,}|[a-z]\w{3,}\*")
MEMBER_OF = re.compile(r"(?:phyr\w*::(?:\w+::)*)?([A-Z]\w+)::(\w+)(?:!|\(\))?")
TYPE = re.compile(r"^\s*(?:pub(?:\([^)]*\))? )?(?:unsafe )?(?:struct|enum|trait|type|impl)\b(.*)", re.M)
FIRST = re.compile(r"^\s*(?:pub(?:\([^)]*\))? )?(?:(?:const|unsafe|fn|type|extern \"C\"|static) )*(\w+)", re.M)
ITEM = re.compile(r"(struct|enum|trait|fn|macro|type|constant|derive)\.(\w+)\.html")
MEMBER = re.compile(r'id="((?:method|tymethod|variant|associatedconstant|associatedtype|structfield)\.(\w+))"')

logger = logging.getLogger(__name__)


def rustdoc(folder):
    """Returns {path of a crate, a module, an item or a member: its page}."""
    pages = {}
    for where, _, files in sorted(os.walk(folder)):
        module = os.path.relpath(where, folder).replace(os.sep, "::")
        for name in files:
            page = os.path.relpath(os.path.join(where, name), folder)
            if item := ITEM.fullmatch(name):
                path = f"{module}::{item[2]}"
                pages[path] = page
                with open(os.path.join(where, name), encoding="utf-8") as text:
                    for member in MEMBER.finditer(text.read()):
                        pages.setdefault(f"{path}::{member[2]}", f"{page}#{member[1]}")
            elif name == "index.html" and module != ".":
                pages[module] = page
    return pages


def literals(document):
    """Yields each literal of the text and what it says, without what is not part of a name."""
    for node in document.findall(nodes.literal):
        if "code" not in node.get("classes", []) or not node.get("language"):
            yield node, node.astext()


def occurring(words, top, names, flags="-rhowF"):
    """Returns those of the words that occur in the files below top."""
    files = [os.path.join(top, name) for name in names]
    grep = ["grep", flags, "--binary-files=without-match", "-f", "-", *files]
    out = subprocess.run(grep, input="\n".join(words), capture_output=True, text=True, check=False)
    return set(out.stdout.split())


def stems(names):
    """Returns the names of the files in the folders, without their endings."""
    return {file.split(".")[0] for name in names for _, _, files in os.walk(os.path.join(TOP, name)) for file in files}


def members():
    """Returns {type: words with which a line of a file that defines or implements it begins}."""
    found, ours = {}, set()
    for name in ("rust", "samples"):
        for path in glob.glob(os.path.join(TOP, name, "**/*.rs"), recursive=True):
            with open(path, encoding="utf-8") as file:
                text = file.read()
            words = set(FIRST.findall(text))
            for line in TYPE.findall(text):
                for word in re.findall(r"\b[A-Z]\w+", line):
                    found.setdefault(word, set()).update(words)
            ours.update(re.findall(r"\b(?:struct|enum|trait) (\w+)", text))
    return {word: words for word, words in found.items() if word in ours}


def check(app, env):
    """Warns of each name that is nowhere."""
    unknown, files, types = {}, stems(SOURCES), members()
    for doc in env.found_docs:
        for node, text in literals(env.get_doctree(doc)):
            if FILE.fullmatch(text):
                if not any(glob.glob(os.path.join(top, text)) for top in (TOP, app.config.code_kernel)):
                    logger.warning("no such file: %s", text, location=node)
            elif NAME.fullmatch(text):
                member = MEMBER_OF.fullmatch(text)
                if member and member[2] not in types.get(member[1], {member[2]}):
                    logger.warning("%s has no %s", *member.groups(), location=node)
                for word in re.findall(r"\w+", text):
                    unknown.setdefault(word, []).append(node)
            elif PATTERN.fullmatch(text) and not fnmatch.filter(files, text):
                if not occurring([text.strip("*")], TOP, SOURCES, "-rhoF"):
                    logger.warning("%s matches no name", text, location=node)
    known = files | occurring(unknown, TOP, SOURCES)
    known |= occurring(unknown.keys() - known, app.config.code_kernel, KERNEL)
    for word in unknown.keys() - known:
        for node in unknown[word]:
            logger.warning("%s: %s is neither in the sources nor in the kernel", node.astext(), word, location=node)


def is_unlinked(node):
    while node is not None:
        if isinstance(node, nodes.Element) and "unlinked" in node.get("classes", []):
            return True
        node = node.parent
    return False


class Links(SphinxPostTransform):
    """Makes a link of each name that rustdoc has just one page of."""

    default_priority = 900

    def run(self, **kwargs):
        pages = self.app.code_pages
        up = "../" * self.env.docname.count("/")
        for node, text in list(literals(self.document)):
            if not NAME.fullmatch(text) or isinstance(node.parent, nodes.reference) or is_unlinked(node):
                continue
            name = re.sub(r"(!|\(\)|<'\w+>)$", "", text)
            found = {page for path, page in pages.items() if path.endswith("::" + name)}
            if name in pages:
                found = {pages[name]}
            if len(found) == 1 and ("::" in name or name[0].isupper() or name in pages):
                link = nodes.reference("", "", internal=True, refuri=f"{up}rust/{found.pop()}", classes=["code-name"])
                node.replace_self(link)
                link += node


def setup(app):
    app.add_config_value("code_rustdoc", "", "env")
    app.add_config_value("code_kernel", "", "env")
    app.connect("builder-inited", lambda app: setattr(app, "code_pages", rustdoc(app.config.code_rustdoc)))
    app.connect("env-check-consistency", check)
    app.add_post_transform(Links)
    return {"parallel_read_safe": True}
