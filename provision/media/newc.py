"""Reading newc archives as the kernel does (do_header and what follows it in init/initramfs.c), in bounded memory.

Refused is also what the kernel takes and then goes wrong with: after it, entries are lost without an error.
"""

from __future__ import annotations

import re
import stat

from provision.media.compression import Damaged

MAGICS = (b"070701", b"070702")
"""newc without and with checksums."""

MARKER = "etc/provision-seed-contract"
"""An image that can consume a seed says so with this file, which holds the contract's number and a newline."""
FEATURES = "etc/provision-seed-features"
"""What an image does beyond the contract: one word on each line of this file."""
PASSWD = "etc/provision-seed-passwd"
GROUP = "etc/provision-seed-group"
"""The accounts of the image's final root: copies of its /etc/passwd and /etc/group."""
_MARKERS = frozenset((MARKER, FEATURES, PASSWD, GROUP))
_MARKER_LIMIT = 256 * 1024

_TRAILER = b"TRAILER!!!"
_NAME_LIMIT = 4096
_HEADER = 110


class CpioScanner:
    """Reads one newc archive pushed to it in pieces; knows when its trailer has been read.

    The archive starts on a multiple of 4, and so does every entry of it; zeros may stand between them.
    """

    def __init__(self) -> None:
        self.complete = False
        self.found: dict[str, bytes] = {}
        self._buffer = bytearray()
        self._at = 0  # bytes taken, for alignment
        self._body = self._padding = 0  # what is left of the entry's content, and of the zeros after it
        self._sum: int | None = None  # what the rest of the content must add up to
        self._name = b""
        self._kept = bytearray()

    @property
    def marker(self) -> bytes | None:
        """The content of the seed-contract marker, so far."""
        return self.found.get(MARKER)

    def feed(self, data: bytes) -> int:
        """Take bytes of the archive; returns how many belong to it (fewer than given only after the trailer)."""
        view, position = memoryview(data), 0
        while position < len(data) and not self.complete:
            rest = view[position:]
            if self._body:
                step = self._content(rest)
            elif self._padding:
                step = min(self._padding, len(rest))
                self._padding -= step
            elif not self._buffer and rest[0] == 0:
                step = len(rest) - len(bytes(rest).lstrip(b"\0"))
            else:
                step = self._head(rest)
            position += step
            self._at += step
            self.complete = self._name == _TRAILER and not self._body and not self._padding
        return position

    def _content(self, rest: memoryview) -> int:
        step = min(self._body, len(rest))
        if self._sum is not None:
            self._sum = (self._sum - sum(rest[:step])) & 0xFFFFFFFF
        if self._path in _MARKERS:
            self._kept += rest[:step]
        self._body -= step
        if not self._body:
            self._finish()
        return step

    def _head(self, rest: memoryview) -> int:
        if not self._buffer and self._at % 4:
            raise Damaged("has an entry that does not start on a multiple of 4")
        step = min(self._wanted() - len(self._buffer), len(rest))
        self._buffer += rest[:step]
        if len(self._buffer) >= 6 and bytes(self._buffer[:6]) not in MAGICS:
            raise Damaged("has something that is not a newc entry")
        if len(self._buffer) >= _HEADER and len(self._buffer) == self._wanted():
            self._entry()
        return step

    def _wanted(self) -> int:
        """Bytes of header and name, padded to 4, as far as that is known."""
        if len(self._buffer) < _HEADER:
            return _HEADER
        size = self._field(11)
        if not 0 < size <= _NAME_LIMIT:
            raise Damaged("has an entry with an impossible name length")
        return -(-(_HEADER + size) // 4) * 4

    def _field(self, index: int) -> int:
        raw = bytes(self._buffer[6 + 8 * index : 14 + 8 * index])
        if not re.fullmatch(rb"[0-9A-Fa-f]{8}", raw):
            raise Damaged("has an entry whose header is not hexadecimal")
        return int(raw, 16)

    def _entry(self) -> None:
        mode, size = self._field(1), self._field(6)
        name = bytes(self._buffer[_HEADER : _HEADER + self._field(11)])
        if not name.endswith(b"\0"):
            raise Damaged("has an entry whose name does not end")
        self._name = name.split(b"\0", 1)[0]
        if size and self._name != _TRAILER and not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            raise Damaged("has a directory or a device with content")
        if stat.S_ISLNK(mode) and size > _NAME_LIMIT:
            raise Damaged("has a symbolic link that is too long")
        if (path := self._path) in _MARKERS and size > _MARKER_LIMIT:
            raise Damaged(f"has more than {_MARKER_LIMIT >> 10} KiB of /{path}")
        # Only of files whose content it writes does the kernel look at the sum.
        summed = bytes(self._buffer[:6]) == MAGICS[1] and stat.S_ISREG(mode)
        self._sum = self._field(12) if summed else None
        self._body, self._padding = size, -size % 4
        self._buffer.clear()
        self._kept.clear()
        if not size:
            self._finish()

    @property
    def _path(self) -> str:
        return self._name.decode(errors="replace").removeprefix(".").lstrip("/")

    def _finish(self) -> None:
        if self._sum:
            raise Damaged("has a file whose checksum is wrong")
        if (path := self._path) in _MARKERS:
            self.found[path] = bytes(self._kept)
