"""The halves of the site's keys: made, and read as they are kept (see `provision.site_key`)."""

from __future__ import annotations

from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from provision.secret import Secret
from provision.site_key import RSA_BITS

_DAYS = 7300


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


def new_secure_boot(site: str, now: datetime) -> tuple[rsa.RSAPrivateKey, x509.Certificate]:
    """A new Secure Boot key, and the certificate that firmware knows it by. Firmware does not look at its dates."""
    key = rsa.generate_private_key(65537, RSA_BITS)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{site} Secure Boot"[:64])])
    start = now.replace(microsecond=0)
    end = start + timedelta(days=_DAYS)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), start, end)
    return key, builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(
        key, SHA256()
    )
