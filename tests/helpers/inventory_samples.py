"""A small valid inventory as text, and what parsing a changed one says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from provision.errors import Problem, Problems
from provision.inventory.parse import Source, parse
from provision.site import Inventory

NOW = datetime(2026, 6, 1, tzinfo=UTC)

SITE = """\
site:
  domain: example.test
  realm: EXAMPLE.TEST
  networks:
    mgmt:
      role: management
      prefix: 10.0.0.0/24
      gateway: 10.0.0.1
      vlan: 10
      pool: {first: 10.0.0.100, last: 10.0.0.199}
    office:
      role: general
      prefix: 10.1.0.0/24
      gateway: 10.1.0.1
      prefix6: 2001:db8:1::/64
      gateway6: fe80::1
      vlan: 20
  credentials:
    keytab: {kind: keytab, path: /etc/krb5.keytab}
    token: {kind: token, path: /etc/token}
"""
HOSTS = """\
hosts:
  node1:
    interfaces:
      mgmt:
        mac: 52:54:00:00:00:01
        network: mgmt
        addressing: static
        ipv4: 10.0.0.11
  node2:
    interfaces:
      mgmt:
        mac: 52:54:00:00:00:02
        network: mgmt
        addressing: dhcp
        reservation: 10.0.0.12
"""


def read(*texts: str) -> Inventory:
    """Parse texts as files a.yaml, b.yaml, ..."""
    return parse([Source(f"{chr(97 + i)}.yaml", text.encode()) for i, text in enumerate(texts)], NOW)


def problems(*texts: str) -> list[Problem]:
    """The problems of texts; none when they are fine."""
    try:
        read(*texts)
    except Problems as error:
        return list(error.problems)
    return []


def lines(*texts: str) -> list[str]:
    """The problems as an operator sees them."""
    return [str(problem) for problem in problems(*texts)]


def host(name: str = "node9", **interfaces: str) -> str:
    """A hosts file with one host; each interface is YAML flow text."""
    body = "".join(f"      {key}: {value}\n" for key, value in interfaces.items())
    return f"hosts:\n  {name}:\n    interfaces:\n{body}"


def said(**interfaces: str) -> list[str]:
    """The problems of one host with these interfaces, without file and line."""
    return [line.partition("hosts.node9.interfaces.")[2] for line in lines(SITE, host(**interfaces))]


def certificate(
    name: str = "Example CA",
    *,
    ca: bool | None = True,
    start: datetime = NOW - timedelta(days=1),
    days: int = 365,
    curve: ec.EllipticCurve | None = None,
) -> str:
    """A self-signed certificate as PEM; `ca` None leaves the basic constraints out."""
    key = ec.generate_private_key(curve or ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(7).not_valid_before(start).not_valid_after(start + timedelta(days=days))
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
