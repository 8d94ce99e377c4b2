"""What a machine wrote to a disk, in order: the log of QEMU's `blklogwrites`, in the format of dm-log-writes.

The format (Linux, drivers/md/dm-log-writes.c and Documentation/admin-guide/device-mapper/log-writes.rst) is made of
sectors and little-endian. The first sector has magic, version, number of entries and the size of a sector. Each entry
has a sector for itself (first sector, number of sectors, flags, length of data) and, unless it is a discard or a flush
alone, the data of those sectors behind it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from provision.errors import Invalid

_SUPER, _ENTRY = struct.Struct("<QQQI"), struct.Struct("<QQQQ")
_MAGIC, _VERSION = 0x6A736677736872, 1
_FLUSH, _FUA, _DISCARD, _MARK = 1, 2, 4, 8
SECTOR = 512


@dataclass(frozen=True)
class Write:
    """`size` bytes at `offset` of the disk, which stand at `at` in the log; None: zeros, as after a discard.

    `forced`: it was on the disk's medium when it was done (FUA).
    """

    offset: int
    size: int
    at: int | None
    forced: bool = False


@dataclass(frozen=True)
class Flush:
    """Everything that was written before is on the disk's medium."""


Entry = Write | Flush


def arguments(name: str, disk: Path, log: Path) -> tuple[str, ...]:
    """QEMU's arguments for a disk in the raw file `disk`, whose writes go to the file `log`, which exists and is empty.

    The device that is attached to the node `name` has a write cache, so its machine says when it wants a flush.
    """
    node = f"driver=blklogwrites,node-name={name},log-sector-size={SECTOR}"
    file = f"file.driver=file,file.filename={_escaped(disk)}"
    return "-blockdev", f"{node},{file},log.driver=file,log.filename={_escaped(log)}"


def read(path: Path) -> tuple[Entry, ...]:
    """All entries of a log; a write that asked for a flush before it is two. Raises Invalid when it is none."""
    with path.open("rb") as log:
        head = log.read(_SUPER.size)
        if len(head) < _SUPER.size or _SUPER.unpack(head)[:2] != (_MAGIC, _VERSION):
            raise Invalid(str(path), "is not a log of writes in version 1 of dm-log-writes")
        _, _, count, sector = _SUPER.unpack(head)
        return tuple(_entries(log, count, sector, path))


def content(write: Write, log: BinaryIO) -> bytes:
    """What was written, from its open log."""
    if write.at is None:
        return bytes(write.size)
    log.seek(write.at)
    return log.read(write.size)


def _entries(log: BinaryIO, count: int, sector: int, path: Path) -> Iterator[Entry]:
    at, end = sector, path.stat().st_size
    for number in range(count):
        log.seek(at)
        head = log.read(_ENTRY.size)
        at += sector
        if len(head) < _ENTRY.size:
            raise Invalid(str(path), f"ends in entry {number} of {count}")
        first, sectors, flags, _ = _ENTRY.unpack(head)
        if flags & _MARK:
            raise Invalid(str(path), f"has a mark as entry {number}, which QEMU never writes")
        if flags & _FLUSH:
            yield Flush()
        if not sectors:
            continue
        size = sectors * sector
        if flags & _DISCARD:
            yield Write(first * sector, size, None)
            continue
        if at + size > end:
            raise Invalid(str(path), f"ends in the data of entry {number} of {count}")
        yield Write(first * sector, size, at, bool(flags & _FUA))
        at += size


def _escaped(path: Path) -> str:
    """A path inside an option of QEMU, where a comma ends the value."""
    return str(path).replace(",", ",,")
