"""What a log says of a firmware, as far as its digests confirm it."""

from __future__ import annotations

import hashlib
import struct
from hashlib import sha256
from uuid import UUID

import pytest

from provision.tpm import firmware
from provision.tpm.event_log import Event, EventType
from tests.helpers import firmware_log
from tests.helpers.firmware_log import DB, enforced, taken_by


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
    assert firmware.has_secure_boot(said) is said.startswith("UEFI, Secure Boot on")


def test_what_a_digest_does_not_confirm_is_not_told() -> None:
    false = Event(7, EventType.EFI_VARIABLE_DRIVER_CONFIG, bytes(32), variable("SecureBoot", b"\1").data)
    assert firmware.describe([false, Event(0, EventType.S_CRTM_VERSION, bytes(32), b"9.9")]) == "no Secure Boot"


SITE, OTHER = b"the site's certificate", b"somebody else's certificate"
_, ON, PLATFORM, SEPARATOR, TAKEN = enforced(SITE)


def authority(data: bytes) -> tuple[int, int, bytes]:
    return 7, EventType.EFI_VARIABLE_AUTHORITY, data


def test_the_certificate_is_told_by_which_everything_was_taken() -> None:
    assert firmware.loader(event(*one) for one in enforced(SITE)) == sha256(SITE).hexdigest()


@pytest.mark.parametrize(
    "measured",
    [
        (),
        enforced(),
        enforced(OTHER, SITE),
        enforced(SITE, OTHER),
        enforced(SITE, SITE),
        enforced(SITE, secure=b"\0"),
        # A program that runs without any of this measures whatever it likes behind what the firmware did.
        ((7, EventType.SEPARATOR, bytes(4)), *enforced(SITE)),
        ((7, EventType.EFI_ACTION, b"x"), ON, PLATFORM, SEPARATOR, TAKEN),
        (*enforced(secure=b"\0"), ON, PLATFORM, SEPARATOR, TAKEN),
        (*enforced(OTHER), ON, PLATFORM, SEPARATOR, TAKEN),
        (*enforced(), ON, PLATFORM, SEPARATOR, TAKEN),
        (*enforced(SITE), (7, EventType.EFI_ACTION, b"x")),
        (ON, PLATFORM, TAKEN),
        (ON, PLATFORM, TAKEN, SEPARATOR),
        (ON, authority(taken_by(OTHER)), SEPARATOR, TAKEN),
        (ON, SEPARATOR, authority(taken_by(SITE, name="MokListRT"))),
        (ON, SEPARATOR, authority(taken_by(SITE, vendor=UUID(int=1)))),
        (ON, SEPARATOR, authority(firmware_log.variable("db", b"", DB.bytes_le))),
        (ON, SEPARATOR, authority(firmware_log.variable("db", bytes(16), DB.bytes_le))),
        (ON, SEPARATOR, authority(taken_by(SITE)[:-1])),
        (ON, SEPARATOR, authority(b"")),
        (ON, SEPARATOR, (7, EventType.EFI_VARIABLE_DRIVER_CONFIG, TAKEN[2])),
        (ON, SEPARATOR, (4, EventType.EFI_VARIABLE_AUTHORITY, TAKEN[2])),
    ],
)
def test_no_certificate_is_told_where_something_else_may_have_run(measured: tuple[tuple[int, int, bytes], ...]) -> None:
    assert firmware.loader(event(*one) for one in measured) == ""


@pytest.mark.parametrize("number", range(4))
def test_nor_is_one_that_its_digest_does_not_confirm(number: int) -> None:
    events = [event(*one) for one in (ON, PLATFORM, SEPARATOR, TAKEN)]
    false = events[number]
    events[number] = Event(false.pcr, false.kind, bytes(32), false.data)
    # The keys of the platform are not looked at: the log of a real machine does not have them whole.
    assert bool(firmware.loader(events)) == (number in (1, 2))
