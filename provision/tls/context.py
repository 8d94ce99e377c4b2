"""TLS as the server speaks it: 1.2 and 1.3, with what browsers, curl and firmware have in common.

Firmware without elliptic curves needs finite-field Diffie-Hellman, in the group ffdhe2048 (RFC 7919).
"""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from provision import pem
from provision.errors import Invalid, Unavailable

CIPHERS = "ECDHE+AESGCM:DHE+AESGCM"
"""Of TLS 1.2; those of 1.3 are OpenSSL's own."""

_GROUP = Path(__file__).with_name("ffdhe2048.pem")
_MOST = 1 << 20
_OTHERS_MAY = 0o037  # a group may read a key: distributions have one for that

Pairs = Sequence[tuple[Path, Path]]
"""Files of certificates (a chain from the server's own on) and of their keys, at most one pair of each kind of key."""


class ServerContext(ssl.SSLContext):
    """A context of this server. `channels` are the channel bindings "tls-server-end-point" (RFC 5929 section 4) of its
    certificates: a connection has one of them, and nobody says which."""

    channels: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Loaded:
    """A context, and until when all of its certificates are valid. `client` is the one certificate (DER) that a client
    has to show, and then that one counts; None when it has to show none."""

    context: ServerContext
    expires: datetime
    client: bytes | None = None


def load(pairs: Pairs, client: Path | None = None) -> Loaded:
    """A context with these certificates, for whoever shows the certificate in `client` (PEM), or for everybody. Raises
    Invalid for files that are not right, Unavailable for those that cannot be read, or that others may read."""
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    context.load_dh_params(str(_GROUP))
    kinds: set[type] = set()
    expires = []
    for certificate, key in pairs:
        chain = _checked(certificate, key)
        kind = type(chain[0].public_key())
        if kind in kinds:
            fact = "has the same kind of key as the other certificate, and TLS would take one of both"
            raise Invalid(str(certificate), fact, "give one with an EC key and one with an RSA key")
        kinds.add(kind)
        context.channels = (*context.channels, channel(chain[0]))
        expires.append(min(one.not_valid_after_utc for one in chain))
        try:
            # Without the function OpenSSL would ask at the terminal.
            context.load_cert_chain(certificate, key, password=lambda: "")
        except OSError as error:
            fact = f"OpenSSL does not take it ({getattr(error, 'reason', None) or error.strerror})"
            raise Invalid(str(certificate), fact, "request it again") from None
    return Loaded(context, min(expires)) if client is None else _for_one(Loaded(context, min(expires)), client)


def _for_one(loaded: Loaded, client: Path) -> Loaded:
    """The same for who shows this certificate. It may be its own root: OpenSSL takes what it has issued, too, so that
    whoever is let in has to be compared with `Loaded.client`."""
    content = _read(client, private=False)
    try:
        (certificate,) = pem.certificates(content)
    except (Invalid, ValueError):
        raise Invalid(str(client), "is not one certificate (PEM)", "give the proxy's own one") from None
    shown = certificate.public_bytes(Encoding.DER)
    loaded.context.verify_mode = ssl.CERT_REQUIRED
    loaded.context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    loaded.context.load_verify_locations(cadata=shown)
    return replace(loaded, expires=certificate.not_valid_after_utc, client=shown)


def channel(certificate: x509.Certificate) -> bytes:
    """The channel binding of TLS connections to whoever shows this certificate (RFC 5929 section 4.1)."""
    used = certificate.signature_hash_algorithm
    # MD5 and SHA-1 count as SHA-256; so does what has no hash of its own, of which the RFC says nothing.
    digest = hashes.SHA256() if used is None or isinstance(used, hashes.MD5 | hashes.SHA1) else used
    return b"tls-server-end-point:" + certificate.fingerprint(digest)


def for_client(ca: Path | None) -> ssl.SSLContext:
    """A context that checks a server's name and certificate, with the roots in `ca` (PEM) or those of the system.
    Raises OSError (ssl.SSLError among them)."""
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def stamps(pairs: Pairs, client: Path | None = None) -> tuple[tuple[int, ...] | None, ...]:
    """What of the files shows that one of them is another than before."""
    paths = [path for pair in pairs for path in pair]
    return tuple(_stamp(path) for path in (paths if client is None else [*paths, client]))


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size


def _checked(certificate: Path, key: Path) -> list[x509.Certificate]:
    """The chain, when it is one for a server and the key is its own."""
    content = _read(certificate, private=False)
    try:
        chain = pem.certificates(content)
        pem.require_tls_certificates(content)
    except Invalid as error:
        raise Invalid(str(certificate), error.fact, error.remedy) from None
    secret = _read(key, private=True)
    try:
        pem.require_tls_key(secret)
        own = pem.private_key(secret).public_key()
    except Invalid as error:
        raise Invalid(str(key), error.fact, error.remedy) from None
    if _der(own) != _der(chain[0].public_key()):
        remedy = "give the key that it was requested for; when the internal CA made it, run 'provision ca renew'"
        raise Invalid(str(key), f"is not the key of {certificate}", remedy)
    try:
        usages = chain[0].extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return chain
    if ExtendedKeyUsageOID.SERVER_AUTH not in usages:
        raise Invalid(str(certificate), "is not for a server (extended key usage)", "request one with serverAuth")
    return chain


def _der(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _read(path: Path, *, private: bool) -> bytes:
    try:
        with open(path, "rb", opener=_open) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise Unavailable(str(path), "is not a regular file", "correct [api]")
            content = file.read(_MOST)
    except OSError as error:
        raise Unavailable(
            str(path), f"cannot be read ({error.strerror})", "check [api], and the file's owner"
        ) from None
    if private and status.st_uid not in (0, os.geteuid()):
        raise Unavailable(str(path), f"the key belongs to user id {status.st_uid}", "give it to the service's user")
    if private and status.st_mode & _OTHERS_MAY:
        mode = stat.S_IMODE(status.st_mode)
        raise Unavailable(str(path), f"others may read or write the key (mode {mode:04o})", f"chmod 600 {path}")
    return content


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe that nobody writes to must not be waited for
