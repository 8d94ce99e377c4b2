"""What a log says of a firmware, as far as its digests confirm it."""

from __future__ import annotations

import hashlib
import struct

import pytest

from provision.tpm import firmware
from provision.tpm.event_log import Event, EventType


def event(pcr: int, kind: int, data: bytes) -> Event:
    return Event(pcr, kind, hashlib.sha256(data).digest(), data)


def variable(name: str, value: bytes, pcr: int = 7) -> Event:
    text = name.encode("utf-16-le")
    data = bytes(16) + struct.pack("<QQ", len(name), len(value)) + text + value
    return event(pcr, EventType.EFI_VARIABLE_DRIVER_CONFIG, data)


def version(data: bytes) -> Event:
    return event(0, EventType.S_CRTM_VERSION, data)


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([], "no Secure Boot"),
        ([variable("SecureBoot", b"\1")], "UEFI, Secure Boot on"),
        ([variable("SecureBoot", b"\0"), variable("PK", b"\1")], "UEFI, Secure Boot off"),
        ([variable("SecureBoot", b"")], "UEFI, Secure Boot off"),
        ([variable("SecureBoot", b"\1", pcr=5)], "no Secure Boot"),
        ([variable("SecureBootX", b"\1"), variable("SecureBoo", b"t\0\1")], "no Secure Boot"),
        ([version(b"\0\0")], "no Secure Boot"),
        (
            [version("2.8.1".encode("utf-16-le") + b"\0\0"), version(b"2.8.1\0"), variable("SecureBoot", b"\1")],
            "UEFI, Secure Boot on, version 2.8.1",
        ),
        ([version(b"\x1b[31m")], "no Secure Boot"),
        ([version(b"9" * 500)], "no Secure Boot, version " + "9" * 96),
    ],
)
def test_a_firmware_in_words(events: list[Event], said: str) -> None:
    assert firmware.describe(events) == said


def test_what_a_digest_does_not_confirm_is_not_told() -> None:
    false = Event(7, EventType.EFI_VARIABLE_DRIVER_CONFIG, bytes(32), variable("SecureBoot", b"\1").data)
    assert firmware.describe([false, Event(0, EventType.S_CRTM_VERSION, bytes(32), b"9.9")]) == "no Secure Boot"
