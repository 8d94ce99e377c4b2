"""Stand-ins for libraries whose size is out of proportion to their use: all symbols there, nothing behind them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from provision.errors import Problem
from provision.image import elf, patterns, tree
from provision.image.recipe import Rule
from provision.image.tree import Node, Tree


def nodes(rules: Iterable[Rule], packages: Tree) -> tuple[list[Node], list[Problem]]:
    """A stub for every library that a pattern of the rules matches, and what is wrong with the patterns."""
    found: list[Node] = []
    problems: list[Problem] = []
    for rule in rules:
        made = list(_made(rule.pattern, packages))
        found += made
        if not made:
            fact = "no package has such a library"
            problems.append(Problem(rule.file, rule.line, rule.pattern, fact, "correct or delete it"))
    return found, problems


def _made(pattern: str, packages: Tree) -> Iterator[Node]:
    for path, node in packages.items():
        if not node.is_file or not patterns.matches(pattern, f"/{path}"):
            continue
        if node.source == tree.OWN:
            # In a finished image it is a stub already, which does not say its symbols' names a second time.
            yield node
        else:
            data = node.content.read()
            if elf.is_elf(data):
                soname = elf.dynamic(data).soname or path.rsplit("/", 1)[-1]
                yield tree.file(path, elf.stub(soname, elf.exported(data), elf.versions(data)))
