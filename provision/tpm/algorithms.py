"""Algorithms and curves by their numbers in TPM 2.0 (TCG Algorithm Registry), and the key derivation of TPMs."""

from __future__ import annotations

import hashlib
import hmac
from enum import IntEnum

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from provision.tpm.wire import u32


class Algorithm(IntEnum):
    """TPM_ALG_ID."""

    RSA = 0x0001
    HMAC = 0x0005
    AES = 0x0006
    KEYEDHASH = 0x0008
    SHA256 = 0x000B
    SHA384 = 0x000C
    NULL = 0x0010
    RSASSA = 0x0014
    ECDSA = 0x0018
    ECC = 0x0023
    CFB = 0x0043


class Hash(IntEnum):
    """The hashes that are used here; SHA-1 is not."""

    SHA256 = Algorithm.SHA256
    SHA384 = Algorithm.SHA384

    @property
    def size(self) -> int:
        """Bytes of a digest."""
        return hashlib.new(self._python_name).digest_size

    def of(self, *parts: bytes) -> bytes:
        """The digest of all parts, one behind the other."""
        digest = hashlib.new(self._python_name)
        for part in parts:
            digest.update(part)
        return digest.digest()

    def mac(self, key: bytes, *parts: bytes) -> bytes:
        """HMAC (RFC 2104) of all parts."""
        return hmac.digest(key, b"".join(parts), self._python_name)

    @property
    def primitive(self) -> hashes.HashAlgorithm:
        """As `cryptography` calls it."""
        return hashes.SHA256() if self is Hash.SHA256 else hashes.SHA384()

    @property
    def _python_name(self) -> str:
        return self.name.lower()


class Curve(IntEnum):
    """TPM_ECC_CURVE."""

    P256 = 0x0003
    P384 = 0x0004

    @property
    def primitive(self) -> ec.EllipticCurve:
        """As `cryptography` calls it."""
        return ec.SECP256R1() if self is Curve.P256 else ec.SECP384R1()

    @property
    def size(self) -> int:
        """Bytes of a coordinate."""
        return self.primitive.key_size // 8


def kdfa(hash_: Hash, key: bytes, label: str, first: bytes, second: bytes, size: int) -> bytes:
    """`size` bytes of KDFa (Part 1, section 11.4.10.2: SP 800-108 in counter mode with HMAC)."""
    rest = label.encode() + b"\0" + first + second + u32(8 * size)
    blocks = -(-size // hash_.size)
    return b"".join(hash_.mac(key, u32(number), rest) for number in range(1, blocks + 1))[:size]


def kdfe(hash_: Hash, shared: bytes, label: str, first: bytes, second: bytes, size: int) -> bytes:
    """`size` bytes of KDFe (Part 1, section 11.4.10.3: SP 800-56A) from an ECDH's shared coordinate."""
    rest = shared + label.encode() + b"\0" + first + second
    blocks = -(-size // hash_.size)
    return b"".join(hash_.of(u32(number), rest) for number in range(1, blocks + 1))[:size]
