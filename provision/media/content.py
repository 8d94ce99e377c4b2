"""Bytes served by offset: a plan over its base file, a plain file, or bytes in memory.

Reading never goes through mmap, where a truncated file would be a SIGBUS. `read_now` answers from the page cache or not
at all (preadv2(2), RWF_NOWAIT), so an event loop may call it; `read` may wait for a disk and belongs in a thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from pathlib import Path
from typing import Protocol

from provision.media.plan import Plan
from provision.media.reader import Reader

_SAMPLE, _BLOCK = 64 * 1024, 1024 * 1024
_TRUST_SECONDS = 1.0
_MOST_SEEN = 16 * 1024
_seen_warm: dict[tuple[Path, int], float] = {}
"""When a block of a base was last found in the page cache."""
_AHEAD = 4 * 1024 * 1024


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

    def read_now(self, offset: int, length: int) -> bytes | None:
        return self.read(offset, length)

    def read(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]

    def close(self) -> None:
        self._data = b""


class PlanContent(Reader):
    """A plan's bytes. The base stays open, so a reader that has begun is not hurt when it is removed.

    Raises Unavailable at once when the base is missing or has another size than the plan.
    """

    _nowait = True

    @property
    def size(self) -> int:
        return self.plan.size

    def read_now(self, offset: int, length: int) -> bytes | None:
        buffer = bytearray(length)
        got = self._preadv(buffer, offset)
        return self.plan.overlay(offset, bytes(memoryview(buffer)[:got])) if got else None

    def base_now(self, buffer: memoryview, offset: int) -> int:
        """Read base bytes from `offset` on into `buffer`, and return how many came without waiting."""
        return self._preadv(buffer, offset)

    def is_warm(self, offset: int, length: int) -> bool:
        """Whether the base's bytes are in the page cache, as far as that can be told without touching all of them.

        A block of which every 64 KiB were there a moment ago counts as there, no matter who asked for it: all hosts
        read the same bases. A piece that slips through costs one wait for one read-ahead.
        """
        return all(self._is_warm(block) for block in range(offset // _BLOCK, (offset + length - 1) // _BLOCK + 1))

    def _is_warm(self, block: int) -> bool:
        now, key = time.monotonic(), (self.plan.base, block)
        if now - _seen_warm.get(key, -_TRUST_SECONDS) < _TRUST_SECONDS:
            return True
        probe, start, stop = bytearray(1), block * _BLOCK, min((block + 1) * _BLOCK, self.size)
        if not all(self._preadv(probe, at) for at in (*range(start, stop, _SAMPLE), stop - 1)):
            return False
        if len(_seen_warm) >= _MOST_SEEN:
            _seen_warm.clear()
        _seen_warm[key] = now
        return True

    def unpatched_length(self, offset: int, stop: int) -> int:
        """How many of the medium's bytes from `offset` on, at most to `stop`, are the base's own."""
        for patch in self.plan.patches:
            if patch.offset + len(patch.data) > offset:
                return max(0, min(patch.offset, stop) - offset)
        return stop - offset

    def next_patch_end(self, offset: int, stop: int) -> int:
        """Up to where (at most `stop`) a reader at `offset` has to read: to the end of the next patch."""
        ends = (patch.offset + len(patch.data) for patch in self.plan.patches)
        return next((min(end, stop) for end in ends if end > offset), stop)

    def send_now(self, sock: socket.socket, offset: int, length: int) -> int:
        """Give base bytes to a non-blocking socket without copying them (sendfile(2)); returns how many it took.

        Raises BlockingIOError when the socket is full, OSError when it is broken. 0 means that the file has ended.
        """
        return os.sendfile(sock.fileno(), self._fd, offset, length)

    def _preadv(self, buffer: bytearray | memoryview, offset: int) -> int:
        """preadv2 with RWF_NOWAIT; 0 when the bytes are not in memory, or not there at all."""
        if not self._nowait:
            return 0
        try:
            return os.preadv(self._fd, [buffer], offset, os.RWF_NOWAIT)
        except OSError as error:
            self._nowait = error.errno == errno.EAGAIN  # other errors: no such flag on this file system
            return 0

    def read(self, offset: int, length: int) -> bytes:
        data = self.pread(offset, length)
        with contextlib.suppress(OSError):
            # A client that reads from the disk mostly reads on: let the kernel fetch what follows while this is being
            # sent.
            os.posix_fadvise(self._fd, offset + length, _AHEAD, os.POSIX_FADV_WILLNEED)
        return data


def open_file(path: Path, size: int, digest: str) -> PlanContent:
    """A plain file of a base image as content: a plan with no patches."""
    return PlanContent(Plan(path, digest, size, (), digest))
