"""Whether a machine has booted what this server gave it, by a log that a quote has confirmed; pure.

Values that the server can compute have to be the computed ones: what GRUB ran and read, the sections of a unified
kernel, and that nothing came beside it. Those of a firmware that measures in a way of its own are judged event by
event: it may have said what it liked of its boot options, and must have started our programs, each of them, and no
other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from provision.tpm import event_log, event_words, firmware
from provision.tpm.algorithms import Hash
from provision.tpm.boot_chain import APPLICATIONS
from provision.tpm.chains import KEY_STORE, Binding, Chain
from provision.tpm.event_log import Event, EventType
from provision.tpm.quoted_log import Confirmed

_BOUND = {Chain.UNIFIED: (APPLICATIONS, KEY_STORE, 11, 12), Chain.GRUB: (APPLICATIONS, KEY_STORE, 8, 9)}
JUDGED = tuple(sorted({pcr for pcrs in _BOUND.values() for pcr in pcrs}))
"""The PCRs that are quoted: all that a chain may be bound to."""

_SEPARATOR, _LONGEST_ACTION = bytes(4), 120


@dataclass(frozen=True)
class Expected:
    """What a host is to have booted: one of the `bindings`, which name the programs that its firmware starts. It must
    have taken them by this `certificate` (SHA-256, hex) alone, unless that is ""."""

    bindings: tuple[Binding, ...]
    certificate: str = ""


def judge(expected: Expected, shown: Confirmed) -> Binding | str:
    """The binding to what was booted, by the quoted values of just this boot; else what is wrong, in words."""
    wrong = [_wrong(binding, expected.certificate, shown) for binding in expected.bindings]
    for binding, why in zip(expected.bindings, wrong, strict=True):
        if why is None:
            values = {pcr: shown.values[pcr] for pcr in _BOUND[binding.chain]}
            return replace(binding, branches=(values,))
    return next(filter(None, wrong), "no boot chain is expected of it")


def _wrong(binding: Binding, certificate: str, shown: Confirmed) -> str | None:
    return (
        _computed(binding, shown)
        or _applications(binding, shown.events)
        or _key_store(binding.chain, certificate, shown.events)
    )


def _computed(binding: Binding, shown: Confirmed) -> str | None:
    """What differs from the values that do not depend on the firmware."""
    for pcr, value in _without_firmware(binding.branches[0]).items():
        if shown.values[pcr] != value:
            found = event_log.differing(binding.expected, shown.events, pcr)
            return f"PCR {pcr} is not the computed one: {event_words.difference(found)}"
    return None


def _without_firmware(values: Mapping[int, bytes]) -> dict[int, bytes]:
    return {pcr: value for pcr, value in values.items() if pcr not in (APPLICATIONS, KEY_STORE)}


def _applications(binding: Binding, events: Iterable[Event]) -> str | None:
    """What firmware has started that it was not to start, or has not started; all of PCR 4 has to be accounted for."""
    programs = [event.digest for event in binding.expected if _is_program(event)]
    started: list[bytes] = []
    for event in (one for one in events if one.pcr == APPLICATIONS):
        if _is_program(event):
            if event.digest not in programs:
                return f"its firmware started a program that is not part of its boot chain: {event_words.named(event)}"
            started.append(event.digest)
        elif not _is_harmless(event):
            return f"its firmware measured into PCR 4 something that is not a boot step: {event_words.named(event)}"
    # A boot option may have come as far as to start one of them before another did all of it.
    if started[-len(programs) :] != programs:
        return "its firmware did not start the programs of its boot chain, each of them in its order"
    return None


def _is_program(event: Event) -> bool:
    return event.pcr == APPLICATIONS and event.kind == EventType.EFI_BOOT_SERVICES_APPLICATION


def _is_harmless(event: Event) -> bool:
    """Whether it can be no program under another name: who writes the log chooses the kinds, and a program's hash
    is one of bytes that he has. Programs hold zeros, and are no text."""
    if event.digest != Hash.SHA256.of(event.data):
        return False
    if event.kind == EventType.SEPARATOR:
        return event.data == _SEPARATOR
    text = all(32 <= byte < 127 for byte in event.data) and len(event.data) <= _LONGEST_ACTION
    return event.kind == EventType.EFI_ACTION and text


def _key_store(chain: Chain, certificate: str, events: tuple[Event, ...]) -> str | None:
    if chain is Chain.GRUB and not firmware.is_enforcing(events):
        return "its firmware does not say, before all else in PCR 7, that Secure Boot is on"
    if certificate and firmware.loader(events) != certificate:
        return "its firmware did not take the image under Secure Boot by the certificate of the site, and by no other"
    return None
