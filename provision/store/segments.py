"""The files of an audit log: the one that is written, and the older ones, each under the number of its first entry.

A full file is linked to its older name, and a new one that begins with a chained header is renamed over it: whatever
a crash leaves, there is one log at its path, and `tidy` makes the rest right.
"""

from __future__ import annotations

import errno
import os
import re
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO

from provision.below import sync_directory
from provision.store import chain
from provision.store.fields import Entry

_NUMBER = re.compile(r"[0-9]{12}")
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_APPEND


@dataclass(frozen=True)
class Limits:
    """When a file of the log is full (bytes, and the age of its first entry), and how many older ones are kept."""

    size: int = 64 << 20
    age: timedelta = timedelta(days=30)
    kept: int = 60


def older(path: Path) -> list[tuple[int, Path]]:
    """The older files of the log at `path` with the number of their first entry, the oldest first."""
    found = [(one.name.removeprefix(path.name + "."), one) for one in path.parent.glob(f"{path.name}.*")]
    return sorted((int(number), one) for number, one in found if _NUMBER.fullmatch(number))


@contextmanager
def opened(path: Path, size: int | None = None) -> Iterator[list[chain.Segment]]:
    """Every file of the log, the oldest first, open from now on: what is renamed or removed meanwhile is still read.

    `size` bytes of the newest count (None: all). Raises OSError.
    """
    with ExitStack() as stack:

        def segment(one: Path, first: int | None, length: int | None) -> chain.Segment:
            file: IO[bytes] = stack.enter_context(one.open("rb"))
            return chain.Segment(one, first, file, length)

        found = [segment(one, first, None) for first, one in older(path)]
        with suppress(FileNotFoundError):
            found.append(segment(path, None, size))
        yield found


def newest(found: Sequence[chain.Segment], host: str | None, limit: int, before: int | None = None) -> list[Entry]:
    """The newest `limit` entries of the files, of one host or of all, oldest first; without their chains. With `before`
    only those whose number is less."""
    kept: list[Entry] = []
    name = host.encode() if host is not None else b""
    for segment in reversed(found):
        if before is not None and segment.first is not None and segment.first >= before:
            continue
        latest: deque[Entry] = deque(maxlen=limit - len(kept))
        for line in chain.lines(segment):
            decoded = chain.decode(line) if name in line else None
            if decoded is None:
                continue
            if before is not None and decoded[0]["seq"] >= before:
                break
            if host is None or decoded[0].get("host") == host:
                latest.append(decoded[0])
        kept = [*latest, *kept]
        if len(kept) >= limit:
            break
    return kept


def replace(path: Path, first: int, content: bytes) -> int:
    """Let a new file that begins with `content` take the log's place, which is kept under the number `first` from then
    on. Returns its descriptor; raises OSError, and then all is as it was."""
    new, kept = _new(path), path.with_name(f"{path.name}.{first:012d}")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, _FLAGS | os.O_EXCL, 0o600)
    try:
        if os.write(descriptor, content) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
        os.link(path, kept)
        try:
            new.replace(path)
        except OSError:
            kept.unlink()
            raise
        sync_directory(path.parent)
    except OSError:
        os.close(descriptor)
        with suppress(OSError):
            new.unlink()
        raise
    return descriptor


def tidy(path: Path) -> None:
    """Undo what a crash has left of a `replace` that did not come to its end."""
    _new(path).unlink(missing_ok=True)
    found = older(path)
    if found and path.exists() and path.samefile(found[-1][1]):
        found[-1][1].unlink()


def excess(path: Path, kept: int) -> list[tuple[int, int, Path]]:
    """The older files beyond the newest `kept`, the oldest first: their first and last entries, and their paths."""
    found = older(path)
    gone = found[: max(0, len(found) - kept)]
    ends = [first - 1 for first, _ in found[1 : len(gone) + 1]]
    return [(first, last, one) for (first, one), last in zip(gone, ends, strict=False)]


def _new(path: Path) -> Path:
    # With a dot, so that no copy of "audit.*" stumbles over what is there for a moment.
    return path.with_name(f".{path.name}.new")
