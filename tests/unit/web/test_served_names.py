"""The names that a request may call the server by."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from provision.web.served_names import ServedNames, host_of

NAMES = ("prov.example.test", "192.0.2.7", "2001:db8::7")


def status_of(*hosts: bytes, local: str = "192.0.2.1") -> int:
    """What a request with these Host headers to the address `local` is answered with."""
    sent: list[Any] = []

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})

    async def send(message: Any) -> None:
        sent.append(message)

    forged = [(b"forwarded", b"host=prov.example.test"), (b"x-forwarded-host", b"prov.example.test")]
    headers = [*((b"host", host) for host in hosts), *forged]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers, "server": (local, 8443)}
    asyncio.run(ServedNames(answer, NAMES)(scope, None, send))  # type: ignore[arg-type]
    return int(sent[0]["status"])


@pytest.mark.parametrize(
    "host",
    [
        b"prov.example.test",
        b"PROV.Example.test:8443",
        b"prov.example.test.",
        b"prov.example.test:443",
        b"192.0.2.7",
        b"192.0.2.1:8443",
        b"[2001:db8::7]:8443",
        b"[2001:DB8:0::7]",
    ],
)
def test_its_own_names_are_answered(host: bytes) -> None:
    assert status_of(host) == 204


def test_the_address_that_was_reached_is_one_of_them() -> None:
    assert status_of(b"[2001:db8::1]", local="2001:db8::1") == 204
    assert status_of(b"192.0.2.3", local="::ffff:192.0.2.3") == 204
    assert status_of(b"192.0.2.1", local="192.0.2.3") == 421


@pytest.mark.parametrize(
    "host", [b"evil.test", b"prov.example.test.evil.test", b"example.test", b"192.0.2.2", b"[::1]"]
)
def test_others_are_not(host: bytes) -> None:
    assert status_of(host) == 421


@pytest.mark.parametrize(
    "hosts",
    [
        (),
        (b"",),
        (b"prov.example.test", b"prov.example.test"),
        (b"prov.example.test@evil.test",),
        (b"prov.example.test/evil",),
        (b"prov.example.test:84x",),
        (b"[192.0.2.7",),
        (b"[prov.example.test]",),
        ("prov.example.test\u00df".encode("latin-1"),),
        (b"prov.example.test, evil.test",),
    ],
)
def test_what_is_no_host_is_a_bad_request(hosts: tuple[bytes, ...]) -> None:
    assert status_of(*hosts) == 400


def test_a_name_that_is_empty_but_for_its_dot_is_none_of_ours() -> None:
    assert host_of(".") not in NAMES
