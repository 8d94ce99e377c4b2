"""Python files need what they import (The Python Language Reference, section 7.11)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from provision.image.need import Need, Surroundings
from provision.image.python_modules import name_of, package_of
from provision.image.tree import Node

_IMPORT = re.compile(r"^([ \t]*)((?:import\s[^\n(]*|from\s[^\n(]*?\simport\s*(?:\([^)]*\)|[^\n(]*)))", re.MULTILINE)
"""Indentation and text of an import, also one in brackets on many lines."""


_BUILT_IN = frozenset({"importlib._bootstrap", "importlib._bootstrap_external"})
"""What imports everything else is in the interpreter; nothing ever reads its files."""


def needs(node: Node, data: bytes, around: Surroundings) -> Iterator[Need]:
    """The files behind every import statement.

    An import at the top of a module is hard; one in a function, a condition or a `try` is taken along when no rule
    drops it: the module is expected to live without.
    """
    first = data[:80].split(b"\n", 1)[0]
    if not (node.path.endswith(".py") and name_of(node.path)) and not (first.startswith(b"#!") and b"python3" in first):
        return
    package = package_of(node.path)
    for statement, top in _statements(data):
        for dotted in _imported(statement, package, around):
            for path in around.python.chain(dotted):
                if path != node.path and name_of(path) not in _BUILT_IN:
                    yield Need(path, f"the Python module {dotted}", hard=top, must_exist=False)


def _statements(data: bytes) -> Iterator[tuple[ast.stmt, bool]]:
    """Every statement of a module, and whether it stands at the top.

    The image's Python may be newer than the one that builds it, which then cannot parse all of its modules: of those
    each import is parsed by itself, as the grammar of imports stays what it is.
    """
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError):
        for found in _IMPORT.finditer(data.decode(errors="replace")):
            try:
                statements = ast.parse(found[2]).body
            except SyntaxError:
                # A line of prose.
                continue
            yield from ((statement, not found[1]) for statement in statements)
        return
    for statement in tree.body:
        yield statement, True
        yield from ((inner, False) for inner in _within(statement))


def _within(statement: ast.AST) -> Iterator[ast.stmt]:
    """The statements of a statement, and theirs. No expression has one, and most of a module is expressions."""
    for part in ("body", "orelse", "finalbody", "handlers", "cases"):
        # A lambda and a conditional expression, which have these too, stand in no statement's parts.
        for inner in getattr(statement, part, ()):
            if isinstance(inner, ast.stmt):
                yield inner
            yield from _within(inner)


def _imported(statement: ast.stmt, package: str, around: Surroundings) -> Iterator[str]:
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
    elif isinstance(statement, ast.ImportFrom):
        base = statement.module or ""
        if statement.level:
            parts = package.split(".")
            parts = parts[: len(parts) - statement.level + 1]
            base = ".".join([*parts, base] if base else parts)
        yield base
        for alias in statement.names:
            if f"{base}.{alias.name}" in around.python.files:
                yield f"{base}.{alias.name}"
