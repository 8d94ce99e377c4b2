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

RSA_BITS = 2048
"""Of a Secure Boot key. No more: the firmware of many machines checks no longer signatures."""


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
