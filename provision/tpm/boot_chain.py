"""What firmware and a unified kernel measure of a boot, from the files alone: the events, and so the PCR values.

Measured on OVMF with shim, GRUB and systemd-stub; firmware whose log differs is judged by its own log instead.
"""

from __future__ import annotations

from collections.abc import Mapping

from provision.tpm.algorithms import Hash
from provision.tpm.event_log import extend

APPLICATIONS, KERNEL_SECTIONS, COMPANIONS = 4, 11, 12
"""PCRs: programs that firmware started, the sections of a unified kernel, and what came beside it."""
MOST_FAILURES = 7
"""Boot options that may have failed before: with none, these are the eight branches of a policy."""

_CALLING = b"Calling EFI Application from Boot Option"
_RETURNING = b"Returning from EFI Application from Boot Option"
_SEPARATOR = bytes(4)


def applications(*programs: bytes, failures: int = 0) -> bytes:
    """PCR 4 when the firmware has started programs with these Authenticode digests, the first from a boot option, after
    so many options that failed."""
    value = _extended(bytes(32), Hash.SHA256.of(_CALLING), Hash.SHA256.of(_SEPARATOR))
    again = Hash.SHA256.of(_RETURNING), Hash.SHA256.of(_CALLING)
    for _ in range(failures):
        value = _extended(value, *again)
    return _extended(value, *programs)


def unified_kernel(sections: Mapping[str, bytes]) -> bytes:
    """PCR 11 after systemd-stub; `sections` has the SHA-256 of each section by its name, in the stub's order."""
    value = bytes(32)
    for name, digest in sections.items():
        value = _extended(value, Hash.SHA256.of(name.encode() + b"\0"), digest)
    return value


def _extended(value: bytes, *digests: bytes) -> bytes:
    for digest in digests:
        value = extend(value, digest)
    return value
