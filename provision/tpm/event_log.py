"""The firmware's log of what it measured: crypto-agile, TCG PC Client Platform Firmware Profile, section 10.

It is only as good as the PCRs that it gives when it is replayed; until a quote has those values it is a story.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from provision.errors import Invalid
from provision.tpm.algorithms import Hash

MOST = 1 << 20
"""Bytes of a log; real ones have some tens of KiB."""
_MOST_EVENTS = 4096
_SHA1_SIZE, _SPEC_ID, _LOCALITY = 20, b"Spec ID Event03\0", b"StartupLocality\0"
_REMEDY = "send /sys/kernel/security/tpm0/binary_bios_measurements as it is"


class EventType(IntEnum):
    """The kinds of events that are told apart here (section 10.4.1)."""

    NO_ACTION = 0x3
    SEPARATOR = 0x4
    ACTION = 0x5
    S_CRTM_VERSION = 0x8
    IPL = 0xD
    EFI_VARIABLE_DRIVER_CONFIG = 0x80000001
    EFI_BOOT_SERVICES_APPLICATION = 0x80000003
    EFI_ACTION = 0x80000007
    EFI_VARIABLE_AUTHORITY = 0x800000E0


@dataclass(frozen=True)
class Event:
    """One measurement: the PCR, the kind (an `EventType` or another number), its SHA-256 digest, and what the firmware
    says of it. One of the kind NO_ACTION measures nothing: its digest is the value that PCR 0 began with."""

    pcr: int
    kind: int
    digest: bytes
    data: bytes


def parse(log: bytes, subject: str) -> tuple[Event, ...]:
    """Every event but those that say nothing of a PCR, in their order. Raises Invalid for a log without SHA-256."""
    reader = _Reader(log[: MOST + 1], subject)
    sizes = _header(reader)
    events: list[Event] = []
    while not reader.is_at_end:
        if len(events) >= _MOST_EVENTS or len(log) > MOST:
            raise reader.wrong("is too long")
        pcr, kind, count = reader.u32(), reader.u32(), reader.u32()
        digests = {}
        for _ in range(min(count, len(sizes) + 1)):
            algorithm = reader.u16()
            if algorithm not in sizes:
                raise reader.wrong("has a digest of a kind that its first entry does not name")
            digests[algorithm] = reader.take(sizes[algorithm])
        if count != len(digests):
            raise reader.wrong("has an event with two digests of one kind")
        data = reader.take(reader.u32())
        if kind == EventType.NO_ACTION:
            events += _beginning(reader, data, any(event.pcr == 0 for event in events))
            continue
        if Hash.SHA256 not in digests or pcr > 23:
            raise reader.wrong("has an event without a SHA-256 digest, or of a PCR that does not exist")
        events.append(Event(pcr, kind, digests[Hash.SHA256], data))
    return tuple(events)


def extend(value: bytes, digest: bytes) -> bytes:
    """A PCR's value after another measurement."""
    return Hash.SHA256.of(value, digest)


def replay(events: Iterable[Event]) -> dict[int, bytes]:
    """The values of the PCRs that the events measured into, by number, from zeros or what PCR 0 began with."""
    values: dict[int, bytes] = {}
    for event in events:
        begins = event.kind == EventType.NO_ACTION
        values[event.pcr] = event.digest if begins else extend(values.get(event.pcr, bytes(32)), event.digest)
    return values


def differing(expected: Iterable[Event], found: Iterable[Event], pcr: int) -> tuple[Event | None, Event | None] | None:
    """The first events of a PCR that are not the same, as expected and as found (None behind an end); None when all
    are."""
    ours, theirs = ([event for event in events if event.pcr == pcr] for events in (expected, found))
    for number in range(max(len(ours), len(theirs))):
        one = ours[number] if number < len(ours) else None
        other = theirs[number] if number < len(theirs) else None
        if one is None or other is None or one.digest != other.digest:
            return one, other
    return None


def _beginning(reader: _Reader, data: bytes, late: bool) -> list[Event]:
    """What PCR 0 began with, when the TPM was started before the firmware, from another locality (section 10.4.5.3)."""
    if not data.startswith(_LOCALITY):
        return []
    if late or len(data) != len(_LOCALITY) + 1:
        raise reader.wrong("names the locality of the TPM's start in the wrong place")
    return [Event(0, EventType.NO_ACTION, bytes(31) + data[-1:], data)]


def _header(reader: _Reader) -> Mapping[int, int]:
    """The first entry, in the old format: it names the hashes of all others, with their sizes."""
    reader.u32()
    kind = reader.u32()
    reader.take(_SHA1_SIZE)
    body = _Reader(reader.take(reader.u32()), reader.subject)
    if kind != EventType.NO_ACTION or body.take(len(_SPEC_ID)) != _SPEC_ID:
        raise reader.wrong("is not a crypto-agile log of TPM 2.0")
    body.take(8)  # platform class, versions, and the size of integers
    count = body.u32()
    if not 1 <= count <= 8:
        raise reader.wrong(f"names {count} hashes")
    return {body.u16(): body.u16() for _ in range(count)}


class _Reader:
    """Reads little-endian fields; raises Invalid at the end."""

    def __init__(self, data: bytes, subject: str) -> None:
        self._data, self.subject, self._at = data, subject, 0

    @property
    def is_at_end(self) -> bool:
        return self._at == len(self._data)

    def take(self, size: int) -> bytes:
        if len(self._data) - self._at < size:
            raise self.wrong(f"ends at byte {len(self._data)}, in the middle of an event")
        self._at += size
        return self._data[self._at - size : self._at]

    def u16(self) -> int:
        return int.from_bytes(self.take(2), "little")

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def wrong(self, fact: str) -> Invalid:
        return Invalid(self.subject, fact, _REMEDY)
