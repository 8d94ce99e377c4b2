"""The signature of a seed: by which hosts know that it is of their own site, and which keys that site trusts now.

docs/media-format.md, "The signature", has the form, and images/host/root/usr/lib/provision/check-seed is its reader.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FORMAT = "provision-seed-signature 1"


@dataclass(frozen=True)
class Signer:
    """The key by which the site signs (Ed25519, RFC 8032), the `epoch` of that, and all public keys (hex) by one of
    which hosts are to know the site from now on. A later epoch has a higher number."""

    epoch: int
    keys: tuple[str, ...]
    key: Ed25519PrivateKey = field(repr=False)

    @property
    def label(self) -> tuple[str, ...]:
        """What a seed that it signs differs in from one that another signs."""
        return label(self.epoch, self.keys)


def label(epoch: int, keys: Sequence[str]) -> tuple[str, ...]:
    """What the seeds of a signer differ in from those of another."""
    return str(epoch), *keys


def encode(manifest: bytes, signer: Signer) -> bytes:
    """The signature of the seed with this manifest, as a file."""
    said = "".join(f"{line}\n" for line in (signer.epoch, *signer.keys)).encode()
    head = f"{FORMAT}\n".encode()
    return head + f"{signer.key.sign(head + said + manifest).hex()}\n".encode() + said
