"""Stand-ins for libraries whose size is out of proportion to their use: all symbols there, nothing behind them."""

from __future__ import annotations

from collections.abc import Iterator

from provision.errors import Problem
from provision.image import elf, glob, tree
from provision.image.recipe import Loaded
from provision.image.tree import Node, Tree


def nodes(loaded: Loaded, packages: Tree) -> tuple[list[Node], list[Problem]]:
    """A stub for every library that a pattern of the recipe's `stubs` matches, and what is wrong with the patterns."""
    found: list[Node] = []
    problems: list[Problem] = []
    for index, pattern in enumerate(loaded.recipe.stubs):
        made = list(_made(pattern, packages))
        found += made
        if not made:
            fact = f"no package has a library {pattern}"
            problems.append(loaded.problem(("stubs", index), fact, "correct or delete it"))
    return found, problems


def _made(pattern: str, packages: Tree) -> Iterator[Node]:
    for path, node in packages.items():
        if node.is_file and glob.matches(pattern, f"/{path}"):
            data = node.content.read()
            if elf.is_elf(data):
                soname = elf.dynamic(data).soname or path.rsplit("/", 1)[-1]
                yield tree.file(path, elf.stub(soname, elf.exported(data)))
