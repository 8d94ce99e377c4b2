"""Certificates and keys of a server, in files, as operators have them."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from ipaddress import ip_address
from pathlib import Path

from provision import clock
from provision.tls.authority import Identity, Kind, Names, issue, make_root

NAMES = Names(("prov.example.test",), (ip_address("127.0.0.1"), ip_address("::1")))


@cache
def _root(kind: Kind) -> Identity:
    return make_root(kind, NAMES, clock.now())


def root(kind: Kind = Kind.OPERATORS) -> Identity:
    """One root of each kind for all tests."""
    return _root(kind)


def server(kind: Kind = Kind.OPERATORS, names: Names = NAMES, now: datetime | None = None) -> Identity:
    """A new certificate of a server."""
    return issue(root(kind), kind, names, now or clock.now())


def write_pair(directory: Path, one: Identity, name: str = "server") -> tuple[Path, Path]:
    """Its files, NAME.pem and NAME.key."""
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    key.write_bytes(one.key_pem().reveal())
    key.chmod(0o600)
    certificate.write_bytes(one.pem())
    return certificate, key
