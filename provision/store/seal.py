"""Sealing of secrets at rest: AES-256-GCM (NIST SP 800-38D) bound to the row that a secret stands in."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from provision.errors import Unavailable
from provision.secret import Secret

_NONCE_SIZE = 12


class Bound(Protocol):
    """The row that a secret belongs to; sealed bytes open in this row only."""

    def associated_data(self) -> bytes:
        """The additional authenticated data, in which no two rows read the same."""

    def damaged(self) -> Unavailable:
        """The error for a secret that does not open."""


@dataclass(frozen=True)
class Place:
    """The row a credential belongs to; sealed bytes open in this place only.

    Path and mode are part of it, so that nobody who can write the database can have a key put down world-readable.
    """

    host_id: str
    host: str = field(compare=False)
    name: str
    version: int
    kind: str
    path: str
    mode: str

    def associated_data(self) -> bytes:
        """The additional authenticated data: canonical JSON, in which no two places read the same."""
        parts = ["provision credential", 1, self.host_id, self.name, self.version, self.kind, self.path, self.mode]
        return json.dumps(parts, separators=(",", ":")).encode()

    def damaged(self) -> Unavailable:
        """The error for a credential that does not open."""
        return Unavailable(
            f"credential '{self.name}' of {self.host}",
            "does not open: its row was altered or belongs to another host or version",
            f"set it again: 'provision credential set {self.host} {self.name} --file FILE'",
        )


@dataclass(frozen=True)
class Sealed:
    """A 96-bit random nonce, and the ciphertext with its 128-bit tag."""

    nonce: bytes
    ciphertext: bytes = field(repr=False)


def seal(key: Secret, place: Bound, secret: Secret) -> Sealed:
    """Seal a secret for its place; `key` has 32 bytes."""
    nonce = os.urandom(_NONCE_SIZE)
    return Sealed(nonce, AESGCM(key.reveal()).encrypt(nonce, secret.reveal(), place.associated_data()))


def unseal(key: Secret, place: Bound, sealed: Sealed) -> Secret:
    """The secret of a place; raises Unavailable when the row was changed, swapped or sealed with another key."""
    try:
        return Secret(AESGCM(key.reveal()).decrypt(sealed.nonce, sealed.ciphertext, place.associated_data()))
    except (InvalidTag, ValueError):
        raise place.damaged() from None
