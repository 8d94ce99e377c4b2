"""Partition tables (GPT, UEFI specification 2.10, section 5.3) of disks with sectors of 512 bytes: read, and changed so
that the power may go at any moment."""

import ctypes
import fcntl
import os
import struct
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

SECTOR = 512
LINUX, EFI_SYSTEM = UUID("0fc63daf-8483-4772-8e79-3d69d8477de4"), UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
CONFIG = UUID("7a4ab2a4-0e0e-4f5c-9a8d-6b1c1f7c2d10"), "provision-config"
DATA = LINUX, "provision-data"
ESP = EFI_SYSTEM, "esp"
SLOTS = {"a": (LINUX, "provision-slot-a"), "b": (LINUX, "provision-slot-b")}
UNIFIED = {"a": (EFI_SYSTEM, "provision-esp-a"), "b": (EFI_SYSTEM, "provision-esp-b")}
"""Type and name of the partitions that a host's own disk may have: slots of GRUB, and of signed images."""

_HEADER, _ENTRY = struct.Struct("<8s4sIIIQQQQ16sQIII"), struct.Struct("<16s16sQQQ72s")
_ARRAY = 32
TAIL = 1 + _ARRAY
"""Sectors at the end of the disk that the copy of the table takes."""
_PLACES = (2, 2 + _ARRAY)
"""Where the primary table's entries may stand. Which of the two counts is said by the header, which is one sector."""
_GET_SIZE, _CHANGE, _ADD, _RESIZE = 0x80081272, 0x1269, 1, 3


class Damaged(Exception):
    """Why the disk has no table that can be believed, or takes none."""


@dataclass(frozen=True)
class Partition:
    """Its number, from 1 on; sectors `first` to `last`, both included."""

    number: int
    type: UUID
    guid: UUID
    first: int
    last: int
    attributes: int
    name: str

    @property
    def kind(self):
        """What it is: type and name."""
        return self.type, self.name

    @property
    def size(self):
        """Its bytes."""
        return (self.last - self.first + 1) * SECTOR


@dataclass(frozen=True)
class Table:
    """A disk's table: the first sector that a partition may have, where its entries stand, and the entries."""

    guid: bytes
    first_usable: int
    start: int
    partitions: tuple

    def find(self, kind):
        """The one partition of that type and name, or None."""
        found = [one for one in self.partitions if one.kind == kind]
        return found[0] if len(found) == 1 else None


def device(disk, number, sys="/sys", dev="/dev"):
    """The device of a disk's partition. Raises Damaged."""
    for path in sorted(Path(f"{sys}/block/{disk}").glob("*/partition")):
        if path.read_text().strip() == str(number):
            return f"{dev}/{path.parent.name}"
    raise Damaged(f"has no partition {number} that this kernel knows")


def sectors_of(file):
    """The sectors of a disk, or of a file that stands for one."""
    if os.fstat(file.fileno()).st_size:
        return os.fstat(file.fileno()).st_size // SECTOR
    buffer = bytearray(8)
    fcntl.ioctl(file, _GET_SIZE, buffer)
    return int.from_bytes(buffer, "little") // SECTOR


def read(file):
    """The primary table of the open disk; raises Damaged."""
    header = os.pread(file.fileno(), SECTOR, SECTOR)
    if header[:8] != b"EFI PART":
        raise Damaged("has no partition table")
    size, crc = struct.unpack_from("<II", header, 12)
    if not _HEADER.size <= size <= SECTOR or zlib.crc32(header[:16] + bytes(4) + header[20:size]) != crc:
        raise Damaged("has a damaged partition table")
    *_, mine, _, first, _, guid, start, count, entry, array_crc = _HEADER.unpack_from(header)
    # Anybody may have written this disk: nothing is read by its word.
    array = b""
    if (mine, entry, count) == (1, _ENTRY.size, 128) and start < sectors_of(file):
        array = os.pread(file.fileno(), _ARRAY * SECTOR, start * SECTOR)
    if len(array) != _ARRAY * SECTOR or zlib.crc32(array) != array_crc:
        raise Damaged("has damaged partition entries")
    found = []
    for number in range(count):
        kind, own, low, high, attributes, name = _ENTRY.unpack_from(array, number * entry)
        if any(kind):
            text = name.decode("utf-16-le", "replace").rstrip("\0")
            found.append(Partition(number + 1, UUID(bytes_le=kind), UUID(bytes_le=own), low, high, attributes, text))
    return Table(guid, first, start, tuple(found))


def write(file, table):
    """Make `table` the disk's: the copy at its end first, then the entries where none stand that count, and last the
    header, by which they do. Raises Damaged when a partition is in the way."""
    sectors = sectors_of(file)
    place = next(place for place in _PLACES if place != table.start)
    first_usable = max(table.first_usable, _PLACES[1] + _ARRAY)
    if any(one.first < first_usable or one.last >= sectors - TAIL for one in table.partitions):
        raise Damaged("has partitions where its table would be")
    array = bytearray(_ARRAY * SECTOR)
    for one in table.partitions:
        at, name = (one.number - 1) * _ENTRY.size, one.name.encode("utf-16-le")
        _ENTRY.pack_into(array, at, one.type.bytes_le, one.guid.bytes_le, one.first, one.last, one.attributes, name)
    end = sectors - 1
    for sector, content in (
        (end - _ARRAY, bytes(array)),
        (end, _header(table.guid, array, end, 1, first_usable, end - _ARRAY, end)),
        (place, bytes(array)),
        (1, _header(table.guid, array, 1, end, first_usable, place, end)),
    ):
        os.pwrite(file.fileno(), content, sector * SECTOR)
        os.fsync(file.fileno())
    return replace(table, first_usable=first_usable, start=place)


def _header(guid, array, here, other, first_usable, start, end):
    fields = (here, other, first_usable, end - _ARRAY - 1, guid, start, 128, _ENTRY.size, zlib.crc32(array))
    blank = _HEADER.pack(b"EFI PART", b"\0\0\1\0", _HEADER.size, 0, 0, *fields)
    return _HEADER.pack(b"EFI PART", b"\0\0\1\0", _HEADER.size, zlib.crc32(blank), 0, *fields).ljust(SECTOR, b"\0")


def tell_kernel(file, partition, *, new):
    """Let the kernel know a partition that is new, or longer than before; others of the disk may be in use."""
    # struct blkpg_partition and struct blkpg_ioctl_arg of linux/blkpg.h.
    place = struct.pack("<qqi132x", partition.first * SECTOR, partition.size, partition.number)
    buffer = ctypes.create_string_buffer(place, len(place))
    fcntl.ioctl(file, _CHANGE, struct.pack("@iiiP", _ADD if new else _RESIZE, 0, len(place), ctypes.addressof(buffer)))
