"""An internal CA: self-signed roots (RFC 5280), and certificates of this server by them. Nothing here reads or writes.

There are two chains, because no one chain suits all. Operators' programs get ECDSA P-256. Firmware gets RSA from the
root on: UEFI of some years knows no elliptic curves, and BMCs take 2048 bits everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from secrets import token_hex

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from provision.errors import Invalid
from provision.secret import Secret

LEAF = timedelta(days=820)
"""How long a server's certificate is valid; some clients take none of more than 825 days."""
ROOT = timedelta(days=3650)

_EARLIER = timedelta(hours=1)  # clients' clocks are not quite ours
_ROOT_BITS, _LEAF_BITS = 3072, 2048
_COMMON_NAME = 64  # X.520, upper bound of a common name

Address = IPv4Address | IPv6Address
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Kind(StrEnum):
    """Whom a chain is for."""

    OPERATORS = "operators"
    FIRMWARE = "firmware"


@dataclass(frozen=True)
class Names:
    """What clients call the server: the subject alternative names of its certificates."""

    hosts: tuple[str, ...] = ()
    addresses: tuple[Address, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.hosts or self.addresses)


@dataclass(frozen=True)
class Identity:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Key = field(repr=False)

    def key_pem(self) -> Secret:
        """The key as PKCS #8 in PEM."""
        return Secret(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    def pem(self) -> bytes:
        """The certificate as PEM."""
        return self.certificate.public_bytes(Encoding.PEM)


def make_root(kind: Kind, names: Names, now: datetime) -> Identity:
    """A new root. That of operators vouches for the domains of `names` only, so that whoever trusts it trusts it with
    these. That of firmware has no such constraint: small TLS stacks refuse what is critical and unknown to them."""
    key = _key(kind, _ROOT_BITS)
    # Trust stores find a root by its subject, so no two have the same.
    subject = _name(f"provision CA for {kind} {token_hex(4)}")
    builder = _builder(subject, subject, key, now, now + ROOT)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    if kind is Kind.OPERATORS and names.hosts:
        permitted = [x509.DNSName(domain) for domain in sorted({_domain(host) for host in names.hosts})]
        builder = builder.add_extension(x509.NameConstraints(permitted, None), critical=True)
    return Identity(builder.sign(key, SHA256()), key)


def issue(root: Identity, kind: Kind, names: Names, now: datetime) -> Identity:
    """A new key of this server and the root's certificate for it.

    Raises Invalid without names, for a name that the root may not vouch for, and when the root is about to end.
    """
    if not names:
        raise Invalid("certificate", "would have no name and no address", "give --name or --address")
    _require_permitted(root.certificate, names)
    end = min(now + LEAF, root.certificate.not_valid_after_utc)
    if end <= now:
        raise Invalid("CA", f"has expired on {end:%Y-%m-%d}", "move its files away and make a new one")
    key = _key(kind, _LEAF_BITS)
    # No address: OpenSSL takes a common name with dots for a host's, and holds it to the root's domains.
    first = names.hosts[0] if names.hosts else ""
    subject = _name(first if 0 < len(first) <= _COMMON_NAME else "provision")
    others = [*map(x509.DNSName, names.hosts), *map(x509.IPAddress, names.addresses)]
    builder = _builder(subject, root.certificate.subject, key, now, end)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    # Key encipherment is the exchange of RSA without forward secrecy: not served, and asked for by old clients.
    usage = _usage(digital_signature=True, key_encipherment=kind is Kind.FIRMWARE)
    builder = builder.add_extension(usage, critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName(others), critical=False)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(root.key.public_key())
    return Identity(builder.add_extension(issuer, critical=False).sign(root.key, SHA256()), key)


def names_of(certificate: x509.Certificate) -> Names:
    """The subject alternative names of a certificate."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return Names()
    addresses = [one for one in found.get_values_for_type(x509.IPAddress) if isinstance(one, Address)]
    return Names(tuple(found.get_values_for_type(x509.DNSName)), tuple(addresses))


def names_from(hosts: Sequence[str], addresses: Sequence[str]) -> Names:
    """The same, of host names that were parsed before and of addresses as they were typed; raises Invalid."""
    try:
        return Names(tuple(dict.fromkeys(hosts)), tuple(dict.fromkeys(map(ip_address, addresses))))
    except ValueError as error:
        raise Invalid("--address", f"{error}", "give an IPv4 or IPv6 address") from None


def identity(certificate: bytes, key: bytes, subject: str) -> Identity:
    """A root's files, parsed; raises Invalid, naming `subject`, when they are not what this program wrote."""
    try:
        parsed, private = x509.load_pem_x509_certificate(certificate), load_pem_private_key(key, None)
    except (ValueError, TypeError):
        raise Invalid(subject, "is not a CA that this program made", "restore its files from the backup") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise Invalid(subject, "has a key of another kind than this program makes", "restore it from the backup")
    if private.public_key() != parsed.public_key():
        raise Invalid(subject, "has a key that is not its certificate's", "restore both from one backup")
    return Identity(parsed, private)


def _require_permitted(root: x509.Certificate, names: Names) -> None:
    try:
        constraints = root.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return
    domains = [one.value for one in constraints.permitted_subtrees or ()]
    for host in names.hosts:
        if not any(host == domain or host.endswith(f".{domain}") for domain in domains):
            fact = f"the CA may not vouch for it; it may for {', '.join(domains)}"
            raise Invalid(host, fact, "choose another name, or move the CA's files away and make a new one")


def _domain(host: str) -> str:
    """The domain that a name stands in; a short one is its own."""
    labels = host.split(".")
    return ".".join(labels[1:]) if len(labels) > 2 else host


def _key(kind: Kind, bits: int) -> Key:
    if kind is Kind.OPERATORS:
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(subject: x509.Name, issuer: x509.Name, key: Key, now: datetime, end: datetime) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - _EARLIER).not_valid_after(end)


def _usage(
    *,
    digital_signature: bool = False,
    key_encipherment: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_encipherment=key_encipherment,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
