"""UEFI's signature databases as files that firmware takes: signature lists, and the signed form in which they are
written (UEFI 2.10, sections 32.4.1 and 8.2.2, EFI_VARIABLE_AUTHENTICATION_2)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from provision.media import pe_signature

_X509, _PKCS7 = UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072"), UUID("4aafd29d-68df-49ee-8aa9-347d375665a7")
_OWNER = UUID("5f0f7b52-8f0e-4b5c-9d5e-3c1d7a4b9e60")
"""Who has put a certificate into a list; any constant of one's own."""
_GLOBAL, _SECURITY = UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c"), UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
_ATTRIBUTES = 0x27
"""Non-volatile, at boot and at run time, and written with a signature and a time."""
_REVISION, _EFI_GUID = 0x0200, 0x0EF1


@dataclass(frozen=True)
class Variable:
    """One of the databases."""

    name: str
    vendor: UUID


PK, KEK, DB = Variable("PK", _GLOBAL), Variable("KEK", _GLOBAL), Variable("db", _SECURITY)


def signature_list(certificates: Sequence[bytes]) -> bytes:
    """EFI_SIGNATURE_LISTs of certificates in DER, one after the other."""
    return b"".join(map(_list, certificates))


def signed(
    variable: Variable, content: bytes, moment: datetime, key: rsa.RSAPrivateKey, certificate: x509.Certificate
) -> bytes:
    """The content as firmware takes it for the variable, signed at `moment` (UTC) with a key that it knows."""
    time = struct.pack(
        "<HBBBBBxIhBx", moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second, 0, 0, 0
    )
    about = variable.name.encode("utf-16-le") + variable.vendor.bytes_le + struct.pack("<I", _ATTRIBUTES) + time
    signature = pe_signature.detached(certificate, pe_signature.sign(key, about + content))
    head = struct.pack("<IHH", 24 + len(signature), _REVISION, _EFI_GUID) + _PKCS7.bytes_le
    return time + head + signature + content


def _list(certificate: bytes) -> bytes:
    signature = _OWNER.bytes_le + certificate
    return _X509.bytes_le + struct.pack("<III", 28 + len(signature), 0, len(signature)) + signature
