"""Secure Boot by the site: its certificate, what is to be signed, and signed unified kernel images."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from provision.api.site_keys import Fingerprint, Number
from provision.api.wire import Answer, ETag, Line, Request, Size, examples
from provision.model import ContentId, Name

Pem = Annotated[
    str, StringConstraints(pattern=r"^-----BEGIN CERTIFICATE-----\n[A-Za-z0-9+/=\n]+-----END CERTIFICATE-----\n?$")
]
Base64 = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]{1,4096}={0,2}$")]

OtherPem = Annotated[str, Field(max_length=16384)]
Certificates = Annotated[tuple[OtherPem, ...], Field(max_length=16)]

_PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
_SHA256 = "66687aadf862bd776c8fc18b8e9f8e20089714856ee233b3902a591d0d5f2925"


class NewSecureBootKey(Request):
    """A Secure Boot key that is wanted; with a `certificate` (PEM), the key stays elsewhere."""

    model_config = examples({"certificate": None})

    certificate: OtherPem | None = None


class SecureBootKey(Answer):
    """A Secure Boot key: its number among the site's keys, its certificate, which firmware must trust, and whether
    images are signed with it now: the oldest key is the one in use."""

    model_config = examples({"number": 3, "fingerprint": _SHA256, "certificate": _PEM, "on_server": True, "used": True})

    number: Number
    fingerprint: Fingerprint
    certificate: Pem
    on_server: bool
    used: bool


class UnifiedMedium(Answer):
    """A signed unified image as an ISO: its SHA-256, its size in bytes and its entity tag."""

    model_config = examples({"image": "debian-12", "sha256": "a" * 64, "size": 67108864, "etag": '"0123456789abcdef"'})

    image: Name
    sha256: ContentId
    size: Size
    etag: ETag


class NewEnrolment(Request):
    """An order for a medium that puts the site's certificates into firmware, beside others (PEM) in `db` and `kek`."""

    model_config = examples({"db": [], "kek": []})

    db: Certificates = ()
    kek: Certificates = ()


class Enrolment(Answer):
    """A disk image (base64) with the site's certificates; when it `enrols`, firmware in setup mode takes them from it,
    else an operator by the firmware's own menu."""

    model_config = examples({"enrols": True, "image": "AAAA"})

    enrols: bool
    image: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]+={0,2}$", max_length=32 << 20)]


class SigningRequest(Answer):
    """What is to be signed (base64) with RSA and SHA-256, by the key of the certificate with this fingerprint."""

    model_config = examples({"image": "debian-12", "certificate": _SHA256, "to_sign": "MWow"})

    image: Name
    certificate: Fingerprint
    to_sign: Base64


class SignUnified(Request):
    """An order to sign; with the `signature` over a signing request when the key is elsewhere."""

    model_config = examples({"signature": None})

    signature: Base64 | None = None


class UnifiedRow(Answer):
    """A signed unified kernel image: of which base, and with what in it. It is `current` when it would come out the
    same if it were signed again. When it is `revoked`, no host that boots it opens an envelope."""

    model_config = examples(
        {
            "name": "debian-12",
            "id": _SHA256,
            "size": 79691776,
            "sha256": _SHA256,
            "certificate": _SHA256,
            "command_line": "console=ttyS0",
            "current": True,
            "revoked": False,
        }
    )

    name: Name
    id: Fingerprint
    size: Size
    sha256: Fingerprint
    certificate: Fingerprint
    command_line: Line
    current: bool
    revoked: bool
