"""Keys and certificates in PEM (RFC 7468), held to what every reader on a host takes.

The library that parses them is more lenient than OpenSSL 3 and GnuTLS 3.7, and each of these refuses some of what the
other one reads. What `require_...` lets pass, both read: tests/unit/test_pem.py asks them. Errors never show content.
"""

from __future__ import annotations

import binascii
import re

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key, load_ssh_private_key

from provision.errors import Invalid

KEY_MARK = b" PRIVATE KEY-----"
CERTIFICATE_MARK = b"-----BEGIN CERTIFICATE-----"
OPENSSH_MARK = b"-----BEGIN OPENSSH PRIVATE KEY-----"

_SUBJECT = "PEM"
_LEAST_RSA = 2048
_CURVES = ("secp224r1", "secp256r1", "secp384r1", "secp521r1")
_SSH_CURVES = _CURVES[1:]
_WEAK = ("md5", "sha1")
_PRIME_FIELD = bytes.fromhex("06072a8648ce3d0101")
"""The object identifier in parameters that describe an elliptic curve instead of naming it (RFC 3279 section 2.3.5)."""
_EDGE = re.compile(rb"-----(BEGIN|END) ([A-Z0-9 ]*)-----")
_BASE64 = re.compile(rb"[A-Za-z0-9+/]*={0,2}")
_MAKE = "make one with 'openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256'"
_REQUEST = "request one for an EC key on P-256, or an RSA key"
_UNLOCK = "give an unencrypted PEM key ('openssl pkey -in KEY')"


def certificates(content: bytes) -> list[x509.Certificate]:
    """Every certificate of a file, in its order, at least one; raises Invalid when it is not PEM."""
    try:
        return x509.load_pem_x509_certificates(content)
    except (ValueError, x509.InvalidVersion):
        raise Invalid(_SUBJECT, "is not a PEM certificate", "give PEM ('-----BEGIN CERTIFICATE-----')") from None


def public_key(certificate: x509.Certificate) -> PublicKeyTypes:
    """The certificate's key; raises Invalid for one of an unknown kind."""
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise Invalid(_SUBJECT, "the certificate has a public key of an unknown kind", _REQUEST) from None


def private_key(content: bytes) -> PrivateKeyTypes:
    """The private key of a file that may hold certificates too, in PEM or as OpenSSH writes it; raises Invalid."""
    openssh = OPENSSH_MARK in content
    load = load_ssh_private_key if openssh else load_pem_private_key
    try:
        return load(_key_part(content), password=None)
    except TypeError:
        remedy = "take it off: 'ssh-keygen -p -f KEY', with an empty new passphrase" if openssh else _UNLOCK
        raise Invalid(_SUBJECT, "the private key is encrypted with a passphrase", remedy) from None
    except (ValueError, UnsupportedAlgorithm):
        kind, remedy = ("an OpenSSH", "copy the file again, whole") if openssh else ("a PEM", _UNLOCK)
        raise Invalid(_SUBJECT, f"is not {kind} private key that can be read", remedy) from None


def require_tls_certificates(content: bytes) -> None:
    """Raise Invalid when OpenSSL or GnuTLS would not read a certificate of the file, or refuse how it is signed."""
    for certificate in certificates(content):
        require_tls_certificate(certificate)
    _require_shape(content)


def require_tls_certificate(certificate: x509.Certificate) -> None:
    """Raise Invalid when OpenSSL or GnuTLS would not read the certificate, or not take its key or how it is signed."""
    if not _is_sound(certificate):
        raise Invalid(_SUBJECT, "the certificate is damaged, or signed in an unknown way", "export or request it again")
    if fact := _unfit(public_key(certificate)):
        raise Invalid(_SUBJECT, f"the certificate's key {fact}", _REQUEST)
    weak = certificate.signature_hash_algorithm
    if weak is not None and weak.name in _WEAK and certificate.issuer != certificate.subject:
        fact = f"the certificate is signed with {weak.name.upper()}, which OpenSSL and GnuTLS refuse"
        raise Invalid(_SUBJECT, fact, "request it again, with SHA-256")


