"""Signed seeds: a host's seed as it goes over any LAN, signed by the site (Ed25519, RFC 8032) for one request.

There is nothing secret in it. docs/media-format.md, "Signed seeds", has the form, and
images/host/root/usr/lib/provision/signed_seed.py is its reader.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from provision import signed_file
from provision.seed import Seed

FORMAT = "provision-signed-seed 1"


def encode(host: str, seed: Seed, sequence: int, nonce: str, key: Ed25519PrivateKey) -> bytes:
    """The seed of a host, signed for the machine that has chosen `nonce`; `sequence` grows with the site's changes."""
    signed = f"{host} {seed.revision} {sequence} {nonce}\n".encode() + seed.data
    return signed_file.encode(FORMAT, signed, key)
