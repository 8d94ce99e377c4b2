"""What keeps secrets from being given for a host's TPM alone; pure, for `provision.policy`.

What is wrapped is no secret: only that TPM opens it, when a boot chain was booted that the site has approved. Without
all of that it would open nowhere, or in a chain that a rogue server could have started.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from provision.denial import Denial


class TpmStanding(StrEnum):
    """How a host's TPM is known."""

    UNKNOWN = "unknown"
    PENDING = "pending"
    ENROLLED = "enrolled"


@dataclass(frozen=True)
class Proof:
    """What a host has shown of its boot by a quote. `refused` says why that does not do: a fact and a way out."""

    refused: tuple[str, str] | None = None


@dataclass(frozen=True)
class Wrapping:
    """What there is of what it takes: how the host's TPM is known, why no boot chain of it can be bound where it asks,
    and why the site approves of none; each a fact and a way out, None when all is well. A host that is `online` has to
    give a `proof` of its boot as well."""

    tpm: TpmStanding = TpmStanding.UNKNOWN
    unbound: tuple[str, str] | None = None
    unapproved: tuple[str, str] | None = None
    online: bool = False
    proof: Proof | None = None


NOTHING = Wrapping()
"""Of a host whose TPM nobody knows."""


def denial(name: str, wrapping: Wrapping) -> Denial | None:
    """What is missing first."""
    if wrapping.tpm is TpmStanding.UNKNOWN:
        return Denial(
            "tpm-not-enrolled",
            name,
            f"No TPM of {name} is enrolled, so its credentials cannot be encrypted for it",
            f"Enrol it: 'provision enroll {name}', then boot it on a management network, or from its signed image",
        )
    if wrapping.tpm is TpmStanding.PENDING:
        return Denial(
            "tpm-pending",
            name,
            f"A TPM that may be {name}'s waits to be accepted",
            f"Compare the fingerprint on its console, then accept it: 'provision tpm accept {name} FINGERPRINT'",
        )
    if wrapping.unbound is not None:
        return unbound(name, wrapping.unbound)
    if wrapping.unapproved is not None:
        return Denial("chain-not-approved", name, *wrapping.unapproved)
    return _unproved(name, wrapping.proof) if wrapping.online else None


def _unproved(name: str, proof: Proof | None) -> Denial | None:
    if proof is None:
        return Denial(
            "tpm-not-proved",
            name,
            f"{name} gets its envelope only with a proof of its boot ('tpm: online'), and it gave none",
            f"Boot {name} by an image that gives one, or set 'tpm: offline'",
        )
    return Denial("tpm-proof-failed", name, *proof.refused) if proof.refused is not None else None


def unbound(name: str, why: tuple[str, str]) -> Denial:
    """That no boot chain can be bound: a fact and a way out."""
    return Denial("chain-not-bound", name, *why)
