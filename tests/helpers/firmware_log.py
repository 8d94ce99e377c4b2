"""Logs of what a firmware has measured, made up: crypto-agile, with SHA-1 and SHA-256."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from uuid import UUID

from provision.tpm.event_log import Event, EventType

SHA1, SHA256 = 4, 11
DB = UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
"""Whose variable db is (EFI_IMAGE_SECURITY_DATABASE_GUID)."""


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


def entry(event: Event) -> bytes:
    """An entry with the digest of this event, which need not be of its data."""
    digest = struct.pack("<H", SHA256) + event.digest
    return struct.pack("<III", event.pcr, event.kind, 1) + digest + struct.pack("<I", len(event.data)) + event.data


def variable(name: str, value: bytes, vendor: bytes = bytes(16)) -> bytes:
    """UEFI_VARIABLE_DATA of a variable."""
    return vendor + struct.pack("<QQ", len(name), len(value)) + name.encode("utf-16-le") + value


def secure_boot(value: bytes = b"\1") -> bytes:
    """The same of SecureBoot."""
    return variable("SecureBoot", value)


def taken_by(certificate: bytes, name: str = "db", vendor: UUID = DB) -> bytes:
    """The same of the certificate (DER) in db by which a program was taken."""
    return variable(name, bytes(16) + certificate, vendor.bytes_le)


def enforced(*certificates: bytes, secure: bytes = b"\1") -> tuple[tuple[int, int, bytes], ...]:
    """What a firmware measures into PCR 7, and what it measures of itself, when it has taken programs by these."""
    return (
        (0, EventType.S_CRTM_VERSION, "9.1".encode("utf-16-le") + b"\0\0"),
        (7, EventType.EFI_VARIABLE_DRIVER_CONFIG, secure_boot(secure)),
        (7, EventType.EFI_VARIABLE_DRIVER_CONFIG, variable("PK", b"platform key")),
        (7, EventType.SEPARATOR, bytes(4)),
        *((7, EventType.EFI_VARIABLE_AUTHORITY, taken_by(one)) for one in certificates),
    )


def log_of(events: Iterable[tuple[int, int, bytes]]) -> bytes:
    """The log of these measurements."""
    return header() + b"".join(event(*one) for one in events)


BOOT = (
    (0, EventType.S_CRTM_VERSION, "9.1".encode("utf-16-le") + b"\0\0"),
    (7, EventType.EFI_VARIABLE_DRIVER_CONFIG, secure_boot()),
    (7, EventType.EFI_VARIABLE_DRIVER_CONFIG, b"dbx" * 1000),
    (4, EventType.EFI_ACTION, b"Calling EFI Application from Boot Option"),
)
"""What a firmware with Secure Boot measures, in short."""
LOG = log_of(BOOT)
FIRMWARE = "UEFI, Secure Boot on, version 9.1"
