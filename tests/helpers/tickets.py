"""Logins by tickets without Kerberos: what its library would say is said by the test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from provision import gssapi, keytab
from provision.gssapi import Accepted
from provision.secret import Secret
from provision.service.tickets import Tickets
from provision.settings import Api, Kerberos
from tests.helpers.site_fixture import Site

ROLES: tuple[Mapping[str, Any], ...] = (
    {"principals": ("alice@EXAMPLE.TEST", "*/admin@EXAMPLE.TEST"), "role": "admin"},
    {"principals": ("bob@EXAMPLE.TEST",), "role": "operator", "selector": {"rack": "b"}},
    {"principals": ("*@EXAMPLE.TEST",), "role": "reader"},
)
ANSWER = b"a proof"


def kerberos(path: Path | str = "http.keytab", roles: tuple[Mapping[str, Any], ...] = ROLES) -> Kerberos:
    """The settings of it."""
    return Kerberos.model_validate({"keytab": path, "role": roles})


def write_keytab(path: Path, principal: str = "HTTP/localhost@EXAMPLE.TEST", written: int = 0) -> Path:
    """A keytab with a key of that principal, written then in Unix time, if it says so."""
    path.write_bytes(keytab.pack(principal, Secret(bytes(32)), written=written).reveal())
    path.chmod(0o600)
    return path


def add_key(path: Path, principal: str, written: int) -> None:
    """Append another key to a keytab."""
    more = keytab.pack(principal, Secret(bytes(32)), written=written).reveal()
    with path.open("ab") as file:
        file.write(more.removeprefix(b"\x05\x02"))


def tickets(here: Site, monkeypatch: pytest.MonkeyPatch, accept: Callable[[bytes], str | Exception]) -> Tickets:
    """Logins at a site. `accept` says whose a token is, or what is wrong with it; every ticket is good for an hour."""
    write_keytab(here.state / "http.keytab")

    def fake(token: bytes, keytab: Path, replays: Path | None, channel: bytes | None) -> Accepted:
        found = accept(token)
        if isinstance(found, Exception):
            raise found
        return Accepted(found, 3600, ANSWER)

    monkeypatch.setattr(gssapi, "accept", fake)
    return Tickets(here.service.core, here.service.logins, kerberos())


def say(here: Site, monkeypatch: pytest.MonkeyPatch, roles: tuple[Mapping[str, Any], ...] | None) -> None:
    """Let a site have settings with these roles, or with nothing about Kerberos."""
    found = kerberos(roles=roles) if roles is not None else None
    api = Api.model_validate({"address": "192.0.2.1", "certificate": "c", "key": "k", "kerberos": found})
    core = here.service.core
    monkeypatch.setattr(core, "settings", core.settings.model_copy(update={"api": api}))
