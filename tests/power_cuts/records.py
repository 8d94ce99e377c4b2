"""What a disk holds after a power cut, read from the formats alone: nothing here knows how it was written."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import BinaryIO

from provision.media import identity
from provision.media.gpt import SECTOR

_HEADER = struct.Struct("<8s4sIIIQQQQ16sQIII")
_ENTRY = struct.Struct("<16s16sQQQ72s")
_ENVIRONMENT = b"# GRUB Environment Block\n"
Parts = dict[str, tuple[int, int]]
"""Partitions by name: offset and size in bytes."""


def table(disk: Path) -> Parts | None:
    """The partitions by the table at the beginning of the disk, which is the one that Linux and GRUB go by; None when
    that is not whole (UEFI specification 2.10, section 5.3)."""
    with disk.open("rb") as file:
        return _table(file, 1)


def backup(disk: Path) -> Parts | None:
    """The same by the table at its end."""
    with disk.open("rb") as file:
        return _table(file, disk.stat().st_size // SECTOR - 1)


def newest(disk: Path) -> bytes | None:
    """The identity on the configuration partition; None when there is none, or no partition."""
    place = (table(disk) or {}).get(identity.NAME)
    if place is None:
        return None
    with disk.open("rb") as file:
        file.seek(place[0])
        found = identity.newest(file.read(place[1]))
    return found.content if found is not None else None


def environment_at(disk: Path) -> int:
    """At which byte GRUB's environment block begins: a file at the beginning of the EFI system partition."""
    offset, _ = (table(disk) or {})["esp"]
    with disk.open("rb") as file:
        file.seek(offset)
        content = file.read(4 << 20)
    (place,) = (at for at in range(0, len(content), SECTOR) if content.startswith(_ENVIRONMENT, at))
    return offset + place


def environment(disk: Path) -> dict[str, str] | None:
    """The variables of GRUB's environment block; None when there is none that GRUB would read."""
    try:
        at = environment_at(disk)
    except (KeyError, ValueError):
        return None
    with disk.open("rb") as file:
        file.seek(at)
        lines = file.read(2 * SECTOR).rstrip(b"#").decode("ascii", "replace").splitlines()
    found = dict(line.partition("=")[::2] for line in lines[1:])
    return found if found.keys() == {"slot", "try", "tries", "failed"} and found["slot"] in ("a", "b") else None


def _table(file: BinaryIO, sector: int) -> Parts | None:
    file.seek(sector * SECTOR)
    header = file.read(SECTOR)
    (magic, _, size, crc, _, here, _, _, _, _, first, count, length, entries_crc) = _HEADER.unpack_from(header)
    blank = header[:16] + bytes(4) + header[20:size]
    if magic != b"EFI PART" or here != sector or length != _ENTRY.size or zlib.crc32(blank) != crc:
        return None
    file.seek(first * SECTOR)
    entries = file.read(count * length)
    if zlib.crc32(entries) != entries_crc:
        return None
    found = (_ENTRY.unpack_from(entries, at) for at in range(0, len(entries), length))
    return {
        name.decode("utf-16-le").rstrip("\0"): (begin * SECTOR, (end - begin + 1) * SECTOR)
        for kind, _, begin, end, _, name in found
        if any(kind)
    }
