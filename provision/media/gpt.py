"""GUID partition tables (UEFI specification 2.10, sections 5.2.3 and 5.3), on disks with sectors of 512 bytes."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from provision.errors import Invalid

SECTOR = 512
EFI_SYSTEM = UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
BIOS_BOOT = UUID("21686148-6449-6e6f-744e-656564454649")
LINUX = UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")

_HEADER = struct.Struct("<8s4sIIIQQQQ16sQIII")
_ENTRY = struct.Struct("<16s16sQQQ72s")
_COUNT = 128
_ARRAY_SECTORS = _COUNT * _ENTRY.size // SECTOR
FIRST_USABLE = 2 + _ARRAY_SECTORS
FIRST_USABLE_TWICE = FIRST_USABLE + _ARRAY_SECTORS
"""The same where there is room for the entries twice."""
TAIL = 1 + _ARRAY_SECTORS
"""Sectors at the end of the disk that the backup table takes."""


@dataclass(frozen=True)
class Partition:
    """One partition: sectors `first` to `last`, both included."""

    type: UUID
    guid: UUID
    first: int
    last: int
    name: str

    @property
    def offset(self) -> int:
        """Where it starts, in bytes."""
        return self.first * SECTOR

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return (self.last - self.first + 1) * SECTOR


@dataclass(frozen=True)
class Table:
    """A disk's partitions in the order of its table, and the first sector that one may have."""

    guid: UUID
    partitions: tuple[Partition, ...]
    first_usable: int = FIRST_USABLE


def write_table(path: Path, table: Table) -> None:
    """Write protective MBR, primary and backup table to the disk image at `path`, whose size they fit.

    The boot code in the first 440 bytes of the MBR is left alone.
    """
    sectors = path.stat().st_size // SECTOR
    array = b"".join(
        _ENTRY.pack(p.type.bytes_le, p.guid.bytes_le, p.first, p.last, 0, p.name.encode("utf-16-le"))
        for p in table.partitions
    ).ljust(_COUNT * _ENTRY.size, b"\0")
    with path.open("r+b") as disk:
        disk.seek(440)
        disk.write(_protective(sectors))
        disk.write(_header(table, array, sectors, backup=False).ljust(SECTOR, b"\0") + array)
        disk.seek((sectors - TAIL) * SECTOR)
        disk.write(array + _header(table, array, sectors, backup=True).ljust(SECTOR, b"\0"))


def read_table(path: Path) -> Table:
    """Read the table and check both copies and their CRCs; raises Invalid when one is wrong or they differ."""
    sectors = path.stat().st_size // SECTOR
    with path.open("rb") as disk:
        first, primary = _read_copy(path, disk.read(SECTOR * 2)[SECTOR:], disk, 1, sectors - 1)
        disk.seek((sectors - 1) * SECTOR)
        second, backup = _read_copy(path, disk.read(SECTOR), disk, sectors - 1, 1)
    if primary != backup or first != second:
        raise Invalid(str(path), "has two partition tables that differ")
    guid, first_usable = first
    entries = (_ENTRY.unpack_from(primary, i) for i in range(0, len(primary), _ENTRY.size))
    partitions = tuple(
        Partition(UUID(bytes_le=e[0]), UUID(bytes_le=e[1]), e[2], e[3], e[5].decode("utf-16-le").rstrip("\0"))
        for e in entries
        if any(e[0])
    )
    return Table(guid, partitions, first_usable)


def _protective(sectors: int) -> bytes:
    # Disk signature and padding, one record over the whole disk, an empty one with the active flag (some BIOSes boot
    # no disk without it, and UEFI forbids it on the first), two more, the magic.
    record = struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xEE, b"\xff\xff\xff", 1, min(sectors - 1, 0xFFFFFFFF))
    active = struct.pack("<B3sB3sII", 0x80, b"\0\0\0", 0, b"\0\0\0", 1, 1)
    return b"\0" * 6 + (record + active).ljust(64, b"\0") + b"\x55\xaa"


def _header(table: Table, array: bytes, sectors: int, *, backup: bool) -> bytes:
    here, other = (sectors - 1, 1) if backup else (1, sectors - 1)
    start = sectors - TAIL if backup else 2
    last = sectors - TAIL - 1
    fields = (here, other, table.first_usable, last, table.guid.bytes_le, start, _COUNT, _ENTRY.size)
    # The CRC is taken over the header with its own field zero.
    blank = _HEADER.pack(b"EFI PART", b"\0\0\1\0", _HEADER.size, 0, 0, *fields, zlib.crc32(array))
    return _HEADER.pack(b"EFI PART", b"\0\0\1\0", _HEADER.size, zlib.crc32(blank), 0, *fields, zlib.crc32(array))


def _read_copy(path: Path, sector: bytes, disk: BinaryIO, here: int, other: int) -> tuple[tuple[UUID, int], bytes]:
    if len(sector) < SECTOR or sector[:8] != b"EFI PART":
        raise Invalid(str(path), f"has no partition table in sector {here}")
    size, crc = struct.unpack_from("<II", sector, 12)
    if not _HEADER.size <= size <= SECTOR or zlib.crc32(sector[:16] + b"\0" * 4 + sector[20:size]) != crc:
        raise Invalid(str(path), f"has a damaged partition table in sector {here}")
    *_, mine, alternate, usable, _, guid, start, count, entry, array_crc = _HEADER.unpack_from(sector)
    if (mine, alternate, entry) != (here, other, _ENTRY.size):
        raise Invalid(str(path), f"has a partition table in sector {here} that belongs elsewhere")
    disk.seek(start * SECTOR)
    array = disk.read(count * entry)
    if zlib.crc32(array) != array_crc:
        raise Invalid(str(path), f"has damaged partition entries at sector {start}")
    return (UUID(bytes_le=guid), usable), array
