"""Whom the proxy of the settings asks for, by its own word, and nobody else's."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from provision.web.forwarded import Proxied, by_forwarded, by_x_forwarded
from provision.web.protocol import EXCHANGE

HTTPS = (b"x-forwarded-proto", b"https")


def chain(*values: bytes) -> list[tuple[bytes, bytes]]:
    return [HTTPS, *((b"x-forwarded-for", value) for value in values)]


@pytest.mark.parametrize(
    ("values", "client"),
    [
        ([b"192.0.2.7"], "192.0.2.7"),
        ([b"192.0.2.7:4711"], "192.0.2.7"),
        ([b"2001:db8::7"], "2001:db8::7"),
        ([b"[2001:DB8:0::7]:443"], "2001:db8::7"),
        ([b"[2001:db8::7]"], "2001:db8::7"),
        ([b"::ffff:192.0.2.7"], "192.0.2.7"),
        # What the client itself has sent stands before it, in the same field or in one of its own.
        ([b"10.0.0.1, 192.0.2.7"], "192.0.2.7"),
        ([b"10.0.0.1,,  ,192.0.2.7 "], "192.0.2.7"),
        ([b"10.0.0.1", b"192.0.2.7"], "192.0.2.7"),
        ([b"\"x, 10.0.0.1\xff', 192.0.2.7"], "192.0.2.7"),
    ],
)
def test_the_last_element_is_the_client(values: list[bytes], client: str) -> None:
    assert by_x_forwarded(chain(*values)) == client


GARBAGE = (
    *(b"", b" ", b",", b"192.0.2.7,", b"unknown", b"_hidden", b"prov.example.test", b"192.0.2.7 10.0.0.1", b"1", b"0"),
    *(b"192.0.2.256", b"192.0.2.7:", b"192.0.2.7:x", b"192.0.2.7:123456", b"fe80::1%eth0", b"[fe80::1%eth0]:1", b"::"),
    *(b"0.0.0.0", b"[192.0.2.7", b"192.0.2.7]", b"[]", b"uid=0", b"192.0.2.7\0", b"\xff", b"127.1", b"0x7f000001"),
    *(b"2001:db8::7:443:1:2:3:4:5", b"10.0.0.1;192.0.2.7", b"x" * 8000),
)


@pytest.mark.parametrize("value", GARBAGE, ids=lambda value: ascii(value[:20]))
def test_what_is_no_address_is_nobody(value: bytes) -> None:
    assert by_x_forwarded(chain(value)) is None and by_x_forwarded(chain(b"10.0.0.1", value)) is None
    assert by_forwarded([(b"forwarded", b"proto=https;for=" + value)]) is None
    assert by_forwarded([(b"forwarded", b'proto=https;for="' + value + b'"')]) is None


@pytest.mark.parametrize(
    "schemes", [[], [b"http"], [b"https", b"http"], [b"https", b"https"], [b"https, http"], [b"HTTPS"], [b"https "]]
)
def test_whoever_does_not_speak_tls_to_the_proxy_is_nobody(schemes: list[bytes]) -> None:
    headers = [(b"x-forwarded-for", b"192.0.2.7"), *((b"x-forwarded-proto", scheme) for scheme in schemes)]
    assert by_x_forwarded(headers) is None


@pytest.mark.parametrize(
    ("values", "client"),
    [
        ([b"for=192.0.2.7;proto=https"], "192.0.2.7"),
        ([b'proto=https; For="[2001:db8::7]:4711"; by=203.0.113.43'], "2001:db8::7"),
        ([b"for=10.0.0.1;proto=https, for=192.0.2.7;proto=https;host=prov.example.test"], "192.0.2.7"),
        ([b'for="10.0.0.1:1", for=192.0.2.7;proto=https'], "192.0.2.7"),
        ([b'for="10.0.0.1, for=192.0.2.7;proto=https'], None),
        ([b"for=10.0.0.1;proto=https", b"for=192.0.2.7;proto=https"], "192.0.2.7"),
        ([b"for=192.0.2.7"], None),
        ([b"for=192.0.2.7;proto=http"], None),
        ([b"proto=https"], None),
        ([b"for=192.0.2.7;proto=https;for=10.0.0.1"], None),
        ([b"for=192.0.2.7;proto=http;proto=https"], None),
        # A client's own text inside of the proxy's element.
        ([b'for=192.0.2.7;proto=https;host="x,for=10.0.0.1;proto=https"'], None),
        ([b'for=192.0.2.7;proto=https;host="x\\",for=10.0.0.1;proto=https'], None),
        ([b"for=192.0.2.7;proto=https;"], None),
        ([], None),
    ],
)
def test_forwarded_has_it_in_its_last_element(values: list[bytes], client: str | None) -> None:
    assert by_forwarded([(b"forwarded", value) for value in values]) == client


@dataclass
class Shown:
    certificate: bytes | None


def asked(
    headers: list[tuple[bytes, bytes]], shown: object = None, peer: str = "10.0.0.5", wanted: Any = b"own"
) -> Any:
    """Whom the application hears of, or the status that was answered instead."""
    heard: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        heard.append(scope["client"])

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            assert (b"connection", b"close") in message["headers"]
            heard.append(message["status"])

    scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/", "headers": headers, "client": (peer, 1024)}
    scope["extensions"] = {} if shown is None else {EXCHANGE: shown}
    asyncio.run(Proxied(app, ["10.0.0.5", "2001:db8::5"], "x-forwarded-for", lambda: wanted)(scope, None, send))  # type: ignore[arg-type]
    (one,) = heard
    return one


def test_the_proxy_is_known_by_its_address_and_its_certificate() -> None:
    own, good = Shown(b"own"), chain(b"192.0.2.7")
    assert asked(good, own) == asked(good, own, "::ffff:10.0.0.5") == ("192.0.2.7", 0)
    assert asked(chain(b"192.0.2.7"), own, "2001:db8::5") == ("192.0.2.7", 0)
    assert asked(good, own, "10.0.0.6") == asked(good, Shown(b"other")) == asked(good, Shown(None)) == 403
    assert asked(good) == asked(good, Shown(None), wanted=None) == 403
    assert asked(chain(), own) == asked([], own) == asked(chain(b"unknown"), own) == 400
    # The other header is not the one that this proxy writes.
    assert asked([(b"forwarded", b"for=10.0.0.1;proto=https")], own) == 400
    assert asked([(b"forwarded", b"for=10.0.0.1;proto=https"), *good], own) == ("192.0.2.7", 0)
