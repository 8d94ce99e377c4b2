"""Scripts need the program that their first line names (execve(2))."""

from __future__ import annotations

from collections.abc import Iterator

from provision.image.need import Need, Surroundings
from provision.image.tree import Node, Tree, follow


def needs(node: Node, data: bytes, around: Surroundings) -> Iterator[Need]:
    """The interpreter; with `env`, also what that starts."""
    # A file that nobody can execute is an example, or is read by others.
    if not data.startswith(b"#!") or not node.mode & 0o111:
        return
    words = data.split(b"\n", 1)[0][2:].decode(errors="replace").split()
    if not words:
        return
    yield Need(follow("", words[0]), f"the interpreter {words[0]}")
    if words[0].endswith("/env"):
        program = next((word for word in words[1:] if not word.startswith("-") and "=" not in word), None)
        if program:
            yield Need(program_path(around.tree, program), f"the interpreter {program}")


def program_path(tree: Tree, program: str) -> str:
    """The path of a program that is named with or without its directory."""
    if program.startswith("/"):
        return follow("", program)
    places = [f"usr/{directory}/{program}" for directory in ("sbin", "bin")]
    return next((place for place in places if place in tree), places[1])
