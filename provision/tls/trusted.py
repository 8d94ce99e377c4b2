"""A root certificate in the forms that clients take: PEM, DER, and the signature list of UEFI."""

from __future__ import annotations

import struct
from enum import StrEnum
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

_X509 = UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
_OWNER = UUID("5f0f7b52-8f0e-4b5c-9d5e-3c1d7a4b9e60")
"""Who has put a certificate into a list; any constant of one's own."""


class Form(StrEnum):
    """How a certificate is written."""

    PEM = "pem"
    DER = "der"
    EFI = "efi"


def encoded(certificate: x509.Certificate, form: Form) -> bytes:
    """The certificate in that form."""
    if form is Form.PEM:
        return certificate.public_bytes(Encoding.PEM)
    der = certificate.public_bytes(Encoding.DER)
    return der if form is Form.DER else signature_list(der)


def signature_list(der: bytes) -> bytes:
    """EFI_SIGNATURE_LIST of one EFI_CERT_X509 (UEFI 2.10 section 32.4.1), as firmware takes its TLS trust anchors."""
    signature = _OWNER.bytes_le + der
    return _X509.bytes_le + struct.pack("<III", 28 + len(signature), 0, len(signature)) + signature


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 over the certificate, as other programs show it."""
    return certificate.fingerprint(SHA256()).hex(":").upper()
