"""What firmware and a unified kernel measure of a boot, from the files alone: the events, and so the PCR values.

Measured on OVMF with shim, GRUB and systemd-stub; firmware whose log differs is judged by its own log instead.
"""

from __future__ import annotations

from collections.abc import Mapping

from provision.tpm.algorithms import Hash
from provision.tpm.event_log import Event, EventType, replay

APPLICATIONS, KERNEL_SECTIONS, COMPANIONS = 4, 11, 12
"""PCRs: programs that firmware started, the sections of a unified kernel, and what came beside it."""
MOST_FAILURES = 7
"""Boot options that may have failed before: with none, these are the eight branches of a policy."""

_CALLING = b"Calling EFI Application from Boot Option"
_RETURNING = b"Returning from EFI Application from Boot Option"
_SEPARATOR = bytes(4)


def application_events(*programs: bytes, failures: int = 0) -> tuple[Event, ...]:
    """What is measured into PCR 4 when the firmware has started programs with these Authenticode digests, the first
    from a boot option, after so many options that failed."""
    calling, returning = (
        Event(APPLICATIONS, EventType.EFI_ACTION, Hash.SHA256.of(t), t) for t in (_CALLING, _RETURNING)
    )
    separator = Event(APPLICATIONS, EventType.SEPARATOR, Hash.SHA256.of(_SEPARATOR), _SEPARATOR)
    kind = EventType.EFI_BOOT_SERVICES_APPLICATION
    started = (Event(APPLICATIONS, kind, digest, b"") for digest in programs)
    return (calling, separator, *failures * (returning, calling), *started)


def unified_kernel_events(sections: Mapping[str, bytes]) -> tuple[Event, ...]:
    """What systemd-stub measures into PCR 11; `sections` has the SHA-256 of each section by its name, in the stub's
    order."""
    return tuple(
        Event(KERNEL_SECTIONS, EventType.IPL, digest, name.encode())
        for name, content in sections.items()
        for digest in (Hash.SHA256.of(name.encode() + b"\0"), content)
    )


def applications(*programs: bytes, failures: int = 0) -> bytes:
    """PCR 4 after `application_events`."""
    return replay(application_events(*programs, failures=failures))[APPLICATIONS]


def unified_kernel(sections: Mapping[str, bytes]) -> bytes:
    """PCR 11 after `unified_kernel_events`."""
    return replay(unified_kernel_events(sections))[KERNEL_SECTIONS]
