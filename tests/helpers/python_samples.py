"""This machine's Python as packages have it, for the tests of the image builder that run an image's interpreter."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from provision.image import elf
from provision.image.tree import Node
from tests.helpers.image_samples import file, link

PROGRAM = Path("/usr/bin/python3").resolve()
"""The interpreter, such as /usr/bin/python3.11."""
LIBRARY = f"usr/lib/{PROGRAM.name}"
TAG = f"cpython-{PROGRAM.name.removeprefix('python').replace('.', '')}"
"""What bytecode that stands beside its source has in its name."""
_ARCHITECTURE = "usr/lib/x86_64-linux-gnu"


@cache
def interpreter() -> list[Node]:
    """The interpreter, its libraries and what it imports before anything else."""
    nodes = [file(str(PROGRAM).lstrip("/"), PROGRAM.read_bytes()), link("usr/bin/python3", PROGRAM.name)]
    nodes.append(link("usr/lib64", "lib/x86_64-linux-gnu"))
    pending = [PROGRAM]
    while pending:
        for name in elf.needed(pending.pop().read_bytes()):
            found = Path("/", _ARCHITECTURE, name)
            if all(node.path != f"{_ARCHITECTURE}/{name}" for node in nodes):
                nodes.append(file(f"{_ARCHITECTURE}/{name}", found.read_bytes()))
                pending.append(found)
    return [*nodes, *(module(f"encodings/{name}") for name in ("__init__", "aliases", "utf_8"))]


def module(name: str, text: str | None = None) -> Node:
    """A module of the standard library, as it is on this machine if no text is given."""
    path = f"{LIBRARY}/{name}.py"
    return file(path, Path("/", path).read_bytes() if text is None else text, 0o644)
