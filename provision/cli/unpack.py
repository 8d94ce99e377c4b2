"""Unpacking the boot tree that the service gives, as if a stranger gave it: below one directory, plain files only."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from provision import boot_paths
from provision.boot_paths import Initrd, Kernel, Loader, Place, Request
from provision.errors import Invalid
from provision.ustar import Member, Reader

_TEXT, _LOADER, _IMAGE = 64 << 10, 64 << 20, 4 << 30
_LOADERS = frozenset({"lpxelinux.0", "ldlinux.c32", "shimx64.efi", "grubx64.efi"})
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
    says which there are, and no more. Raises Invalid for what is not a boot tree, OSError when it cannot be written.
    """
    done, total = Unpacked(), 0
    top = os.open(target, _DIRECTORY)
    try:
        os.fchmod(top, 0o755)
        for member, data in Reader(pieces, "boot tree").members():
            total += member.size
            file = _file(member)
            if member.size > _most(file) or total > MAX_TOTAL or len(done.paths) >= MAX_FILES:
                raise Invalid("boot tree", "has more than any boot tree", "look at the service")
            if bases is not None and isinstance(file, Kernel | Initrd):
                if member.size:
                    raise Invalid("boot tree", "has an image that was not asked for", "look at the service")
                _link(top, member.path, _stored(bases, file))
            else:
                _write(top, member.path, data)
            done.texts += _most(file) == _TEXT
            done.paths.append(member.path)
    finally:
        os.close(top)
    return done


def _file(member: Member) -> Request:
    """What a file is; raises Invalid for a name that no boot tree has."""
    found = boot_paths.parse(Place.TREE, member.path)
    # Nobody needs a second name for a file.
    known = found is not None and boot_paths.path(Place.TREE, found) == member.path
    if found is None or not known or (isinstance(found, Loader) and found.name not in _LOADERS):
        raise Invalid("boot tree", "has a file of a name that no boot tree has", "look at the service")
    return found


def _most(file: Request) -> int:
    """The most bytes that a file has."""
    return _IMAGE if isinstance(file, Kernel | Initrd) else _LOADER if isinstance(file, Loader) else _TEXT


def _stored(bases: Path, file: Kernel | Initrd) -> Path:
    return bases / file.base / ("kernel" if isinstance(file, Kernel) else f"initrd{file.number}.img")


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
