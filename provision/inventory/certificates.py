"""The site's CA certificates: PEM text (RFC 7468) in, one canonical PEM per certificate out."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from provision import pem
from provision.errors import Invalid


def authorities(subject: str, text: bytes, now: datetime) -> list[str]:
    """The CA certificates of a PEM bundle, each as PEM text of its own with no comments.

    Raises Invalid, naming `subject`, when a part is not a certificate, is a private key, is not a CA, or is not valid
    at `now` (aware datetime). Nothing of `text` is repeated in the error but the certificate's subject.
    """
    if b"PRIVATE KEY" in text:
        raise Invalid(subject, "holds a private key", "take it out, and replace it if others could read this file")
    try:
        found = x509.load_pem_x509_certificates(text)
    except (ValueError, x509.InvalidVersion):
        raise Invalid(
            subject, "is not a PEM certificate", "paste it from '-----BEGIN CERTIFICATE-----' to the end line"
        ) from None
    return [_checked(subject, certificate, now) for certificate in found]


def _checked(subject: str, certificate: x509.Certificate, now: datetime) -> str:
    try:
        name = certificate.subject.rfc4514_string()
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        basic = None
    except ValueError:
        raise Invalid(subject, "the certificate is damaged", "export it again") from None
    if basic is None or not basic.ca:
        raise Invalid(subject, f"'{name}' is not a CA certificate", "give the certificate of the CA that signed it")
    if now > certificate.not_valid_after_utc:
        raise Invalid(subject, f"'{name}' expired on {certificate.not_valid_after_utc:%Y-%m-%d}", "give the new one")
    if now < certificate.not_valid_before_utc:
        day = f"{certificate.not_valid_before_utc:%Y-%m-%d}"
        raise Invalid(subject, f"'{name}' is valid only from {day}", "look at this machine's clock")
    try:
        pem.require_tls_certificate(certificate)
    except Invalid as error:
        raise Invalid(subject, f"'{name}': {error.fact}", error.remedy) from None
    return certificate.public_bytes(Encoding.PEM).decode("ascii")
