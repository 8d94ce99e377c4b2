"""Logs that are whole, cut, and made up."""

from __future__ import annotations

import hashlib
import struct

import pytest

from provision.errors import Invalid
from provision.tpm import event_log
from provision.tpm.event_log import Event, EventType
from tests.helpers.firmware_log import SHA1, event, header

LOG = header() + event(0, EventType.NO_ACTION, b"startup") + event(4, EventType.EFI_ACTION, b"a") + event(7, 99, b"b")


def test_events_are_read_and_replayed() -> None:
    events = event_log.parse(LOG, "node1")
    assert [(one.pcr, one.kind, one.data) for one in events] == [(4, EventType.EFI_ACTION, b"a"), (7, 99, b"b")]
    value = hashlib.sha256(bytes(32) + hashlib.sha256(b"a").digest()).digest()
    assert event_log.replay(events)[4] == value
    assert set(event_log.replay(events)) == {4, 7}


def test_a_tpm_that_was_started_before_the_firmware_says_so() -> None:
    early = event(0, EventType.NO_ACTION, b"StartupLocality\0\3")
    measured = event(0, EventType.S_CRTM_VERSION, b"1")
    value = hashlib.sha256(bytes(31) + b"\3" + hashlib.sha256(b"1").digest()).digest()
    assert event_log.replay(event_log.parse(header() + early + measured, "node1")) == {0: value}
    assert event_log.replay(event_log.parse(header() + early, "node1")) == {0: bytes(31) + b"\3"}
    for log in (measured + early, early + early, event(0, EventType.NO_ACTION, b"StartupLocality\0")):
        with pytest.raises(Invalid, match="wrong place"):
            event_log.parse(header() + log, "node1")


def test_every_cut_inside_of_an_event_is_refused() -> None:
    whole = {len(header()), len(LOG)}
    whole |= {len(header() + event(0, 3, b"startup")), len(LOG) - len(event(7, 99, b"b"))}
    for size in set(range(len(LOG))) - whole:
        with pytest.raises(Invalid):
            event_log.parse(LOG[:size], "node1")


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (
            header(((SHA1, 20),)) + struct.pack("<III", 4, 5, 1) + struct.pack("<H", SHA1) + bytes(24),
            "without a SHA-256",
        ),
        (header(()), "names 0 hashes"),
        (header() + struct.pack("<III", 4, 5, 1) + b"\x0c\0" + bytes(52), "does not name"),
        (header() + struct.pack("<III", 4, 5, 2) + 2 * (b"\x0b\0" + bytes(32)) + bytes(4), "two digests of one kind"),
        (header() + struct.pack("<III", 4, 5, 1 << 31) + 9 * (b"\x0b\0" + bytes(32)), "two digests of one kind"),
        (header() + event(24, 5, b"x"), "PCR that does not exist"),
        (b"\0" * 4096, "not a crypto-agile log"),
    ],
)
def test_what_is_made_up_is_refused(log: bytes, said: str) -> None:
    with pytest.raises(Invalid, match=f"^node1: .*{said}"):
        event_log.parse(log, "node1")


def test_the_first_difference_of_a_pcr_is_named() -> None:
    one, two, other = (Event(4, 5, hashlib.sha256(data).digest(), data) for data in (b"1", b"2", b"3"))
    elsewhere = Event(5, 5, bytes(32), b"")
    assert event_log.differing([one, two], [elsewhere, one, two], 4) is None
    assert event_log.differing([one, two], [one, other], 4) == (two, other)
    assert event_log.differing([one], [one, other], 4) == (None, other)
    assert event_log.differing([one, two], [one], 4) == (two, None)
