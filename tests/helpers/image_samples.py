"""Small package trees for the tests of the image builder: files that look like real ones to what reads them."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

from provision.image import modules, recipe, selection, tree
from provision.image.cache import Cache
from provision.image.closure import Closure, close
from provision.image.need import Surroundings
from provision.image.python_modules import PythonIndex
from provision.image.recipe import Loaded
from provision.image.tree import Node, Tree

TOP = "usr/lib/modules/6.1"
RECIPE = "name: tiny\npackages: [tiny]\n"


def module(name: str, **said: str) -> Node:
    """A kernel module whose .modinfo says that."""
    info = b"".join(f"\0{key}={value}".encode() for key, value in {"depends": "", **said}.items())
    return file(f"{TOP}/kernel/{name}.ko", b"\x7fELF\x02\x01" + info + b"\0", 0o644)


def note(kind: int, name: bytes, content: bytes) -> bytes:
    """An ELF file of nothing but one note."""
    name += b"\0"
    body = struct.pack("<III", len(name), len(content), kind) + name.ljust(-(-len(name) // 4) * 4, b"\0")
    body += content.ljust(-(-len(content) // 4) * 4, b"\0")
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, 62, 1, 0, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    return header + struct.pack("<IIQQQQQQ", 4, 4, 120, 120, 120, len(body), len(body), 4) + body


def file(path: str, data: bytes | str = b"", permissions: int = 0o755, source: str = "tiny") -> Node:
    """A package's file."""
    return tree.file(path, data.encode() if isinstance(data, str) else data, permissions, source)


def link(path: str, target: str) -> Node:
    """A package's link."""
    return tree.link(path, target, "tiny")


def loaded(text: str = "", directory: Path = Path()) -> Loaded:
    """A recipe of one package with these lines more."""
    return recipe.parse((RECIPE + text).encode(), "recipe.yaml", directory)


def around(nodes: list[Node], rules: Loaded, scratch: Path) -> tuple[Surroundings, Mapping[str, selection.Decision]]:
    """Everything that needs are looked up in, for packages with these files and a kernel."""
    kernel = [file("boot/vmlinuz-6.1"), file(f"{TOP}/modules.builtin", "kernel/crypto/aes.ko\n", 0o644)]
    full = Tree([*kernel, *nodes])
    chosen = selection.select(full, rules)
    found = modules.read(full, Cache(scratch))
    return Surroundings(full, found, PythonIndex.of(full), rules, chosen.dropped()), chosen.decisions


def closed(nodes: list[Node], text: str, scratch: Path) -> Closure:
    """The closure of packages with these files under these rules."""
    where, decisions = around(nodes, loaded(text), scratch)
    return close(where, decisions)


def paths(closure: Closure) -> set[str]:
    """What is in the image, without the kernel's own files."""
    return {path for path in closure.kept if not path.startswith("boot/") and not path.startswith(f"{TOP}/modules.")}
