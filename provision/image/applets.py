"""The commands that BusyBox provides: which it has is decided when it is compiled."""

from __future__ import annotations

from collections.abc import Iterator

from provision.errors import Problem
from provision.image.recipe import Loaded
from provision.image.tree import Tree

BUSYBOX = "usr/bin/busybox"
_LISTS: tuple[tuple[str, ...], ...] = (("applets",), ("initramfs", "applets"))


def problems(loaded: Loaded, packages: Tree) -> Iterator[Problem]:
    """The recipe's applets that the packages' BusyBox does not have: links that only say "applet not found"."""
    if BUSYBOX not in packages:
        return
    # It has their names in one table, each between zero bytes.
    data = packages[BUSYBOX].content.read()
    for path, names in zip(_LISTS, (loaded.recipe.applets, loaded.recipe.initramfs.applets), strict=True):
        for index, name in enumerate(names):
            if b"\0%b\0" % name.encode() not in data:
                yield loaded.problem((*path, index), f"this BusyBox has no {name}", "leave it out, or add a package")
