"""TPMs of hosts: which one is enrolled, which wait, and when one may be enrolled."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from provision.api.wire import Answer, Bytes, Count, Line, Request, Time, examples
from provision.enrolled_tpm import KeyKind
from provision.model import Name

Fingerprint = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 of an endorsement key as a SubjectPublicKeyInfo in DER (RFC 5280)."""

_PRINT = "3f9a" * 16
_TPM = {
    "host": "node1",
    "fingerprint": _PRINT,
    "kind": "rsa",
    "enrolled": True,
    "known": "accepted uid=0",
    "firmware": "UEFI, Secure Boot on",
    "pcr7": "0123456789abcdef" * 4,
    "at": "2026-03-01T12:00:00+00:00",
    "actor": "uid=0",
}


class HostTpm(Answer):
    """A TPM that has proved itself on a host: `enrolled` as the host's own, and how it is `known` to be ("" while it
    waits for somebody to compare its fingerprint); what the host had booted with then, when, and who let it."""

    model_config = examples(_TPM)

    host: Name
    fingerprint: Fingerprint
    kind: KeyKind
    enrolled: bool
    known: Line
    firmware: Line
    pcr7: Fingerprint
    at: Time
    actor: Line


class HostTpms(Answer):
    """Everything about the TPM of a host: those that have proved themselves there, until when one may be enrolled
    (`window`; None: none may), and the fingerprint that was imported beforehand."""

    model_config = examples({"host": "node1", "tpms": [_TPM], "window": None, "imported": None})

    host: Name
    tpms: tuple[HostTpm, ...]
    window: Time | None
    imported: Fingerprint | None


class OpenEnrolment(Request):
    """How long a host's TPM may be enrolled."""

    model_config = examples({"minutes": 30})

    minutes: int = 30


class OpenedEnrolment(Answer):
    """The window in which a host's TPM may be enrolled."""

    model_config = examples({"host": "node1", "expires": "2026-03-01T12:30:00+00:00"})

    host: Name
    expires: Time


class WhichTpm(Request):
    """One of the TPMs that wait, by its whole fingerprint."""

    model_config = examples({"fingerprint": _PRINT})

    fingerprint: Fingerprint


class ImportTpms(Request):
    """A vendor's list in CSV, with the columns `host` and `fingerprint`, and what its file is called."""

    model_config = examples({"content": "aG9zdCxmaW5nZXJwcmludAo=", "file": "eks.csv"})

    content: Bytes = Field(repr=False)
    file: Annotated[str, StringConstraints(pattern=r"^[^/\x00-\x1f\x7f]{1,255}$")] = "list"


class ImportedTpms(Answer):
    """How many hosts have a fingerprint by the list."""

    model_config = examples({"hosts": 40})

    hosts: Count
