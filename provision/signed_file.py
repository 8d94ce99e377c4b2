"""Files that the site signs for one request (Ed25519, RFC 8032), in which nothing is secret.

A line names the form, another has the signature in hex, and the content follows. The signature is over the first line
and the content, so that one for another form does not serve.

images/host/root/usr/lib/provision/signed_file.py is the reader.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def encode(form: str, content: bytes, key: Ed25519PrivateKey) -> bytes:
    """The file."""
    head = f"{form}\n".encode()
    return head + f"{key.sign(head + content).hex()}\n".encode() + content
