"""Inventory files on disk -> sources that need no disk any more."""

from __future__ import annotations

import stat
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from provision.document import MAX_BYTES, Source, read
from provision.errors import Problem, Problems

MAX_ATTACHMENT = 1024 * 1024
"""The most bytes of one certificate file."""


STANDARD_INPUT = Path("-")


def load(paths: Sequence[Path]) -> list[Source]:
    """Read inventory files, every ``*.yaml`` and ``*.yml`` of a directory, and the certificate files that they name.

    ``-`` is standard input, and a pipe by its path is read, too. Certificate paths are relative to the file that names
    them, or to the working directory; those that cannot be read are left out. Raises Problems, all at once, for
    inventory files that cannot be read.
    """
    sources, problems = [], []
    for path in _expanded(paths):
        name = "standard input" if path == STANDARD_INPUT else str(path)
        try:
            text = _text(path, named=path in paths)
        except OSError as error:
            problems.append(Problem(name, 0, "", f"cannot be read ({error.strerror})", "look at the path"))
            continue
        attachments = {}
        for file in _named(Source(name, text)):
            # The parser says which are not there, beside everything else that is wrong.
            with suppress(OSError, ValueError):
                attachments[file] = _bytes(_directory(path) / file, MAX_ATTACHMENT)
        sources.append(Source(name, text, attachments))
    if problems:
        raise Problems(problems)
    return sources


def _expanded(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if _is_directory(path):
            files += sorted(p for p in path.iterdir() if p.suffix in (".yaml", ".yml"))
        else:
            files.append(path)
    return list(dict.fromkeys(files))


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False  # such as a name that is too long; reading it says so


def _text(path: Path, named: bool) -> bytes:
    """What an inventory file has in it, or what comes through a pipe that somebody has named."""
    if path == STANDARD_INPUT:
        return _all(sys.stdin.buffer)
    if named and _is_pipe(path):
        with path.open("rb") as pipe:
            return _all(pipe)
    return _bytes(path, MAX_BYTES)


def _is_pipe(path: Path) -> bool:
    return stat.S_ISFIFO(path.stat().st_mode)


def _all(stream: BinaryIO) -> bytes:
    if len(content := stream.read(MAX_BYTES + 1)) > MAX_BYTES:
        raise _too_large(MAX_BYTES)
    return content


def _too_large(limit: int) -> OSError:
    return OSError(0, f"larger than {limit >> 20} MiB")


def _directory(path: Path) -> Path:
    return Path() if path == STANDARD_INPUT or _is_pipe(path) else path.parent


def _bytes(path: Path, limit: int) -> bytes:
    """A regular file's bytes; pipes and devices, which may never end, are refused."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(0, "not a regular file")
    if status.st_size > limit:
        raise _too_large(limit)
    return path.read_bytes()


def _named(source: Source) -> list[str]:
    """The certificate files that a source names; its other problems are the parser's matter."""
    if b"ca_certificate_files" not in source.text:
        return []
    root = read(source).root
    site = root.value.get("site") if root and isinstance(root.value, dict) else None
    names = site.value.get("ca_certificate_files") if site and isinstance(site.value, dict) else None
    if names is None or not isinstance(names.value, list):
        return []
    return [item.value for item in names.value if isinstance(item.value, str)]
