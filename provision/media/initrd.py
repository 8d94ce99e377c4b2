"""Initial RAM disks: concatenated newc archives, each plain or compressed, with zeros between them.

The grammar is the kernel's (Documentation/driver-api/early-userspace/buffer-format.rst and init/initramfs.c). A file
that the kernel would only complain about in its log, and then boot without, is refused here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from provision.errors import Invalid
from provision.media.compression import CHUNK, Damaged, decompress, detect

MARKER = "etc/provision-seed-contract"
"""An image that can consume a seed says so with this file, which holds the contract's number and a newline."""
CONTRACT = b"1\n"
FEATURES = "etc/provision-seed-features"
"""What an image does beyond the contract: one word on each line of this file."""
ALIVE = "alive"
"""The word of an image that goes on saying that it is up."""
PASSWD = "etc/provision-seed-passwd"
GROUP = "etc/provision-seed-group"
"""The accounts of the image's final root: copies of its /etc/passwd and /etc/group."""
_MARKERS = frozenset((MARKER, FEATURES, PASSWD, GROUP))
_MARKER_LIMIT = 256 * 1024

_TRAILER = b"TRAILER!!!"
_NAME_LIMIT = 4096


@dataclass(frozen=True)
class Member:
    """One archive of an initrd file: byte offset, size in the file, and format ("cpio", "gzip", "zstd", ...)."""

    offset: int
    size: int
    format: str


@dataclass(frozen=True)
class Initrd:
    """A checked initrd: its members, the content of the seed-contract marker (None when there is none), the words of
    the image's features, and the files that name its accounts, where it has them."""

    members: tuple[Member, ...]
    marker: bytes | None
    features: tuple[str, ...] = ()
    passwd: bytes | None = None
    group: bytes | None = None