def _is_sound(certificate: x509.Certificate) -> bool:
    """Whether all parts can be read, which the library does when they are asked for, and both places that name the
    signature's algorithm agree (RFC 5280 section 4.1.1.2)."""
    try:
        _ = certificate.subject.rfc4514_string(), certificate.issuer.rfc4514_string(), certificate.extensions
        _ = certificate.signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension):
        return False
    whole, signed = certificate.public_bytes(Encoding.DER), certificate.tbs_certificate_bytes
    algorithm = whole[whole.index(signed) + len(signed) :]
    algorithm = algorithm[: 2 + algorithm[1]]
    # Before it stand the sequence's header, the version and a serial number of 20 octets at most.
    return algorithm in signed[: 40 + len(algorithm)]


def require_tls_key(content: bytes) -> None:
    """Raise Invalid when OpenSSL or GnuTLS would not read the private key."""
    key = private_key(content)
    if OPENSSH_MARK in content:
        fact = "is an OpenSSH key, which OpenSSL and GnuTLS cannot read"
        raise Invalid(_SUBJECT, fact, "declare it with a path below /etc/ssh when sshd reads it, else as kind 'file'")
    if fact := _unfit(key.public_key()):
        raise Invalid(_SUBJECT, f"the key {fact}", _MAKE)
    _require_shape(content)
    if _PRIME_FIELD in _bytes(_key_part(content)):
        fact = "the key describes its curve instead of naming it, and GnuTLS cannot read that"
        raise Invalid(_SUBJECT, fact, "write it again: 'openssl pkey -ec_param_enc named_curve -in KEY'")


def require_ssh_key(content: bytes) -> None:
    """Raise Invalid when OpenSSH (9.2 and later) would not read the private key."""
    key = private_key(content)
    if OPENSSH_MARK not in content:
        require_tls_key(content)
        curve = key.curve.name if isinstance(key, ec.EllipticCurvePrivateKey) else _CURVES[-1]
        if curve not in _SSH_CURVES or isinstance(key, (ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey)):
            fact = "is a key that OpenSSH does not read from PEM"
            raise Invalid(_SUBJECT, fact, "make one with 'ssh-keygen -t ed25519 -f KEY'")
    _require_shape(content)


def _unfit(key: PublicKeyTypes) -> str:
    """Why OpenSSL or GnuTLS, as Debian sets them up, do not take a key of this kind; "" when both do."""
    if isinstance(key, rsa.RSAPublicKey):
        return "" if key.key_size >= _LEAST_RSA else f"is RSA with {key.key_size} bits; OpenSSL wants {_LEAST_RSA}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return "" if key.curve.name in _CURVES else f"is on the curve {key.curve.name}, which GnuTLS does not know"
    if isinstance(key, (ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)):
        return ""
    return "is neither RSA nor EC nor Ed25519 nor Ed448; TLS takes no other"


def _require_shape(content: bytes) -> None:
    """Raise Invalid for text around and in PEM blocks that OpenSSL or GnuTLS stumbles over."""
    label = b""
    for number, raw in enumerate(content.split(b"\n"), start=1):
        line, edge = raw.rstrip(b" \t\r\0"), _EDGE.search(raw)
        if b"\r" in line:
            raise _misshapen(number, "has a carriage return in it", "end lines with a newline ('tr '\\r' '\\n'')")
        if edge is not None and edge[0] != line.removeprefix(b"\xef\xbb\xbf" if number == 1 else b""):
            raise _misshapen(number, f"has more than '-----{edge[1].decode()} ...-----'", "take the rest away")
        if edge is not None:
            label = edge[2] if edge[1] == b"BEGIN" else b""
        elif label and not line.strip():
            # To OpenSSL it ends the headers, and what stands before it, or is indented behind it, is not Base64.
            raise _misshapen(number, "is empty, inside a PEM block", "take it out")
        elif label and not _BASE64.fullmatch(line.strip()):
            raise _misshapen(number, "is not Base64, inside a PEM block", "take it out")


def _misshapen(number: int, fact: str, remedy: str) -> Invalid:
    return Invalid(_SUBJECT, f"line {number} {fact}, and OpenSSL or GnuTLS would not read it", remedy)


def _key_part(content: bytes) -> bytes:
    """From the beginning of the private key on, of a file that may hold certificates too."""
    mark = content.find(KEY_MARK)
    return content if mark < 0 else content[max(0, content.rfind(b"-----BEGIN ", 0, mark)) :]


def _bytes(part: bytes) -> bytes:
    """What a PEM block at the beginning of `part` encodes."""
    lines = part.split(b"-----END", 1)[0].split(b"\n")[1:]
    try:
        return binascii.a2b_base64(b"".join(lines))
    except binascii.Error:
        raise Invalid(_SUBJECT, "is not a PEM private key that can be read", _UNLOCK) from None
