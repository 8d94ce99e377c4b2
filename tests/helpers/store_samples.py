"""Stores and inventories for the tests of the store."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from provision.boot import Role
from provision.errors import Unavailable
from provision.host import Addressing, Host, Interface, Netboot
from provision.secret import Secret
from provision.site import CredentialKind, Inventory, Network, Site
from provision.store.credentials import CredentialInput
from provision.store.keys import create_key, load_key
from provision.store.store import Store

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def mac(number: int) -> str:
    """The MAC of host `number`."""
    return f"52:54:00:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"


def host(number: int, netboot: Netboot = Netboot.WINDOW, **fields: Any) -> Host:
    """Host `n<number>` with one NIC, naming the credential "tls"."""
    nic = Interface(macs=(mac(number),), network="mgmt", addressing=Addressing.DHCP)
    return Host(
        **{"name": f"n{number}", "interfaces": {"eth0": nic}, "credentials": ("tls",), "netboot": netboot} | fields
    )


def inventory(*hosts: Host, domain: str = "example.org") -> Inventory:
    """A site with one management network and these hosts."""
    network = Network(role=Role.MANAGEMENT, prefix=IPv4Network("10.0.0.0/8"))
    return Inventory(site=Site(domain=domain, realm="EXAMPLE.ORG", networks={"mgmt": network}), hosts=hosts)


def open_store(state: Path) -> Store:
    """The store of `state`, whose key is made when there is none."""
    try:
        key = load_key(state, {})
    except Unavailable:
        key = create_key(state)
    return Store.open(state, key)


def credential(content: bytes, name: str = "tls") -> CredentialInput:
    """A key-like credential."""
    return CredentialInput(name, CredentialKind.KEY, f"/etc/{name}.key", "0600", Secret(content))


@contextmanager
def statements() -> Iterator[list[tuple[str, int]]]:
    """Every SQL statement that runs meanwhile, with the number of its parameter sets."""
    seen: list[tuple[str, int]] = []

    def note(_c: object, _cursor: object, statement: str, parameters: Any, _context: object, many: bool) -> None:
        seen.append((statement, len(parameters) if many else 1))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def raw(state: Path, sql: str) -> None:
    """Run SQL on the database without the program, as another process would."""
    connection = sqlite3.connect(state / "provision.db")
    connection.execute(sql)
    connection.commit()
    connection.close()
