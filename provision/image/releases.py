"""Releases of Debian: which one an image is made of, and what a recipe says of one only.

A release is called as os-release(5) spells it, `ID-VERSION_ID`: debian-12. In a recipe or a platform file a list may
hold `debian-13: [...]`, whose entries stand there for that release and for no other; in a mapping the same key holds
further keys. Beside the recipe the directory of that name holds the release's lock. A recipe with no such directory has
its lock beside it.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from provision.document import Node
from provision.errors import Conflict, Invalid, NotFound
from provision.image.packages import Package

_NAME = re.compile(r"debian-[1-9][0-9]*")
_LOCK = "lock.json"
# Its version begins with that of the release.
_NUMBERED = "base-files"


def of_machine() -> str:
    """This machine's; raises NotFound when it does not say one."""
    try:
        said = platform.freedesktop_os_release()
        return f"{said['ID']}-{said['VERSION_ID']}"
    except (OSError, KeyError):
        raise NotFound("/etc/os-release", "does not name a release", "name Debian's with --release") from None


def named(given: str) -> str:
    """A release as people write it: 13, or debian-13; raises Invalid."""
    release = given if given.startswith("debian-") else f"debian-{given}"
    if not _NAME.fullmatch(release):
        raise Invalid(f"'{given[:40]}'", "is not a release of Debian", "write its number, such as 12, with --release")
    return release


def lock_file(directory: Path, release: str) -> Path:
    """The lock of a recipe in that directory; raises NotFound when it has locks of other releases only."""
    known = sorted(path.name for path in directory.glob("debian-*") if path.is_dir())
    if known and release not in known:
        fact = f"is not a release that the recipe in {directory} has a lock for"
        numbers = ", ".join(name.removeprefix("debian-") for name in known)
        raise NotFound(release, fact, f"choose one with --release: {numbers}")
    return directory / release / _LOCK if known else directory / _LOCK


def chosen(node: Node, release: str) -> Node:
    """A file's tree with what it says of that release, and nothing of what it says of others."""
    if isinstance(node.value, list):
        return Node(node.file, node.line, list(_entries(node.value, release)))
    if isinstance(node.value, dict):
        return Node(node.file, node.line, dict(_keys(node.value, release)))
    return node


def _entries(values: Iterable[Node], release: str) -> Iterator[Node]:
    for item in values:
        only = next(iter(item.value), "") if isinstance(item.value, dict) and len(item.value) == 1 else ""
        if not isinstance(item.value, dict) or not _NAME.fullmatch(only):
            yield chosen(item, release)
        elif only == release:
            inside = item.value[only]
            yield from _entries(inside.value if isinstance(inside.value, list) else [inside], release)


def _keys(values: dict[str, Node], release: str) -> Iterator[tuple[str, Node]]:
    for key, value in values.items():
        if not _NAME.fullmatch(key):
            yield key, chosen(value, release)
        elif key == release and isinstance(value.value, dict):
            yield from _keys(value.value, release)


def check(packages: Iterable[Package], release: str) -> None:
    """Raise Conflict when packages are of another release of Debian."""
    number = release.removeprefix("debian-")
    for package in packages:
        found = package.version.partition(".")[0]
        if package.name == _NUMBERED and _NAME.fullmatch(release) and found != number:
            fact = f"are of Debian {found}, but the image is for Debian {number}"
            raise Conflict(
                "packages", fact, "name an APT configuration of that release in APT_CONFIG, or another --release"
            )
