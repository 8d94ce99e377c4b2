"""Tickets in requests: what is one, from where it may come, and what an answer says of them."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from provision.gssapi import Failure
from provision.web.guard import Guard
from provision.web.negotiate import may_come_from, token_of
from provision.web.operator import app as operator_app
from provision.web.operator.authentication import by_token
from tests.helpers.site_fixture import CANARY, Reply, Site, ask, request, site
from tests.helpers.tickets import ANSWER, tickets
from tests.project.test_deny_all import HEADERS, body_of, methods, paths_of, routes

PEER = "192.0.2.7"
OFFERS = ('Bearer realm="provision"', "Negotiate")


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        yield opened


def named(token: bytes) -> str | Exception:
    """Tokens of a test are names."""
    return Failure("no") if token == b"forged" else f"{token.decode()}@EXAMPLE.TEST"


def app_of(here: Site, monkeypatch: pytest.MonkeyPatch, accept: Callable[[bytes], str | Exception] = named) -> Guard:
    return operator_app.create(here.service, by_token(here.service), tickets(here, monkeypatch, accept))


def header(name: bytes) -> dict[str, str]:
    return {"authorization": f"Negotiate {b64encode(name).decode()}"}


@pytest.mark.parametrize(
    ("values", "token"),
    [
        ([b"Negotiate YQ=="], b"a"),
        ([b"negotiate   YQ== "], b"a"),
        ([b"Negotiate"], b""),
        ([b"Negotiate "], b""),
        ([b"Negotiate YQ"], b""),
        ([b"Negotiate Y Q=="], b""),
        ([b"Negotiate \xff"], b""),
        ([b"Negotiate " + b"A" * 65537], b""),
        ([b"NegotiateYQ=="], None),
        ([b"Bearer YQ=="], None),
        ([b"NTLM YQ=="], None),
        ([], None),
        ([b"Negotiate YQ==", b"Negotiate YQ=="], None),
        ([b"Bearer x", b"Negotiate YQ=="], None),
    ],
)
def test_one_header_has_a_token(values: list[bytes], token: bytes | None) -> None:
    assert token_of({"headers": [(b"authorization", value) for value in values]}) == token


@pytest.mark.parametrize(
    ("headers", "may"),
    [
        ({}, True),
        ({"origin": "https://s:8443"}, True),
        ({"origin": "https://s:8443", "sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"origin": "https://s:8443", "sec-fetch-site": "cross-site"}, False),
        ({"origin": "https://s:8444"}, False),
        ({"origin": "http://s:8443"}, False),
        ({"origin": "null"}, False),
        ({"origin": "https://evil.example", "sec-fetch-site": "same-origin"}, False),
    ],
)
def test_no_page_elsewhere_uses_a_browsers_ticket(headers: dict[str, str], may: bool) -> None:
    assert may_come_from({"host": "s:8443", **headers}) == may


def test_an_answer_proves_who_the_server_is(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    app = app_of(here, monkeypatch)
    reply = request(app, "GET", "/v1/principal", headers=header(b"alice"), peer=PEER)
    assert json.loads(reply.body)["name"] == "alice@EXAMPLE.TEST"
    assert reply.headers["www-authenticate"] == f"Negotiate {b64encode(ANSWER).decode()}"


def test_who_is_refused_hears_of_both_ways_in(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    app = app_of(here, monkeypatch)
    for headers in ({}, header(b"forged"), {"authorization": "Bearer x"}):
        told: list[tuple[bytes, bytes]] = []

        async def send(message: Any, told: list[tuple[bytes, bytes]] = told) -> None:
            told += message.get("headers", [])

        asyncio.run(app(scope_of("/v1/hosts", headers), _nothing, send))
        assert tuple(value.decode() for name, value in told if name == b"www-authenticate") == OFFERS


def scope_of(path: str, headers: dict[str, str]) -> dict[str, Any]:
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "https",
        "path": path,
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": (PEER, 1024),
        "server": ("192.0.2.1", 8443),
    }


async def _nothing() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


@pytest.mark.parametrize("who", [b"forged", b"host/node1"])
def test_without_a_good_ticket_no_route_gives_anything(here: Site, monkeypatch: pytest.MonkeyPatch, who: bytes) -> None:
    app = app_of(here, monkeypatch)
    before = here.state.joinpath("provision.db").read_bytes()

    async def all_of_them() -> list[Reply]:
        replies = []
        for route in routes(app):
            for path in paths_of(route, here, "0" * 64):
                for method in sorted(methods(route)):
                    sent = {"content-type": "application/json", **HEADERS[0], **header(who)}
                    replies.append(await ask(app, method, path, headers=sent, body=body_of(method, path), peer=PEER))
        return replies

    replies = asyncio.run(all_of_them())
    assert len(replies) > 40 and {reply.status for reply in replies} <= {401, 403, 429}
    assert not any(CANARY in reply.body or b"node1.example" in reply.body for reply in replies)
    assert here.state.joinpath("provision.db").read_bytes() == before


def test_a_ticket_that_ends_while_its_body_comes_is_nobodys(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    app, reply = app_of(here, monkeypatch), Reply()

    async def receive() -> Any:
        here.clock.advance(hours=1)
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: Any) -> None:
        reply.status = message.get("status", reply.status)
        reply.body += message.get("body", b"")

    headers = {**header(b"alice"), "content-type": "application/json", "content-length": "2"}
    asyncio.run(app({**scope_of("/v1/hosts/node1/window", headers), "method": "POST"}, receive, send))
    assert reply.status == 401 and here.audit("window-opened") == []


def test_a_token_is_read_once_whatever_body_comes(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []

    def once(token: bytes) -> str | Exception:
        seen.append(token)
        return named(token) if len(seen) == 1 else Failure("Request is a replay")

    app = app_of(here, monkeypatch, once)
    sent = {**header(b"alice"), "content-type": "application/json"}
    assert request(app, "POST", "/v1/hosts/node1/window", headers=sent, body=b"{}", peer=PEER).status == 200
    assert request(app, "POST", "/v1/hosts/node1/window", headers=sent, body=b"{}", peer=PEER).status == 401


def test_failed_tickets_stop_no_good_one_while_the_audit_log_waits_for_its_disk(
    here: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, lock = app_of(here, monkeypatch), here.service.core.audit._lock
    freed, taken = threading.Event(), threading.Event()

    def sync() -> None:
        with lock:
            taken.set()
            freed.wait(20)

    async def run() -> tuple[int, list[Reply]]:
        vain = [
            asyncio.create_task(ask(app, "GET", "/v1/hosts", headers=header(b"forged"), peer=PEER)) for _ in range(5)
        ]
        good = await ask(app, "GET", "/v1/principal", headers=header(b"alice"), peer=PEER)
        assert not freed.is_set() and not any(task.done() for task in vain)
        freed.set()
        return good.status, await asyncio.gather(*vain)

    disk = threading.Thread(target=sync)
    disk.start()
    taken.wait(20)
    began = time.monotonic()
    status, vain = asyncio.run(run())
    assert status == 200 and {reply.status for reply in vain} == {401} and time.monotonic() - began < 15
    disk.join(20)


def test_without_the_setting_a_ticket_is_nothing(here: Site) -> None:
    app = operator_app.create(here.service, by_token(here.service))
    reply = request(app, "GET", "/v1/principal", headers=header(b"alice"), peer=PEER)
    assert reply.status == 401 and reply.headers["www-authenticate"] == 'Bearer realm="provision"'
