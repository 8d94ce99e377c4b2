"""Bytes served by offset: a plan over its base file, a plain file, or bytes in memory.

Reading never goes through mmap, where a truncated file would be a SIGBUS. `read_now` answers from the page cache or not
at all (preadv2(2), RWF_NOWAIT), so an event loop may call it; `read` may wait for a disk and belongs in a thread.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Protocol

from provision.errors import Unavailable
from provision.media.plan import Plan


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


class PlanContent:
    """A plan's bytes. It keeps its base file open, so a reader that has begun is not hurt when the base is removed.

    Raises Unavailable at once when the base is missing or has another size than the plan.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._nowait = True
        self._descriptor = -1
        try:
            self._descriptor = os.open(plan.base, os.O_RDONLY | os.O_CLOEXEC)
            found = os.fstat(self._descriptor).st_size
        except OSError as error:
            raise self._broken(f"cannot be read ({error.strerror})") from None
        if found != plan.size:
            self.close()
            raise self._broken(f"has {found} bytes instead of {plan.size}")

    @property
    def size(self) -> int:
        return self.plan.size

    def read_now(self, offset: int, length: int) -> bytes | None:
        if not self._nowait:
            return None
        buffer = bytearray(length)
        try:
            got = os.preadv(self._descriptor, [buffer], offset, os.RWF_NOWAIT)
        except OSError as error:
            self._nowait = error.errno == errno.EAGAIN  # other errors: no such flag on this file system
            return None
        if got == 0:
            return None
        return self.plan.overlay(offset, bytes(memoryview(buffer)[:got]))

    def read(self, offset: int, length: int) -> bytes:
        parts = []
        at = offset
        while at < offset + length:
            try:
                part = os.pread(self._descriptor, offset + length - at, at)
            except OSError as error:
                raise self._broken(f"cannot be read at byte {at} ({error.strerror})") from None
            if not part:
                raise self._broken(f"ends at byte {at}, but should have {self.size}")
            parts.append(part)
            at += len(part)
        return self.plan.overlay(offset, parts[0] if len(parts) == 1 else b"".join(parts))

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _broken(self, fact: str) -> Unavailable:
        return Unavailable(f"base file {self.plan.base.name}", fact, "import the base image again")


def open_file(path: Path, size: int, digest: str) -> PlanContent:
    """A plain file of a base image as content: a plan with no patches."""
    return PlanContent(Plan(path, digest, size, (), digest))
