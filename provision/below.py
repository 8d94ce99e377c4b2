"""Paths below a directory: joined from checked parts, deleted only there. The one door for deleting trees."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

_MAX_PART = 255
"""Bytes of a file's name (NAME_MAX of Linux)."""


def is_part(text: str) -> bool:
    """Whether the text is the name of one file: no separator, no NUL, neither "." nor "..", at most 255 bytes."""
    if text in ("", ".", "..") or "/" in text or "\0" in text:
        return False
    return len(os.fsencode(text)) <= _MAX_PART if _encodes(text) else False


def join(directory: Path, *parts: str) -> Path:
    """`directory`/part/part...; raises ValueError for a part that is not the name of one file, and for none at all.

    The caller has parsed the name already; that it is looked at here again is for what is deleted and written.
    """
    if not parts or not all(map(is_part, parts)):
        raise ValueError("is not a valid name of a file below a directory")
    return directory.joinpath(*parts)


def is_relative(path: str) -> bool:
    """Whether a path of an archive's member is relative and normal: names of files with single slashes between."""
    return all(map(is_part, path.split("/")))


def remove(directory: Path, name: str, *, ignore_errors: bool = False) -> None:
    """Delete `name`, a file, a link or a tree, in `directory` itself; nothing is followed out of it.

    What is not there is not an error. Raises OSError when it cannot be deleted (with `ignore_errors` a tree goes as far
    as it can), ValueError for what is not the name of one file.
    """
    join(directory, name)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.unlink(name, dir_fd=fd)
    except IsADirectoryError:
        # It opens every directory by its parent's descriptor, and does not follow links.
        shutil.rmtree(name, ignore_errors, dir_fd=fd)
    except FileNotFoundError:
        pass
    finally:
        os.close(fd)


def discard(path: Path) -> None:
    """Delete what stands at a path of the program's own making, as far as that is possible."""
    with suppress(OSError):
        remove(path.parent, path.name, ignore_errors=True)


def sync_directory(directory: Path) -> None:
    """Make the names in `directory` durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _encodes(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True
