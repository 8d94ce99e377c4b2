"""Programs and libraries that files of an image name and that are not in it.

A name is not a need: most are for a case that never happens on a host. But what is executed or opened by such a name is
missed only when it happens, so the report lists them, and a difference between two reports shows new ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from provision.errors import NotFound
from provision.image import elf
from provision.image.tree import Node, Tree, follow

_NAME = re.compile(rb"(?<=\0)/(?:usr|bin|sbin|lib|lib64)/[!-~]{1,200}(?=\0)")


def named(kept: Mapping[str, Node], packages: Tree) -> dict[str, list[str]]:
    """Executable files and libraries of the packages by path, each with the paths of the ELF files that name it.

    `kept` is the image's tree; all paths begin with a slash, sorted.
    """
    image = Tree(kept.values())
    found: dict[str, set[str]] = {}
    for path, node in kept.items():
        if node.is_file and not path.endswith(".ko"):
            for name in _names(node.content.read()):
                if (absent := _absent(name, image, packages)) is not None:
                    found.setdefault(f"/{absent}", set()).add(f"/{path}")
    return {path: sorted(by) for path, by in sorted(found.items())}


def _names(data: bytes) -> Iterator[str]:
    if elf.is_elf(data):
        yield from sorted({match.decode() for match in _NAME.findall(data)})


def _absent(name: str, image: Tree, packages: Tree) -> str | None:
    """The path of what a name leads to in the packages, when it leads to nothing in the image."""
    try:
        path = packages.walk(follow("", name))[0]
        here = image.walk(follow("", name))[0]
    except NotFound:
        return None
    node = packages.get(path)
    if node is None or not node.is_file or here in image or path in image:
        return None
    return path if node.mode & 0o111 or ".so" in path.rpartition("/")[2] else None
