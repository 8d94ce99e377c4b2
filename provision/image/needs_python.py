"""Python files need what they import (The Python Language Reference, section 7.11)."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from provision.image.need import Need, Surroundings
from provision.image.python_modules import name_of, package_of
from provision.image.tree import Node


def needs(node: Node, data: bytes, around: Surroundings) -> Iterator[Need]:
    """The files behind every import statement.

    An import at the top of a module is hard; one in a function, a condition or a `try` is taken along when no rule
    drops it: the module is expected to live without.
    """
    first = data[:80].split(b"\n", 1)[0]
    if not (node.path.endswith(".py") and name_of(node.path)) and not (first.startswith(b"#!") and b"python3" in first):
        return
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError):
        return
    top = {id(statement) for statement in tree.body}
    package = package_of(node.path)
    for statement in ast.walk(tree):
        for dotted in _imported(statement, package, around):
            for path in around.python.chain(dotted):
                if path != node.path:
                    yield Need(path, f"the Python module {dotted}", hard=id(statement) in top, must_exist=False)


def _imported(statement: ast.AST, package: str, around: Surroundings) -> Iterator[str]:
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
