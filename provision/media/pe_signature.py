"""Signatures in PE images, as firmware with Secure Boot checks them (UEFI 2.10, section 32.2.4; Microsoft, "Windows
Authenticode Portable Executable Signature Format"; PKCS #7, RFC 2315).

There is no time in one, so the same image and key give the same bytes. What is signed is some hundred bytes, so the key
may be elsewhere: `request` is signed there, and `attach` takes what comes back.
"""

from __future__ import annotations

import hashlib
import struct

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from provision.errors import Invalid
from provision.media import der
from provision.media.authenticode import digest

_DATA, _SIGNED_DATA = "1.2.840.113549.1.7.1", "1.2.840.113549.1.7.2"
_CONTENT_TYPE, _MESSAGE_DIGEST = "1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4"
_SHA256, _RSA = "2.16.840.1.101.3.4.2.1", "1.2.840.113549.1.1.1"
_INDIRECT_DATA, _PE_IMAGE_DATA = "1.3.6.1.4.1.311.2.1.4", "1.3.6.1.4.1.311.2.1.15"
_REVISION, _PKCS = 0x0200, 0x0002
_ALIGNMENT = 8


def request(image: bytes, subject: str) -> bytes:
    """What is to be signed of an image: RSA (PKCS #1 v1.5) with SHA-256 over these bytes. Raises Invalid."""
    return der.set_of(*_attributes(_indirect_data(digest(image, subject))))


def sign(key: rsa.RSAPrivateKey, to_sign: bytes) -> bytes:
    """The signature over what `request` gives."""
    return key.sign(to_sign, padding.PKCS1v15(), SHA256())


def attach(image: bytes, certificate: x509.Certificate, signature: bytes, subject: str) -> bytes:
    """The image with its signature. Raises Invalid for a signature that the certificate's key has not made over it."""
    key = certificate.public_key()
    try:
        if not isinstance(key, rsa.RSAPublicKey):
            raise InvalidSignature
        key.verify(signature, request(image, subject), padding.PKCS1v15(), SHA256())
    except InvalidSignature:
        fact = (
            "its signature was not made with the key of the site's Secure Boot certificate over what was to be signed"
        )
        raise Invalid(subject, fact, "sign the request again, with that key") from None
    content = _indirect_data(digest(image, subject))
    encapsulated = der.value(der.SEQUENCE, der.identifier(_INDIRECT_DATA), der.tagged(0, content))
    signer = _signer_info(certificate, signature, der.tagged(0, *sorted(_attributes(content))))
    signed_data = _signed_data(encapsulated, certificate, signer)
    signed = der.value(der.SEQUENCE, der.identifier(_SIGNED_DATA), der.tagged(0, signed_data))
    padded = signed + bytes(-len(signed) % _ALIGNMENT)
    if len(image) % _ALIGNMENT:
        raise Invalid(subject, "does not end at a multiple of 8 bytes", "take an image that this program has built")
    entry = struct.pack("<IHH", 8 + len(padded), _REVISION, _PKCS) + padded
    signed_image = bytearray(image)
    struct.pack_into("<II", signed_image, _directory(image), len(image), len(entry))
    return bytes(signed_image) + entry


def detached(certificate: x509.Certificate, signature: bytes) -> bytes:
    """A SignedData over what it does not hold, as UEFI's variables are signed; not in a ContentInfo."""
    content = der.value(der.SEQUENCE, der.identifier(_DATA))
    return _signed_data(content, certificate, _signer_info(certificate, signature))


def _directory(image: bytes) -> int:
    """Where the image says where its signatures are."""
    (at,) = struct.unpack_from("<I", image, 0x3C)
    (magic,) = struct.unpack_from("<H", image, at + 24)
    return int(at) + 24 + (112 if magic == 0x20B else 96) + 4 * 8


def _indirect_data(image_hash: bytes) -> bytes:
    """SpcIndirectDataContent: the image's hash, and that it is one of a PE image."""
    # SpcPeImageData: no flags, and a file name that nobody reads.
    name = der.tagged(0, der.tagged(2, der.tagged(0, "<<<Obsolete>>>".encode("utf-16-be"), constructed=False)))
    about = der.value(der.SEQUENCE, der.value(der.BITS, b"\0"), name)
    kind = der.value(der.SEQUENCE, der.identifier(_PE_IMAGE_DATA), about)
    return der.value(der.SEQUENCE, kind, der.value(der.SEQUENCE, _sha256(), der.value(der.OCTETS, image_hash)))


def _attributes(content: bytes) -> tuple[bytes, bytes]:
    """The authenticated attributes of the signer: the content's type, and the hash of what is in it."""
    inside = content[2 + (content[1] & 0x7F if content[1] & 0x80 else 0) :]
    kind = der.value(der.SEQUENCE, der.identifier(_CONTENT_TYPE), der.value(der.SET, der.identifier(_INDIRECT_DATA)))
    hashed = der.value(der.OCTETS, hashlib.sha256(inside).digest())
    return kind, der.value(der.SEQUENCE, der.identifier(_MESSAGE_DIGEST), der.value(der.SET, hashed))


def _signed_data(content: bytes, certificate: x509.Certificate, signer: bytes) -> bytes:
    """SignedData (RFC 2315, section 9.1) of one signer."""
    whole = certificate.public_bytes(Encoding.DER)
    parts = der.integer(1), der.set_of(_sha256()), content, der.tagged(0, whole), der.set_of(signer)
    return der.value(der.SEQUENCE, *parts)


def _signer_info(certificate: x509.Certificate, signature: bytes, attributes: bytes = b"") -> bytes:
    """SignerInfo (RFC 2315, section 9.2) of an RSA key with SHA-256."""
    who = der.value(der.SEQUENCE, certificate.issuer.public_bytes(), der.integer(certificate.serial_number))
    how = der.value(der.SEQUENCE, der.identifier(_RSA), der.NULL)
    made = der.value(der.OCTETS, signature)
    return der.value(der.SEQUENCE, der.integer(1), who, _sha256(), attributes, how, made)


def _sha256() -> bytes:
    return der.value(der.SEQUENCE, der.identifier(_SHA256), der.NULL)
