"""TPMs of hosts: the one that was enrolled, those that wait for an operator, and when one may be enrolled."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class KeyKind(StrEnum):
    """What an endorsement key is."""

    RSA = "rsa"
    P256 = "p256"


@dataclass(frozen=True)
class EnrolledTpm:
    """The TPM of a host, which has proved that it holds both keys.

    `key` is the public area (TPMT_PUBLIC) of its endorsement key, `fingerprint` the SHA-256 of that as an operator
    compares it (hex, see `provision.tpm.endorsement.fingerprint`), `attestation` the name of its attestation key.
    `pcr7` (32 bytes) and `firmware` are what it booted with then, from the log that its quote confirmed. `loader` is
    the certificate (SHA-256, hex) by which the firmware took the program that it started; "" when the log does not show
    that it took nothing by any other. `known` says how it became known to be this host's: "certificate SUBJECT / ROOT",
    "imported" or "accepted BY"; "" while it waits for somebody to say so. `at` is when it proved itself, `actor` who
    let it.
    """

    host: str
    key: bytes
    kind: KeyKind
    fingerprint: str
    known: str
    attestation: bytes
    pcr7: bytes
    firmware: str
    at: datetime
    actor: str
    loader: str = ""

    @property
    def is_pending(self) -> bool:
        """Whether nobody has said yet that it is this host's."""
        return not self.known


@dataclass(frozen=True)
class EnrolmentWindow:
    """When a host's TPM may be enrolled, and who opened the window."""

    opened: datetime
    expires: datetime
    actor: str

    def is_open(self, now: datetime) -> bool:
        """Whether a TPM may be enrolled now."""
        return now < self.expires
