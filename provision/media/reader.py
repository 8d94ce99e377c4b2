"""Reading a medium through its plan: at any offset, piece by piece, or as a digest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from provision.errors import Unavailable
from provision.media.layout import Progress
from provision.media.plan import Plan

CHUNK = 1024 * 1024


class Reader:
    """An open medium. Safe to share between threads: every read names its own offset.

    Reads go through `os.pread`, never a memory map: a file cut short under a map would kill the process (SIGBUS).
    Raises Unavailable, naming the file, whenever the base has gone or is not what the plan was made for.
    """

    def __init__(self, plan: Plan) -> None:
        self._fd = -1
        self.plan = plan
        try:
            self._fd = os.open(plan.base, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise _broken(plan, f"cannot be opened ({error.strerror})") from None
        self._check_size()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the base file; idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _check_size(self) -> None:
        size = os.fstat(self._fd).st_size
        if size != self.plan.size:
            raise _broken(self.plan, f"has {size} bytes instead of {self.plan.size}")

    def pread(self, offset: int, length: int) -> bytes:
        """The medium's bytes from `offset` on: `length` of them, or fewer only where the medium ends."""
        length = max(0, min(length, self.plan.size - offset))
        return self.plan.overlay(offset, self._base(offset, length))

    def chunks(self, start: int = 0, stop: int | None = None, size: int = CHUNK) -> Iterator[bytes]:
        """The bytes from `start` up to `stop` (default: the end), `size` at a time."""
        end = self.plan.size if stop is None else min(stop, self.plan.size)
        for offset in range(start, end, size):
            yield self.pread(offset, min(size, end - offset))

    def digest(self, progress: Progress = lambda stage, done: None) -> str:
        """The hex SHA-256 of the whole medium, computed now."""
        digest, done = hashlib.sha256(), 0
        for chunk in self.chunks():
            digest.update(chunk)
            done += len(chunk)
            progress("hashing", done / self.plan.size)
        return digest.hexdigest()

    def _base(self, offset: int, length: int) -> bytes:
        parts: list[bytes] = []
        while length > 0:
            try:
                part = os.pread(self._fd, length, offset)
            except OSError as error:
                raise _broken(self.plan, f"cannot be read ({error.strerror})") from None
            if not part:
                raise _broken(self.plan, f"ends at byte {offset} instead of {self.plan.size}")
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _broken(plan: Plan, fact: str) -> Unavailable:
    return Unavailable(str(plan.base), fact, "import the base image again")
