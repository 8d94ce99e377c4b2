"""Giving a secret to one TPM alone, without asking it: its endorsement key's public half is enough.

`wrap` makes the object that TPM2_Import takes (Part 1, section 23.3, "duplication" with an outer wrapper): sealed data,
which that TPM opens when the object's policy holds. `challenge` makes what TPM2_ActivateCredential takes (Part 1,
section 24): a value that only a TPM with both the endorsement key and the object of that name gives back.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

try:
    from cryptography.hazmat.decrepit.ciphers.modes import CFB
except ImportError:
    from cryptography.hazmat.primitives.ciphers.modes import CFB

from provision.errors import Invalid
from provision.secret import Secret
from provision.tpm import public
from provision.tpm.algorithms import Algorithm, Hash, kdfa, kdfe
from provision.tpm.public import Attribute, Public
from provision.tpm.wire import sized, u16

MOST_SEALED = 128
"""Bytes that an object can hold (Part 2, MAX_SYM_DATA)."""
MOST_CHALLENGE = 32
"""Bytes of a challenge: no longer than the shortest digest of a name."""

_STORAGE = Attribute.RESTRICTED | Attribute.DECRYPT
_BOUND = Attribute.FIXED_TPM | Attribute.FIXED_PARENT | Attribute.SENSITIVE_DATA_ORIGIN

Random = Callable[[int], bytes]


@dataclass(frozen=True)
class Wrapped:
    """What a host's TPM imports: the object's public area (TPM2B_PUBLIC), the encrypted rest (TPM2B_PRIVATE), and the
    seed of that encryption for the endorsement key (TPM2B_ENCRYPTED_SECRET). None of it is secret."""

    public: bytes
    duplicate: bytes
    seed: bytes

    @property
    def name(self) -> bytes:
        """The object's name."""
        return public.name(Hash.SHA256, self.public[2:])


@dataclass(frozen=True)
class Challenge:
    """What a host's TPM activates: TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET; `value` is what it must give back."""

    credential: bytes
    seed: bytes
    value: Secret = field(repr=False)


def require_endorsement_key(key: Public, subject: str) -> None:
    """Raise Invalid for a key that is not a storage key made in its TPM, which never leaves it."""
    wanted = _STORAGE | _BOUND
    if key.attributes & wanted != wanted or key.attributes & Attribute.SIGN or key.symmetric is None:
        fact = "is not an endorsement key: a storage key that is fixed to its TPM"
        raise Invalid(subject, fact, "enrol the key that TPM2_CreatePrimary makes in the endorsement hierarchy")


def wrap(key: Public, secret: Secret, policy: bytes, random: Random = os.urandom) -> Wrapped:
    """The `secret` (1 to 128 bytes) for the TPM that has the endorsement key, sealed under the `policy` digest
    (SHA-256)."""
    if not 1 <= len(secret) <= MOST_SEALED or len(policy) != Hash.SHA256.size:
        raise ValueError("a sealed secret has 1 to 128 bytes, and a policy of 32")
    obfuscation = random(Hash.SHA256.size)
    area = public.sealed_object(Hash.SHA256, policy, Hash.SHA256.of(obfuscation, secret.reveal()))
    object_name = public.name(Hash.SHA256, area)
    sensitive = u16(Algorithm.KEYEDHASH) + sized(b"") + sized(obfuscation) + sized(secret.reveal())
    seed, encrypted = _seed(key, "DUPLICATE", random)
    outer = _outer(key, seed, object_name, sized(sensitive))
    return Wrapped(sized(area), sized(outer), sized(encrypted))


def challenge(key: Public, object_name: bytes, random: Random = os.urandom) -> Challenge:
    """A value for the TPM that has the endorsement key and, in it, the object of this name."""
    value = random(MOST_CHALLENGE)
    seed, encrypted = _seed(key, "IDENTITY", random)
    return Challenge(sized(_outer(key, seed, object_name, sized(value))), sized(encrypted), Secret(value))


def _outer(key: Public, seed: bytes, object_name: bytes, content: bytes) -> bytes:
    """An HMAC as a TPM2B, and the content encrypted (Part 1, sections 23.3.2.3 and 24.4)."""
    hash_, size = key.name_hash, key.symmetric or 0
    cipher = Cipher(algorithms.AES(kdfa(hash_, seed, "STORAGE", object_name, b"", size)), CFB(bytes(16)))
    encryptor = cipher.encryptor()
    hidden = encryptor.update(content) + encryptor.finalize()
    mac = hash_.mac(kdfa(hash_, seed, "INTEGRITY", b"", b"", hash_.size), hidden, object_name)
    return sized(mac) + hidden


def _seed(key: Public, label: str, random: Random) -> tuple[bytes, bytes]:
    """A new seed, and the same encrypted to the endorsement key (Part 1, sections B.10.3 and C.6.3)."""
    hash_ = key.name_hash
    if isinstance(key.key, rsa.RSAPublicKey):
        seed, digest = random(hash_.size), hash_.primitive
        oaep = padding.OAEP(padding.MGF1(digest), digest, label.encode() + b"\0")
        return seed, key.key.encrypt(seed, oaep)
    curve = key.curve
    if curve is None:
        raise TypeError("a key is of RSA or elliptic")
    ephemeral = ec.generate_private_key(curve.primitive)
    ours, theirs = ephemeral.public_key().public_numbers(), key.key.public_numbers()
    shared = ephemeral.exchange(ec.ECDH(), key.key)
    x, y = (number.to_bytes(curve.size, "big") for number in (ours.x, ours.y))
    seed = kdfe(hash_, shared, label, x, theirs.x.to_bytes(curve.size, "big"), hash_.size)
    return seed, sized(x) + sized(y)
