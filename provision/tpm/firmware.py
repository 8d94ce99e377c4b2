"""What a machine's firmware is, and whom it trusts, in the words of its own log; only what its digest confirms is told.

UEFI_VARIABLE_DATA (section 10.2.6) is what events of variables say: a GUID, the lengths of name (in characters) and
value, and both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

from provision.tpm.algorithms import Hash
from provision.tpm.event_log import Event, EventType

_LONGEST = 120
_KEY_STORE = 7
_OWNER = 16
"""Bytes of EFI_SIGNATURE_DATA before the certificate: whose it is."""


@dataclass(frozen=True)
class _Variable:
    vendor: bytes
    name: str
    value: bytes


_ON = "UEFI, Secure Boot on"
_DB = UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f").bytes_le, "db"


def describe(events: Iterable[Event]) -> str:
    """The firmware in some words: whether Secure Boot is on, and its version when it says one."""
    confirmed = _confirmed(events)
    versions = ", ".join(dict.fromkeys(_versions(confirmed)))
    return f"{_secure_boot(confirmed)}{f', version {versions}' if versions else ''}"[:_LONGEST]


def has_secure_boot(description: str) -> bool:
    """Whether the words of `describe` say that Secure Boot is on."""
    return description.startswith(_ON)


def is_enforcing(events: Iterable[Event]) -> bool:
    """Whether it is the first thing in PCR 7 that Secure Boot is on."""
    first = next((event for event in events if event.pcr == _KEY_STORE), None)
    return first is not None and _secure_boot(_confirmed([first])) == _ON


def loader(events: Iterable[Event]) -> str:
    """The certificate (SHA-256, hex) in db by which firmware took the program that it started under Secure Boot; ""
    unless it is the only one by which anything was taken.

    Secure Boot has to be the first thing in PCR 7, and the certificate the only one behind the separator: what runs
    later can measure anything there, but not before these.
    """
    known = [event for event in events if event.pcr == _KEY_STORE]
    if not is_enforcing(known):
        return ""
    kinds = [event.kind for event in known]
    if EventType.SEPARATOR not in kinds:
        return ""
    behind = known[kinds.index(EventType.SEPARATOR) + 1 :]
    before = known[: len(known) - len(behind)]
    if len(behind) != 1 or any(event.kind == EventType.EFI_VARIABLE_AUTHORITY for event in before):
        return ""
    [taken] = behind
    variable = _variable(taken)
    if taken.kind != EventType.EFI_VARIABLE_AUTHORITY or not _confirmed(behind) or variable is None:
        return ""
    if (variable.vendor, variable.name) != _DB or len(variable.value) <= _OWNER:
        return ""
    return sha256(variable.value[_OWNER:]).hexdigest()


def _confirmed(events: Iterable[Event]) -> list[Event]:
    return [event for event in events if event.digest == Hash.SHA256.of(event.data)]


def _variable(event: Event) -> _Variable | None:
    """What the event says of a variable; None when it does not have that form."""
    data = event.data
    if len(data) < 32:
        return None
    characters, size = (int.from_bytes(data[at : at + 8], "little") for at in (16, 24))
    if len(data) != 32 + 2 * characters + size:
        return None
    name = data[32 : 32 + 2 * characters].decode("utf-16-le", "replace")
    return _Variable(data[:16], name, data[32 + 2 * characters :])


def _secure_boot(events: Iterable[Event]) -> str:
    for event in events:
        variable = _variable(event)
        if event.kind != EventType.EFI_VARIABLE_DRIVER_CONFIG or event.pcr != _KEY_STORE or variable is None:
            continue
        if variable.name == "SecureBoot":
            return _ON if variable.value == b"\1" else "UEFI, Secure Boot off"
    return "no Secure Boot"


def _versions(events: Iterable[Event]) -> Iterator[str]:
    for event in events:
        if event.kind == EventType.S_CRTM_VERSION:
            text = event.data.decode("utf-16-le" if event.data[1:2] == b"\0" else "ascii", "replace").rstrip("\0")
            if text and text.isascii() and text.isprintable():
                yield text
