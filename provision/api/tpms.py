"""TPMs of hosts: which one is enrolled, which wait, and when one may be enrolled."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from provision.api.wire import Answer, Bytes, Count, Line, Request, Time, examples
from provision.enrolled_tpm import KeyKind
from provision.model import Name
from provision.wrapping_rules import TpmStanding

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
    "loader": _PRINT,
    "at": "2026-03-01T12:00:00+00:00",
    "actor": "uid=0",
}


class HostTpm(Answer):
    """A TPM that has proved itself on a host: `enrolled` as the host's own, and how it is `known` to be ("" while it
    waits for somebody to compare its fingerprint); what the host had booted with then, when, and who let it. `loader`
    is the certificate (SHA-256) by which its firmware took the program that it started; None: that is not shown."""

    model_config = examples(_TPM)

    host: Name
    fingerprint: Fingerprint
    kind: KeyKind
    enrolled: bool
    known: Line
    firmware: Line
    pcr7: Fingerprint
    loader: Fingerprint | None
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


class PcrExplanation(Answer):
    """A PCR of a chain: the value that the server has computed, the one that the host says it has had, whether that
    will do, and the first event that is another; None where the host has said nothing."""

    model_config = examples(
        {"pcr": 8, "expected": _PRINT, "said": "00" * 32, "same": False, "differs": "'grub_cmd: boot' was expected"}
    )

    pcr: Annotated[int, Field(ge=0, le=23)]
    expected: Fingerprint
    said: Fingerprint | None
    same: bool | None
    differs: Line | None


class ChainExplanation(Answer):
    """A boot chain that secrets are bound to."""

    model_config = examples({"chain": "unified kernel", "pcrs": []})

    chain: Line
    pcrs: tuple[PcrExplanation, ...]


class NetworkExplanation(Answer):
    """What a host's TPM is bound to when it boots on a network, and what is `missing` of what it takes."""

    model_config = examples({"network": "office", "missing": None, "chains": []})

    network: Name
    missing: Line | None
    chains: tuple[ChainExplanation, ...]


class TpmExplanation(Answer):
    """What it takes to give a host its secrets for its TPM alone: how the TPM is known, what it is bound to on each of
    the host's networks, and what the host said last of an envelope. `online` says that it has to prove each boot, and
    `proof` what came of the last one, at the time of `proved`."""

    model_config = examples(
        {
            "host": "node1",
            "tpm": "enrolled",
            "networks": [],
            "last": None,
            "at": None,
            "online": False,
            "proof": None,
            "proved": None,
        }
    )

    host: Name
    tpm: TpmStanding
    networks: tuple[NetworkExplanation, ...]
    last: Line | None
    at: Time | None
    online: bool = False
    proof: Line | None = None
    proved: Time | None = None


class RevokedImages(Answer):
    """Up to which image's version approvals are revoked, and the lowest version that TPMs are to take from now on."""

    model_config = examples({"image": "debian-12", "version": 3, "least": 4})

    image: Name
    version: Count
    least: Count


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
