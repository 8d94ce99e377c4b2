"""Envelopes: what a host's TPM alone can open, in a form that may lie anywhere and go over any wire.

The content is sealed by AES-256-GCM under a new key, that key is in an object that only one TPM imports, and the object
opens when a policy that the site has approved holds. The whole is signed by the site (Ed25519), so that a host takes
none of another site, and none that was put together from pieces. An envelope is not secret.

The file is `provision-envelope 1`, the signature in hex, and a JSON object, each on a line of its own (see `Envelope`).
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from provision.secret import Secret
from provision.tpm import wrapping
from provision.tpm.public import Public
from provision.tpm.wire import sized
from provision.tpm.wrapping import Wrapped

FORMAT = "provision-envelope 1"
KEY_SIZE, _NONCE_SIZE = 32, 12

Random = Callable[[int], bytes]


@dataclass(frozen=True)
class Approval:
    """A boot chain that the site has approved: the PCRs, the policy, and the site's TPMT_SIGNATURE over it.

    `version` is what the NV index must not be above, None when the policy does not ask. `branches` are the digests of
    a PolicyOR over the PCRs' policies, when there are several. With a `start` it holds in one start of one TPM alone:
    while that has been reset, and restarted since, so many times.
    """

    version: int | None
    pcrs: tuple[int, ...]
    branches: tuple[bytes, ...]
    approved: bytes
    signature: bytes
    start: tuple[int, int] | None = None


@dataclass(frozen=True)
class Authority:
    """Who approves: the public area of the site's P-256 key, the reference that its approvals are for, the handle of
    the NV index that can revoke them, and the lowest version that is to stand there."""

    public: bytes
    reference: bytes
    index: int | None = None
    least: int = 1


@dataclass(frozen=True)
class Envelope:
    """What an envelope says: for which host and revision of it, and which number it has. A host takes none with a
    number below the last one that it has opened, where it can remember."""

    host: str
    revision: str
    sequence: int
    wrapped: Wrapped
    nonce: bytes
    sealed: bytes = field(repr=False)


def seal(
    about: tuple[str, str, int],
    key: Public,
    content: Secret,
    policy: bytes,
    random: Random = os.urandom,
) -> Envelope:
    """The content for the host, revision and number `about`, for the TPM with this endorsement key, under a policy."""
    host, revision, sequence = about
    content_key, nonce = random(KEY_SIZE), random(_NONCE_SIZE)
    wrapped = wrapping.wrap(key, Secret(content_key), policy, random)
    sealed = AESGCM(content_key).encrypt(nonce, content.reveal(), associated(host, revision, sequence))
    return Envelope(host, revision, sequence, wrapped, nonce, sealed)


def associated(host: str, revision: str, sequence: int) -> bytes:
    """What is authenticated with the content."""
    return f"{FORMAT}\n{host}\n{revision}\n{sequence}".encode()


def encode(envelope: Envelope, authority: Authority, approvals: Sequence[Approval], site: Ed25519PrivateKey) -> bytes:
    """The file, signed. A new approval makes a new file of the same envelope: nothing is wrapped or sealed anew."""
    wrapped = envelope.wrapped
    body = {
        "host": envelope.host,
        "revision": envelope.revision,
        "sequence": envelope.sequence,
        "object": [wrapped.public.hex(), wrapped.duplicate.hex(), wrapped.seed.hex()],
        "authority": {
            "public": sized(authority.public).hex(),
            "reference": authority.reference.hex(),
            "index": authority.index,
            "least": authority.least,
        },
        "approvals": [_approval(one) for one in approvals],
        "nonce": envelope.nonce.hex(),
        "sealed": base64.b64encode(envelope.sealed).decode(),
    }
    text = json.dumps(body, separators=(",", ":"), sort_keys=True).encode()
    return b"\n".join((FORMAT.encode(), site.sign(signed(text)).hex().encode(), text, b""))


def signed(text: bytes) -> bytes:
    """What the site signs: the format is part of it, so that no signature of another kind of file serves."""
    return FORMAT.encode() + b"\n" + text


def _approval(one: Approval) -> dict[str, object]:
    return {
        "version": one.version,
        "pcrs": list(one.pcrs),
        "branches": [branch.hex() for branch in one.branches],
        "approved": one.approved.hex(),
        "signature": one.signature.hex(),
        **({"start": list(one.start)} if one.start is not None else {}),
    }
