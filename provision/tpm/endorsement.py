"""Whose TPM an endorsement key (EK) is in: by its vendor's certificate, or by a hash that somebody has compared.

Certificates: TCG EK Credential Profile for TPM 2.0, section 3. Only roots that the operator has configured count.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ObjectIdentifier
from cryptography.x509.oid import ExtendedKeyUsageOID

from provision.errors import Denied, Invalid, Problem, Problems
from provision.tpm.public import Public

RULE = "tpm-endorsement"
CERTIFICATE_INDEX = {"rsa": 0x01C00002, "ecc": 0x01C0000A}
"""Where a TPM has the certificates of the EKs of the default templates (section 2.2.1.4)."""

T = TypeVar("T", bound=x509.ExtensionType)

_EK_USAGE = ObjectIdentifier("2.23.133.8.1")  # tcg-kp-EKCertificate
_MANUFACTURER, _MODEL, _VERSION = (ObjectIdentifier(f"2.23.133.2.{n}") for n in (1, 2, 3))
_LONGEST_CHAIN = 5
_MOST_ROWS = 100_000
_HASH = re.compile(r"[0-9a-fA-F]{64}")
_ACCEPT = "compare the fingerprint with the one on the host's console, and accept it: 'provision tpm accept'"


@dataclass(frozen=True)
class Maker:
    """What a certificate says of a TPM: manufacturer, model and version, as the vendor writes them, and the root that
    vouches for it."""

    manufacturer: str
    model: str
    version: str
    root: str


def fingerprint(key: Public) -> str:
    """SHA-256 in hex of the key as a SubjectPublicKeyInfo in DER (RFC 5280), as `openssl pkey -pubin -outform DER |
    sha256sum` has it."""
    return hashlib.sha256(key.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def certified(
    certificate: bytes,
    key: Public,
    trusted: Sequence[x509.Certificate],
    others: Sequence[x509.Certificate],
    now: datetime,
    subject: str,
) -> Maker:
    """What the certificate (DER, as a TPM has it) says, when it is for this key and goes back to one of the `trusted`
    roots, maybe by some of the `others`. Raises Invalid for what is no such certificate, and Denied for one that nobody
    who is trusted vouches for."""
    try:
        # What follows in NV memory is padding.
        found = x509.load_der_x509_certificate(_first_value(certificate))
        theirs = found.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        usages = _extension(found, x509.ExtendedKeyUsage)
    except (ValueError, UnsupportedAlgorithm, IndexError):
        raise Invalid(subject, "its endorsement certificate cannot be read", _ACCEPT) from None
    if hashlib.sha256(theirs).hexdigest() != fingerprint(key):
        raise _denied(subject, "its endorsement certificate is for another key")
    allowed = (_EK_USAGE, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)
    if usages is not None and not any(usage in usages for usage in allowed):
        raise _denied(subject, "its certificate is not one for endorsement keys")
    chain = _chain(found, trusted, others, now)
    if chain is None:
        issuer = found.issuer.rfc4514_string()[:200]
        raise _denied(subject, f"no configured root vouches for its endorsement certificate (issuer: {issuer})")
    return _maker(found, chain[-1])


def _denied(subject: str, fact: str) -> Denied:
    return Denied(subject, fact, f"configure its vendor's root, or {_ACCEPT}", RULE)


def _chain(
    leaf: x509.Certificate, trusted: Sequence[x509.Certificate], others: Sequence[x509.Certificate], now: datetime
) -> list[x509.Certificate] | None:
    """The certificates from the leaf to a trusted root (RFC 5280, section 6.1, without names and policies), or None."""
    open_chains = [[leaf]] if _is_valid(leaf, now) else []
    while open_chains:
        chain = open_chains.pop()
        for candidate in (*trusted, *others):
            if candidate in chain or not _issued(chain[-1], candidate, len(chain) - 1, now):
                continue
            longer = [*chain, candidate]
            if candidate in trusted:
                return longer
            if len(longer) < _LONGEST_CHAIN:
                open_chains.append(longer)
    return None


def _issued(certificate: x509.Certificate, issuer: x509.Certificate, below: int, now: datetime) -> bool:
    """Whether the issuer has issued it, and may have: it is a CA for so many CAs below itself, and is valid now."""
    try:
        certificate.verify_directly_issued_by(issuer)
        constraints, usage = _extension(issuer, x509.BasicConstraints), _extension(issuer, x509.KeyUsage)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    if constraints is None or not constraints.ca or (usage is not None and not usage.key_cert_sign):
        return False
    return _is_valid(issuer, now) and (constraints.path_length is None or constraints.path_length >= below)


def _is_valid(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc


def _extension(certificate: x509.Certificate, kind: type[T]) -> T | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _maker(certificate: x509.Certificate, root: x509.Certificate) -> Maker:
    names = _extension(certificate, x509.SubjectAlternativeName)
    directory = names.get_values_for_type(x509.DirectoryName) if names is not None else []
    said = {attribute.oid: str(attribute.value) for name in directory for attribute in name}
    manufacturer, model, version = (_printable(said.get(oid, "")) for oid in (_MANUFACTURER, _MODEL, _VERSION))
    return Maker(manufacturer, model, version, _printable(root.subject.rfc4514_string()))


def _printable(text: str) -> str:
    return "".join(char if char.isascii() and char.isprintable() else "?" for char in text)[:100]


def _first_value(der: bytes) -> bytes:
    """The first DER value (X.690, section 8.1.3)."""
    octets = der[1] & 0x7F if der[1] & 0x80 else 0
    length = int.from_bytes(der[2 : 2 + octets], "big") if octets else der[1]
    return der[: 2 + octets + length]


def fingerprints(text: str, subject: str) -> dict[str, str]:
    """A vendor's list: host or serial number, and the EK's fingerprint, in CSV with a header (`host,fingerprint`).

    Raises Problems with every row that is not one.
    """
    found: dict[str, str] = {}
    problems: list[Problem] = []
    for number, row in _rows(text, subject):
        host, value = (row.get("host") or "").strip(), (row.get("fingerprint") or "").strip().replace(":", "")
        if not host or not _HASH.fullmatch(value):
            problems.append(Problem(subject, number, "", "has no host, or no SHA-256 of 64 hexadecimal digits"))
        elif found.get(host, value.lower()) != value.lower():
            problems.append(Problem(subject, number, "", f"gives '{host[:64]}' another fingerprint"))
        else:
            found[host] = value.lower()
    if problems:
        raise Problems(problems, subject)
    return found


def _rows(text: str, subject: str) -> Iterator[tuple[int, dict[str, str | None]]]:
    reader = csv.DictReader(io.StringIO(text))
    if not {"host", "fingerprint"} <= set(reader.fieldnames or ()):
        raise Invalid(subject, "has no columns 'host' and 'fingerprint'", "give it that header")
    for number, row in enumerate(reader, 2):
        if number > _MOST_ROWS:
            raise Invalid(subject, f"has more than {_MOST_ROWS} rows", "import it in pieces")
        yield number, row
