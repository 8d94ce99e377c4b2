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
from provision.media.compression import CHUNK, FORMATS, Damaged, decompress, detect
from provision.media.newc import FEATURES, GROUP, MAGICS, MARKER, PASSWD, CpioScanner

CONTRACT = b"1\n"
ALIVE = "alive"
"""The word of an image that goes on saying that it is up."""
IDENTITY = "identity"
"""The word of an image that keeps its host's identity on a disk."""
SIGNED = "signed"
"""The word of an image that looks at the signature of its host's seed."""
MOST_MEMBERS = 1000
"""Archives of a file; what makes initrds puts a handful into one."""
MOST_UNPACKED = 64 << 30
"""Bytes that one archive may unpack to: a few MiB can be made to unpack for days."""


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
                if len(members) == MOST_MEMBERS:
                    raise Invalid(subject, f"holds more than {MOST_MEMBERS} archives", "build the initrd again")
                previous = members[-1].format if members else ""
                format_, found, end = _member(file, offset, previous, scratch, subject)
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
    """The features, sorted; a word outside the contract's alphabet says nothing."""
    words = content.decode("ascii", errors="replace").split("\n")
    return tuple(sorted({word for word in words if re.fullmatch(r"[a-z0-9-]{1,32}", word)}))


def _member(
    file: BinaryIO, offset: int, previous: str, scratch: Path, subject: str
) -> tuple[str, dict[str, bytes], int]:
    """The format, markers and end of the member that starts at `offset`, after one of the format `previous`."""
    file.seek(offset)
    head = file.read(6)
    format_ = "cpio" if head in MAGICS else detect(head)
    where = f"its archive at byte {offset}"
    if format_ is None:
        known = ", ".join(FORMATS)
        raise Invalid(subject, f"{where} has no known format", f"the kernel reads newc, {known}")
    # The kernel goes through zeros after a plain archive four by four, and through those after others one by one.
    if offset % 4 and "cpio" in (format_, previous):
        raise Invalid(subject, f"{where} does not start on a multiple of 4", "pad what stands before it with zeros")
    file.seek(offset)
    try:
        if format_ == "cpio":
            return format_, *_plain(file, offset)
        stream = decompress(file, format_, scratch)
        found = _scan(stream, first=not previous)
        return format_, found, stream.end
    except Damaged as error:
        raise Invalid(subject, f"{where} ({format_}) {error}", "build the initrd again") from None


def _plain(file: BinaryIO, offset: int) -> tuple[dict[str, bytes], int]:
    """The markers of a plain archive, and where it ends. Padding that is missing at the end of the file is none that
    the kernel would miss: an import puts zeros there."""
    scanner, end = CpioScanner(), offset
    while not scanner.complete:
        data = file.read(CHUNK)
        if data:
            end += scanner.feed(data)
            continue
        scanner.feed(bytes(-end % 4))
        if not scanner.complete:
            raise Damaged("ends before its trailer")
    return scanner.found, end


def _scan(stream: Iterable[bytes], first: bool) -> dict[str, bytes]:
    """Read a decompressed member, which may itself be several archives; the markers that these have."""
    markers: dict[str, bytes] = {}
    scanner: CpioScanner | None = None
    complete, position = False, 0
    for piece in _nonempty(stream):
        data = piece
        if position + len(data) > MOST_UNPACKED:
            raise Damaged(f"unpacks to more than {MOST_UNPACKED >> 30} GiB")
        while data:
            if scanner is None:
                rest = data.lstrip(b"\0")
                position += len(data) - len(rest)
                data = rest
                if not data:
                    break
                if position and first and not complete:
                    raise Damaged("begins with zeros, which the kernel takes for an entry")
                if position % 4:
                    raise Damaged("has an entry that does not start on a multiple of 4")
                scanner, complete = CpioScanner(), False
            taken = scanner.feed(data)
            position += taken
            data = data[taken:]
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
