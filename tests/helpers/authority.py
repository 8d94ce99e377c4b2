"""A certificate authority of a test, and what it issues."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


@dataclass(frozen=True)
class Pair:
    """A certificate with those above it that a server shows, and its key; both PEM."""

    chain: bytes
    key: bytes

    def write(self, directory: Path, name: str = "server") -> tuple[Path, Path]:
        """Both as files."""
        certificate, key = directory / f"{name}.crt", directory / f"{name}.key"
        certificate.write_bytes(self.chain)
        key.write_bytes(self.key)
        return certificate, key

    def context(self, directory: Path) -> ssl.SSLContext:
        """A server's side of TLS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.write(directory))
        return context


class Authority:
    """A CA with a key of its own; two of one name differ by it."""

    def __init__(self, name: str = "CA of a test", days: tuple[int, int] = (-2, 30)) -> None:
        self._key, self._name = ec.generate_private_key(ec.SECP256R1()), _name(name)
        self._certificate = _sign(self._name, self._name, self._key.public_key(), self._key, days, ca=True)

    @property
    def pem(self) -> bytes:
        """Its certificate."""
        return self._certificate.public_bytes(Encoding.PEM)

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of its certificate, as OpenSSL writes it."""
        return self._certificate.fingerprint(hashes.SHA256()).hex(":").upper()

    def file(self, directory: Path) -> Path:
        """Its certificate as a file."""
        path = directory / "ca.pem"
        path.write_bytes(self.pem)
        return path

    def issue(self, *names: str, days: tuple[int, int] = (-1, 20), shows_ca: bool = True, named: bool = True) -> Pair:
        """A server's certificate for names and addresses, good from and until so many days from now; the first name
        is its subject, and the only place of a name unless it is `named`."""
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives = names if named else ()
        certificate = _sign(_name(names[0]), self._name, key.public_key(), self._key, days, names=alternatives)
        chain = certificate.public_bytes(Encoding.PEM) + (self.pem if shows_ca else b"")
        return Pair(chain, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _sign(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    signer: ec.EllipticCurvePrivateKey,
    days: tuple[int, int],
    *,
    ca: bool = False,
    names: tuple[str, ...] = (),
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), False)
    return builder.sign(signer, hashes.SHA256())


def _alternative(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)
