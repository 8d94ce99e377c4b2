"""The hash of a PE image that Secure Boot signs and firmware measures (Microsoft, "Windows Authenticode Portable
Executable Signature Format", section "Calculating the PE Image Hash")."""

from __future__ import annotations

import hashlib
import struct

from provision.errors import Invalid

_PE, _PE32_PLUS, _PE32 = b"PE\0\0", 0x20B, 0x10B
_SECTION = 40
_REMEDY = "take an image that firmware can start"


def digest(image: bytes, subject: str) -> bytes:
    """SHA-256 of everything but the checksum, the signatures and where they stand. Raises Invalid for what is no PE."""
    try:
        return _digest(image)
    except (struct.error, ValueError):
        raise Invalid(subject, "is not a whole PE image", _REMEDY) from None


def _digest(image: bytes) -> bytes:
    (at,) = struct.unpack_from("<I", image, 0x3C)
    if image[at : at + 4] != _PE:
        raise ValueError
    count, optional_size = struct.unpack_from("<H12xH", image, at + 6)
    optional = at + 24
    (magic,) = struct.unpack_from("<H", image, optional)
    if magic not in (_PE32_PLUS, _PE32):
        raise ValueError
    checksum, directories = optional + 64, optional + (112 if magic == _PE32_PLUS else 96)
    (header_size,) = struct.unpack_from("<I", image, optional + 60)
    signatures = directories + 4 * 8
    signature_size = 0
    if struct.unpack_from("<I", image, directories - 4)[0] > 4:
        _, signature_size = struct.unpack_from("<II", image, signatures)
    hasher = hashlib.sha256()
    hasher.update(image[:checksum])
    hasher.update(image[checksum + 4 : signatures])
    hasher.update(image[signatures + 8 : header_size])
    done = header_size
    for start, size in _sections(image, optional + optional_size, count):
        if start + size > len(image):
            raise ValueError
        hasher.update(image[start : start + size])
        done += size
    # What follows the last section, but for the signatures at the end.
    end = len(image) - signature_size
    if done > end:
        raise ValueError
    hasher.update(image[done:end])
    return hasher.digest()


def _sections(image: bytes, table: int, count: int) -> list[tuple[int, int]]:
    """Where each section's bytes stand and how many they are, in the order of the file."""
    rows = (struct.unpack_from("<II", image, table + number * _SECTION + 16) for number in range(count))
    return sorted((start, size) for size, start in rows if size)
