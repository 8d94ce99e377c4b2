"""Sealing of credentials at rest: AES-256-GCM (NIST SP 800-38D) bound to the row that a credential stands in."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from provision.errors import Unavailable
from provision.secret import Secret

_NONCE_SIZE = 12


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


@dataclass(frozen=True)
class Sealed:
    """A 96-bit random nonce, and the ciphertext with its 128-bit tag."""

    nonce: bytes
    ciphertext: bytes = field(repr=False)


def seal(key: Secret, place: Place, secret: Secret) -> Sealed:
    """Seal a secret for its place; `key` has 32 bytes."""
    nonce = os.urandom(_NONCE_SIZE)
    return Sealed(nonce, AESGCM(key.reveal()).encrypt(nonce, secret.reveal(), place.associated_data()))


def unseal(key: Secret, place: Place, sealed: Sealed) -> Secret:
    """The secret of a place; raises Unavailable when the row was changed, swapped or sealed with another key."""
    try:
        return Secret(AESGCM(key.reveal()).decrypt(sealed.nonce, sealed.ciphertext, place.associated_data()))
    except (InvalidTag, ValueError):
        raise Unavailable(
            f"credential '{place.name}' of {place.host}",
            "does not open: its row was altered or belongs to another host or version",
            f"set it again: 'provision credential set {place.host} {place.name} --file FILE'",
        ) from None
