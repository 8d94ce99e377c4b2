"""Unpacking the boot tree that the service gives, as if a stranger gave it: below one directory, plain files only."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from provision.errors import Invalid
from provision.ustar import Member, Reader

_MAC = "[0-9a-f]{2}(?:[:-][0-9a-f]{2}){5}"
_IMAGE = re.compile("images/([0-9a-f]{64})/(kernel|initrd[0-9]{1,2})")
KINDS = (
    (re.compile(rf"pxelinux\.cfg/(default|01-{_MAC})"), 64 << 10),
    (re.compile(rf"grub/(grub|host-{_MAC})\.cfg"), 64 << 10),
    (re.compile(r"lpxelinux\.0|ldlinux\.c32|shimx64\.efi|grubx64\.efi"), 64 << 20),
    (_IMAGE, 4 << 30),
)
"""The files that a boot tree has, and the most bytes of each."""
MAX_FILES = 500_000
MAX_TOTAL = 64 << 30
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass
class Unpacked:
    """What was written: configurations, and all paths."""

    texts: int = 0
    paths: list[str] = field(default_factory=list)


def unpack(pieces: Iterable[bytes], target: Path, bases: Path | None = None) -> Unpacked:
    """Write the files of the archive below the new directory `target`: files 0644, directories 0755.

    With `bases`, the library's directory, a file of an image becomes a link to where the library has it; the archive
    says which there are, and no more. Raises Invalid for what is no boot tree, OSError when it cannot be written.
    """
    done, total = Unpacked(), 0
    top = os.open(target, _DIRECTORY)
    try:
        os.fchmod(top, 0o755)
        for member, data in Reader(pieces, "boot tree").members():
            total += member.size
            if member.size > _most(member) or total > MAX_TOTAL or len(done.paths) >= MAX_FILES:
                raise Invalid("boot tree", "has more than any boot tree", "look at the service")
            image = _IMAGE.fullmatch(member.path) if bases is not None else None
            if image is not None and bases is not None:
                if member.size:
                    raise Invalid("boot tree", "has an image that was not asked for", "look at the service")
                _link(top, member.path, _stored(bases, image[1], image[2]))
            else:
                _write(top, member.path, data)
            done.texts += member.path.startswith(("pxelinux.cfg/", "grub/"))
            done.paths.append(member.path)
    finally:
        os.close(top)
    return done


def _most(member: Member) -> int:
    """The most bytes that a file of this name has; raises Invalid for a name that no boot tree has."""
    for pattern, size in KINDS:
        if pattern.fullmatch(member.path):
            return size
    raise Invalid("boot tree", "has a file of a name that no boot tree has", "look at the service")


def _stored(bases: Path, id_: str, name: str) -> Path:
    return bases / id_ / (name if name == "kernel" else f"{name}.img")


@contextmanager
def _parent(top: int, path: str) -> Iterator[int]:
    """A descriptor of the file's directory, made where it is missing; nothing is followed."""
    here = os.dup(top)
    try:
        for part in path.split("/")[:-1]:
            with suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=here)
            below = os.open(part, _DIRECTORY, dir_fd=here)
            os.close(here)
            here = below
            os.fchmod(here, 0o755)
        yield here
    finally:
        os.close(here)


def _write(top: int, path: str, data: Iterable[bytes]) -> None:
    with _parent(top, path) as parent:
        fd = os.open(path.rpartition("/")[2], _NEW, 0o644, dir_fd=parent)
    with os.fdopen(fd, "wb") as file:
        os.fchmod(fd, 0o644)
        for piece in data:
            file.write(piece)


def _link(top: int, path: str, target: Path) -> None:
    with _parent(top, path) as parent:
        os.symlink(target, path.rpartition("/")[2], dir_fd=parent)
