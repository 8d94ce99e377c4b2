"""Public areas of TPM objects (TPMT_PUBLIC; TCG TPM 2.0 Library, Part 2, section 12.2): keys that a host shows, and the
sealed objects that the server makes. An object's name is a hash over all of it, so that nothing of it can change."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from provision.errors import Invalid
from provision.tpm.algorithms import Algorithm, Curve, Hash
from provision.tpm.wire import Reader, sized, u16, u32

MOST = 1024
"""Bytes; no public area of a key that is known here is longer."""
_F4 = 65537
_RSA_BITS = (2048, 3072, 4096)


class Attribute(IntFlag):
    """TPMA_OBJECT (Part 2, section 8.3)."""

    FIXED_TPM = 1 << 1
    ST_CLEAR = 1 << 2
    FIXED_PARENT = 1 << 4
    SENSITIVE_DATA_ORIGIN = 1 << 5
    USER_WITH_AUTH = 1 << 6
    ADMIN_WITH_POLICY = 1 << 7
    NO_DA = 1 << 10
    ENCRYPTED_DUPLICATION = 1 << 11
    RESTRICTED = 1 << 16
    DECRYPT = 1 << 17
    SIGN = 1 << 18


@dataclass(frozen=True)
class Public:
    """A key: its name's hash, attributes and policy, its `symmetric` key size in bytes when it is a storage key (AES in
    CFB mode), the hash of its signing scheme when it has one, and the public key itself."""

    data: bytes
    name_hash: Hash
    attributes: Attribute
    policy: bytes
    symmetric: int | None
    scheme: tuple[Algorithm, Hash] | None
    key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey

    @property
    def name(self) -> bytes:
        """The object's name (Part 1, section 16): the number of the hash, and the hash of the public area."""
        return name(self.name_hash, self.data)

    @property
    def curve(self) -> Curve | None:
        """The curve of an elliptic key."""
        if isinstance(self.key, ec.EllipticCurvePublicKey):
            return Curve.P256 if self.key.curve.name == "secp256r1" else Curve.P384
        return None


def name(name_hash: Hash, data: bytes) -> bytes:
    """The name of an object whose public area is `data`."""
    return u16(name_hash) + name_hash.of(data)


def parse(data: bytes, subject: str) -> Public:
    """The key in a TPMT_PUBLIC. Raises Invalid, in the name of `subject`, for what is not an RSA key of 2048 bits or
    more, or one on P-256 or P-384."""
    reader = Reader(data[:MOST], subject)
    kind = reader.u16()
    try:
        name_hash = Hash(reader.u16())
    except ValueError:
        raise reader.wrong("has a name by a hash other than SHA-256 and SHA-384") from None
    attributes = Attribute(reader.u32())
    policy = reader.sized()
    if len(policy) not in (0, name_hash.size):
        raise reader.wrong(f"has a policy of {len(policy)} bytes")
    if kind not in (Algorithm.RSA, Algorithm.ECC):
        raise reader.wrong("is not an RSA or elliptic key")
    symmetric = _symmetric(reader)
    scheme = _scheme(reader)
    key = _rsa(reader) if kind == Algorithm.RSA else _elliptic(reader)
    reader.end()
    return Public(data, name_hash, attributes, policy, symmetric, scheme, key)


def sealed_object(name_hash: Hash, policy: bytes, unique: bytes) -> bytes:
    """The TPMT_PUBLIC of sealed data that opens by its policy and in no other way, and that no wrong try locks."""
    attributes = Attribute.ADMIN_WITH_POLICY | Attribute.NO_DA
    head = u16(Algorithm.KEYEDHASH) + u16(name_hash) + u32(attributes) + sized(policy)
    return head + u16(Algorithm.NULL) + sized(unique)


def signing_key(key: ec.EllipticCurvePublicKey) -> bytes:
    """The TPMT_PUBLIC of a site's P-256 key, with which TPMs check what the site has approved.

    Its name is part of policies, so that these bytes must never change.
    """
    numbers = key.public_numbers()
    if key.curve.name != "secp256r1":
        raise Invalid("site key", "is not on P-256", "make one with 'provision sb init'")
    attributes = Attribute.SIGN | Attribute.USER_WITH_AUTH
    head = u16(Algorithm.ECC) + u16(Hash.SHA256) + u32(attributes) + sized(b"")
    null = u16(Algorithm.NULL)
    point = sized(numbers.x.to_bytes(32, "big")) + sized(numbers.y.to_bytes(32, "big"))
    return head + null + null + u16(Curve.P256) + null + point


def _symmetric(reader: Reader) -> int | None:
    kind = reader.u16()
    if kind == Algorithm.NULL:
        return None
    bits, mode = reader.u16(), reader.u16()
    if kind != Algorithm.AES or mode != Algorithm.CFB or bits not in (128, 256):
        raise reader.wrong("is a storage key of another cipher than AES in CFB mode")
    return bits // 8


def _scheme(reader: Reader) -> tuple[Algorithm, Hash] | None:
    kind = reader.u16()
    if kind == Algorithm.NULL:
        return None
    if kind not in (Algorithm.RSASSA, Algorithm.ECDSA):
        raise reader.wrong("signs by another scheme than RSASSA and ECDSA")
    try:
        return Algorithm(kind), Hash(reader.u16())
    except ValueError:
        raise reader.wrong("signs with a hash other than SHA-256 and SHA-384") from None


def _rsa(reader: Reader) -> rsa.RSAPublicKey:
    bits, exponent, modulus = reader.u16(), reader.u32() or _F4, reader.sized()
    number = int.from_bytes(modulus, "big")
    if bits not in _RSA_BITS or number.bit_length() != bits or len(modulus) != bits // 8:
        raise reader.wrong("is an RSA key of another size than 2048, 3072 or 4096 bits")
    try:
        return rsa.RSAPublicNumbers(exponent, number).public_key()
    except ValueError:
        raise reader.wrong("is not a valid RSA key") from None


def _elliptic(reader: Reader) -> ec.EllipticCurvePublicKey:
    number, kdf = reader.u16(), reader.u16()
    if kdf != Algorithm.NULL:
        reader.u16()
    x, y = reader.sized(), reader.sized()
    try:
        curve = Curve(number)
        at = int.from_bytes(x, "big"), int.from_bytes(y, "big")
        return ec.EllipticCurvePublicNumbers(*at, curve.primitive).public_key()
    except ValueError:
        raise reader.wrong("is not a point on P-256 or P-384") from None
