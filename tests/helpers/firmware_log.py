"""Logs of what a firmware has measured, made up: crypto-agile, with SHA-1 and SHA-256."""

from __future__ import annotations

import hashlib
import struct

from provision.tpm.event_log import EventType

SHA1, SHA256 = 4, 11


def header(hashes: tuple[tuple[int, int], ...] = ((SHA1, 20), (SHA256, 32))) -> bytes:
    """The first entry."""
    body = b"Spec ID Event03\0" + struct.pack("<I4B", 0, 0, 2, 0, 2) + struct.pack("<I", len(hashes))
    body += b"".join(struct.pack("<HH", *one) for one in hashes) + b"\0"
    return struct.pack("<II20sI", 0, EventType.NO_ACTION, b"", len(body)) + body


def event(pcr: int, kind: int, data: bytes) -> bytes:
    """An entry whose digests are of its data."""
    digests = struct.pack("<H", SHA1) + hashlib.sha1(data).digest()
    digests += struct.pack("<H", SHA256) + hashlib.sha256(data).digest()
    return struct.pack("<III", pcr, kind, 2) + digests + struct.pack("<I", len(data)) + data


def secure_boot(value: bytes = b"\1") -> bytes:
    """UEFI_VARIABLE_DATA of the variable SecureBoot."""
    name = "SecureBoot"
    return bytes(16) + struct.pack("<QQ", len(name), len(value)) + name.encode("utf-16-le") + value


BOOT = (
    (0, EventType.S_CRTM_VERSION, "9.1".encode("utf-16-le") + b"\0\0"),
    (7, EventType.EFI_VARIABLE_DRIVER_CONFIG, secure_boot()),
    (7, EventType.EFI_VARIABLE_DRIVER_CONFIG, b"dbx" * 1000),
    (4, EventType.EFI_ACTION, b"Calling EFI Application from Boot Option"),
)
"""What a firmware with Secure Boot measures, in short."""
LOG = header() + b"".join(event(*one) for one in BOOT)
FIRMWARE = "UEFI, Secure Boot on, version 9.1"
