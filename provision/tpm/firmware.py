"""What a machine's firmware is, in the words of its own log; only what its digest confirms is told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from provision.tpm.algorithms import Hash
from provision.tpm.event_log import Event, EventType

_LONGEST = 120
_NAME = "SecureBoot"
_GUID, _TEXT, _LENGTH = 16, _NAME.encode("utf-16-le"), len(_NAME).to_bytes(8, "little")


def describe(events: Iterable[Event]) -> str:
    """The firmware in some words: whether Secure Boot is on, and its version when it says one."""
    confirmed = [event for event in events if event.digest == Hash.SHA256.of(event.data)]
    versions = ", ".join(dict.fromkeys(_versions(confirmed)))
    return f"{_secure_boot(confirmed)}{f', version {versions}' if versions else ''}"[:_LONGEST]


def _secure_boot(events: Iterable[Event]) -> str:
    # UEFI_VARIABLE_DATA (section 10.2.6): a GUID, the lengths of name (in characters) and value, and both.
    for event in events:
        head = event.data[_GUID : _GUID + 16]
        if event.kind != EventType.EFI_VARIABLE_DRIVER_CONFIG or event.pcr != 7 or head[:8] != _LENGTH:
            continue
        name, value = event.data[_GUID + 16 :][: len(_TEXT)], event.data[_GUID + 16 + len(_TEXT) :]
        if name == _TEXT:
            return "UEFI, Secure Boot on" if value == b"\1" else "UEFI, Secure Boot off"
    return "no Secure Boot"


def _versions(events: Iterable[Event]) -> Iterator[str]:
    for event in events:
        if event.kind == EventType.S_CRTM_VERSION:
            text = event.data.decode("utf-16-le" if event.data[1:2] == b"\0" else "ascii", "replace").rstrip("\0")
            if text and text.isascii() and text.isprintable():
                yield text