class CpioScanner:
    """Reads one newc archive pushed to it in pieces, in bounded memory; knows when its trailer has been read."""

    def __init__(self) -> None:
        self.complete = False
        self.found: dict[str, bytes] = {}
        self._kept = ""
        self._buffer = bytearray()
        self._skip = 0
        self._keep: bytearray | None = None
        self._kept_size = 0

    @property
    def marker(self) -> bytes | None:
        """The content of the seed-contract marker, so far."""
        return self.found.get(MARKER)

    def feed(self, data: bytes) -> int:
        """Take bytes of the archive; returns how many belong to it (fewer than given only after the trailer)."""
        view, position = memoryview(data), 0
        while position < len(data) and not self.complete:
            if self._skip:
                step = min(self._skip, len(data) - position)
                if self._keep is not None:
                    self._keep += view[position : position + step]
                self._skip -= step
            else:
                step = min(self._wanted() - len(self._buffer), len(data) - position)
                self._buffer += view[position : position + step]
                self._header()
            position += step
        return position

    def _wanted(self) -> int:
        """Bytes of header and name, padded to 4, as far as that is known."""
        if len(self._buffer) < 110:
            return 110
        size = self._field(11)
        if not 0 < size <= _NAME_LIMIT:
            raise Damaged("has an entry with an impossible name length")
        return -(-(110 + size) // 4) * 4

    def _field(self, index: int) -> int:
        raw = bytes(self._buffer[6 + 8 * index : 14 + 8 * index])
        if not re.fullmatch(rb"[0-9A-Fa-f]{8}", raw):
            raise Damaged("has an entry whose header is not hexadecimal")
        return int(raw, 16)

    def _header(self) -> None:
        if len(self._buffer) >= 6 and bytes(self._buffer[:6]) not in (b"070701", b"070702"):
            raise Damaged("has something that is no newc entry")
        if len(self._buffer) < 110 or len(self._buffer) < self._wanted():
            return
        size = self._field(6)
        name = bytes(self._buffer[110 : 110 + self._field(11) - 1])
        self._buffer.clear()
        self._finish_marker()
        self._skip = -(-size // 4) * 4
        if name == _TRAILER:
            self.complete = True
        elif (path := name.decode(errors="replace").removeprefix(".").lstrip("/")) in _MARKERS:
            if size > _MARKER_LIMIT:
                raise Damaged(f"has more than {_MARKER_LIMIT >> 10} KiB of /{path}")
            self._kept, self._keep, self._kept_size = path, bytearray(), size

    def _finish_marker(self) -> None:
        if self._keep is not None:
            self.found[self._kept], self._keep = bytes(self._keep[: self._kept_size]), None


def inspect_initrd(path: Path, scratch: Path) -> Initrd:
    """Read every member of an initrd file to its trailer; raises Invalid naming the member that is not readable.

    `scratch` is an existing directory for members that a program unpacks; what is put there is deleted again.
    """
    subject = str(path)
    members: list[Member] = []
    markers: dict[str, bytes] = {}
    try:
        with path.open("rb") as file:
            offset = _skip_zeros(file, 0)
            while offset is not None:
                format_, found, end = _member(file, offset, scratch, subject)
                markers |= found
                members.append(Member(offset, end - offset, format_))
                offset = _skip_zeros(file, end)
    except OSError as error:
        raise Invalid(subject, f"cannot be read ({error.strerror})") from None
    if not members:
        raise Invalid(subject, "holds no archive")
    words = _words(markers.get(FEATURES, b""))
    return Initrd(tuple(members), markers.get(MARKER), words, markers.get(PASSWD), markers.get(GROUP))


def _words(content: bytes) -> tuple[str, ...]:
    """The features, sorted; what is no word of the contract's alphabet says nothing."""
    words = content.decode("ascii", errors="replace").split("\n")
    return tuple(sorted({word for word in words if re.fullmatch(r"[a-z0-9-]{1,32}", word)}))


def _member(file: BinaryIO, offset: int, scratch: Path, subject: str) -> tuple[str, dict[str, bytes], int]:
    """The format, markers and end of the member that starts at `offset`."""
    file.seek(offset)
    head = file.read(6)
    format_ = "cpio" if head in (b"070701", b"070702") else detect(head)
    where = f"its archive at byte {offset}"
    if format_ is None:
        raise Invalid(
            subject, f"{where} has no known format", "the kernel reads newc, gzip, bzip2, xz, lzma, lz4, zstd"
        )
    if offset % 4:
        raise Invalid(subject, f"{where} does not start on a multiple of 4", "pad what stands before it with zeros")
    file.seek(offset)
    try:
        if format_ == "cpio":
            scanner, end = CpioScanner(), offset
            while not scanner.complete:
                data = file.read(CHUNK)
                if not data:
                    raise Damaged("ends before its trailer")
                end += scanner.feed(data)
            return format_, scanner.found, end
        stream = decompress(file, format_, scratch)
        found = _scan(stream)
        return format_, found, stream.end
    except Damaged as error:
        raise Invalid(subject, f"{where} ({format_}) {error}", "build the initrd again") from None


def _scan(stream: Iterable[bytes]) -> dict[str, bytes]:
    """Read a decompressed member, which may itself be several archives; the markers that these have."""
    markers: dict[str, bytes] = {}
    scanner: CpioScanner | None = None
    complete = False
    for piece in _nonempty(stream):
        data = piece
        while data:
            if scanner is None:
                data = data.lstrip(b"\0")
                if not data:
                    break
                scanner, complete = CpioScanner(), False
            data = data[scanner.feed(data) :]
            if scanner.complete:
                markers |= scanner.found
                scanner, complete = None, True
    if not complete:
        raise Damaged("ends before its trailer")
    return markers


def _nonempty(stream: Iterable[bytes]) -> Iterator[bytes]:
    return (piece for piece in stream if piece)


def _skip_zeros(file: BinaryIO, offset: int) -> int | None:
    """The offset of the first byte from `offset` on that is not zero; None at the end of the file."""
    file.seek(offset)
    while data := file.read(CHUNK):
        rest = data.lstrip(b"\0")
        if rest:
            return offset + len(data) - len(rest)
        offset += len(data)
    return None
