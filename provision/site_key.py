"""The keys of a site: with one it signs what its hosts take, with one it approves what they may boot, and by one their
firmware knows the site's programs.

Of each use there may be several at a time. The oldest one is used, and hosts trust all that there were when their image
was made: a new key is made first, images that know it follow, and then the old one is retired.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from provision.secret import Secret

RSA_BITS = 2048
"""No more: the firmware of many machines checks no longer signatures (UEFI 2.10, section 32.5)."""


class KeyUse(StrEnum):
    """What a key is for."""

    SIGNING = "signing"
    """Ed25519 (RFC 8032): signs seeds, configurations and envelopes."""
    APPROVAL = "approval"
    """P-256: approves boot chains, towards TPMs, which have no Ed25519."""
    SECURE_BOOT = "secure-boot"
    """RSA with a certificate: signs what firmware starts."""


@dataclass(frozen=True)
class SiteKey:
    """What anybody may know of a key. `number` never comes back.

    `public` is 32 bytes (RFC 8032) of a signing key, 65 of an approval key (X9.62, uncompressed), and the certificate
    in DER of a Secure Boot key. The private half is `sealed` in the store, or is not on this server at all.
    """

    number: int
    use: KeyUse
    public: bytes = field(repr=False)
    sealed: bool
    created: datetime
    actor: str

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the public half in hex."""
        return hashlib.sha256(self.public).hexdigest()


def new_signing() -> tuple[bytes, Secret]:
    """The halves of a new signing key."""
    key = Ed25519PrivateKey.generate()
    return key.public_key().public_bytes_raw(), Secret(key.private_bytes_raw())


def new_approval() -> tuple[bytes, Secret]:
    """The halves of a new approval key."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return public, Secret(_der(key))


def signing_key(secret: Secret) -> Ed25519PrivateKey:
    """The private half of a signing key."""
    return Ed25519PrivateKey.from_private_bytes(secret.reveal())


def approval_key(secret: Secret) -> ec.EllipticCurvePrivateKey:
    """The private half of an approval key."""
    key = load_der_private_key(secret.reveal(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101  (as it was sealed)
    return key


def approval_public(public: bytes) -> ec.EllipticCurvePublicKey:
    """The public half of an approval key."""
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public)


def secure_boot_key(secret: Secret) -> rsa.RSAPrivateKey:
    """The private half of a Secure Boot key."""
    key = load_der_private_key(secret.reveal(), password=None)
    assert isinstance(key, rsa.RSAPrivateKey)  # noqa: S101  (as it was sealed)
    return key


def sealable(key: rsa.RSAPrivateKey) -> Secret:
    """The private half of a Secure Boot key as it is sealed."""
    return Secret(_der(key))


def _der(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
