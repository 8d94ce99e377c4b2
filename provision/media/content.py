"""Bytes served by offset: a plan over its base file, a plain file, or bytes in memory.

Reading never goes through mmap, where a truncated file would be a SIGBUS. `read_now` answers from the page cache or not
at all (preadv2(2), RWF_NOWAIT), so an event loop may call it; `read` may wait for a disk and belongs in a thread.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Protocol

from provision.media.plan import Plan
from provision.media.reader import Reader


class Content(Protocol):
    """`size` bytes that can be read at any offset."""

    @property
    def size(self) -> int: ...

    def read_now(self, offset: int, length: int) -> bytes | None:
        """Up to `length` bytes from `offset` on without waiting, at least one; None when that would wait."""

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes; may wait for a disk. Raises Unavailable when the file is not what it was."""

    def close(self) -> None:
        """Give the file back; may be called more than once."""


class Memory:
    """Content that is in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size(self) -> int:
        return len(self._data)

    def read_now(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]

    read = read_now

    def close(self) -> None:
        self._data = b""


class PlanContent(Reader):
    """A plan's bytes. The base stays open, so whoever has begun is not hurt when it is removed.

    Raises Unavailable at once when the base is missing or has another size than the plan.
    """

    _nowait = True

    @property
    def size(self) -> int:
        return self.plan.size

    def read_now(self, offset: int, length: int) -> bytes | None:
        if not self._nowait:
            return None
        buffer = bytearray(length)
        try:
            got = os.preadv(self._fd, [buffer], offset, os.RWF_NOWAIT)
        except OSError as error:
            self._nowait = error.errno == errno.EAGAIN  # other errors: no such flag on this file system
            return None
        if got == 0:
            return None
        return self.plan.overlay(offset, bytes(memoryview(buffer)[:got]))

    read = Reader.pread


def open_file(path: Path, size: int, digest: str) -> PlanContent:
    """A plain file of a base image as content: a plan with no patches."""
    return PlanContent(Plan(path, digest, size, (), digest))
