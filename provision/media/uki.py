"""Unified kernel images: kernel, initrd and command line as sections of one PE program that can be signed as a whole
(Unified Kernel Image specification of the UAPI group; systemd-stub(7))."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from hashlib import sha256

from provision.errors import Invalid

MEASURED = (".linux", ".osrel", ".cmdline", ".initrd")
"""The sections that are put in here, in the order in which systemd-stub measures them into PCR 11."""

_SECTION, _READ_INITIALIZED = 40, 0x40000040
_REMEDY = "give systemd's linuxx64.efi.stub (Debian: systemd-boot-efi)"


def build(stub: bytes, sections: Mapping[str, bytes]) -> bytes:
    """The stub with these sections behind its own; the same bytes every time. Raises Invalid for what is no stub.

    `sections` has one or more of MEASURED, each with its content.
    """
    if strange := sorted(set(sections) - set(MEASURED)):
        raise ValueError(f"{strange[0]} is not a section that is measured")
    try:
        return _build(stub, sections)
    except (struct.error, ValueError, IndexError):
        raise Invalid("stub", "is not a PE program with room for the sections", _REMEDY) from None


def measured(image: bytes, subject: str) -> dict[str, bytes]:
    """The SHA-256 of each section that systemd-stub measures, by its name and in its order. Raises Invalid."""
    try:
        (at,) = struct.unpack_from("<I", image, 0x3C)
        count, optional_size = struct.unpack_from("<H12xH", image, at + 6)
        rows = [struct.unpack_from("<8sI4xII", image, at + 24 + optional_size + n * _SECTION) for n in range(count)]
    except struct.error:
        raise Invalid(subject, "is not a unified kernel image", "sign it again: 'provision sb sign'") from None
    found = {name.rstrip(b"\0").decode("latin-1"): (size, stored, start) for name, size, stored, start in rows}
    places = {name: found[name] for name in MEASURED if name in found}
    if any(size > stored or start + stored > len(image) for size, stored, start in places.values()):
        raise Invalid(subject, "is not a whole unified kernel image", "sign it again: 'provision sb sign'")
    view = memoryview(image)
    return {name: sha256(view[start : start + size]).digest() for name, (size, _, start) in places.items()}


def _build(stub: bytes, sections: Mapping[str, bytes]) -> bytes:
    (at,) = struct.unpack_from("<I", stub, 0x3C)
    if stub[at : at + 4] != b"PE\0\0":
        raise ValueError
    count, optional_size = struct.unpack_from("<H12xH", stub, at + 6)
    optional = at + 24
    section_alignment, file_alignment = struct.unpack_from("<II", stub, optional + 32)
    (header_size,) = struct.unpack_from("<I", stub, optional + 60)
    table = optional + optional_size
    rows = [struct.unpack_from("<8sIIII", stub, table + number * _SECTION) for number in range(count)]
    if table + (count + len(sections)) * _SECTION > header_size:
        raise ValueError
    address = max(start + size for _, size, start, _, _ in rows)
    # Behind the last section stands a symbol table, which no firmware reads and every tool sees differently.
    end = max(offset + size for _, _, _, size, offset in rows)
    image = bytearray(stub[:end])
    for number, name in enumerate(one for one in MEASURED if one in sections):
        content = sections[name]
        address, offset = _up(address, section_alignment), _up(len(image), file_alignment)
        image += bytes(offset - len(image)) + content + bytes(_up(len(content), file_alignment) - len(content))
        row = struct.pack("<8sIIII12xI", name.encode(), len(content), address, len(image) - offset, offset, 0)
        row = row[:36] + struct.pack("<I", _READ_INITIALIZED)
        place = table + (count + number) * _SECTION
        image[place : place + _SECTION] = row
        address += len(content)
    struct.pack_into("<H", image, at + 6, count + len(sections))
    struct.pack_into("<II", image, at + 12, 0, 0)  # the symbol table and its entries
    struct.pack_into("<I", image, optional + 56, _up(address, section_alignment))
    struct.pack_into("<I", image, optional + 64, 0)  # the checksum, which firmware does not look at
    return bytes(image)


def _up(value: int, alignment: int) -> int:
    return -(-value // alignment) * alignment
