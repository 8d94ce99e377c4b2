"""Attacks on the web page: held back until a session has ended, beside its end, by strangers, and from other sites."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from provision.principal import PrincipalRole
from provision.web.pages.session import COOKIE
from tests.helpers.browser import OURS, Browser, logged_in, pages_of
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import CANARY, INVENTORY, STRANGER, Reply, Site, ask, site
from tests.integration.attacks.held import PEER, disk_that_waits, held, scope_of, sent


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        yield opened


# Whoever sends a body takes as long as they like


HELD: dict[str, tuple[str, str, dict[str, str]]] = {
    "a medium": ("GET", "/hosts/node1/media/iso", {}),
    "a host": ("GET", "/hosts/node1", {}),
    "a window": ("POST", "/hosts/node1/window", {"minutes": "60"}),
    "a link": ("POST", "/hosts/node1/links", {"medium": "iso", "minutes": "10080"}),
    "a token": ("POST", "/tokens", {"name": "heir", "role": "admin", "days": "365"}),
    "an inventory": ("POST", "/inventory", {"text": INVENTORY, "prune": "yes", "confirmed": "yes"}),
    "a machine": ("POST", "/unknown/adopt", {"mac": STRANGER, "network": "mgmt", "name": "node9"}),
}
ENDS = ["revoked", "expired", "idle", "logged out"]


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("wanted", HELD)
def test_a_request_that_is_held_back_is_nobodys_when_its_session_has_ended(here: Site, wanted: str, how: str) -> None:
    browser = logged_in(here, name="thief", days=1)
    here.service.core.store.sightings.seen(STRANGER, None, "mgmt", here.clock())

    def end() -> None:
        if how == "revoked":
            here.service.tokens.revoke("thief", ROOT)
        elif how == "logged out":
            here.service.sessions.end(browser.cookie.partition("=")[2].encode())
        else:
            here.clock.advance(days=2) if how == "expired" else here.clock.advance(hours=1)

    method, path, fields = HELD[wanted]
    before, body = len(here.audit()), urlencode({"key": browser.key, **fields}).encode()
    reply = held(browser.app, method, path, sent(browser), body, end)
    assert reply.status == 303 and CANARY not in reply.body and b"node1" not in reply.body
    assert [row.name for row in here.service.tokens.listing() if row.name != "thief"] == []
    assert here.service.links.listing(ROOT) == [] and "node9" not in here.service.core.hosts
    told = {entry["event"] for entry in here.audit()[before:]}
    assert told <= {"begun", "token-revoked", "logout", "login-failed"}


def test_what_is_held_back_is_answered_while_its_session_is_good(here: Site) -> None:
    browser = logged_in(here)
    here.service.core.store.sightings.seen(STRANGER, None, "mgmt", here.clock())
    for method, path, fields in HELD.values():
        body = urlencode({"key": browser.key, **fields}).encode()
        assert held(browser.app, method, path, sent(browser), body, lambda: None).status in (200, 303), path
    assert len(here.service.links.listing(ROOT)) == 1 and "node9" in here.service.core.hosts


# Downloads end with whom they were for


@pytest.mark.parametrize("part", ["", "bytes=0-600000"])
@pytest.mark.parametrize("how", ["revoked", "logged out"])
def test_a_download_ends_with_its_session(here: Site, part: str, how: str) -> None:
    """Who logs out goes away from a browser that others may use then."""
    browser, done = logged_in(here, PrincipalRole.OPERATOR), list[int]()

    def end() -> None:
        if not done:
            done.append(1)
            if how == "revoked":
                here.service.tokens.revoke("operator", ROOT)
            else:
                here.service.sessions.end(browser.cookie.partition("=")[2].encode())

    headers = sent(browser, **({"range": part} if part else {}))
    reply = asyncio.run(ask(browser.app, "GET", "/hosts/node1/media/iso", headers=headers, on_body=end))
    assert reply.error is not None and len(reply.body) < 256 * 1024 and CANARY not in reply.body


def test_a_download_takes_longer_than_its_session(here: Site) -> None:
    """Nobody asks for a page while a slow line takes its hours; that ends nothing that has begun."""
    browser = logged_in(here, PrincipalRole.OPERATOR)
    headers, late = sent(browser), iter([13])
    reply = asyncio.run(
        ask(
            browser.app,
            "GET",
            "/hosts/node1/media/iso",
            headers=headers,
            on_body=lambda: here.clock.advance(hours=next(late, 0)),
        )
    )
    assert reply.error is None and CANARY in reply.body
    assert browser.get("/hosts").status == 303


# Strangers


async def asked_beside(
    here: Site, browser: Browser, guesses: list[Any], entered: threading.Event, freed: threading.Event
) -> Reply:
    """A page while strangers try `guesses`, each of which waits for the disk as soon as it has `entered`."""
    waiting = [asyncio.create_task(guess) for guess in guesses]
    await asyncio.to_thread(entered.wait, 20)
    assert not freed.is_set() and not any(task.done() for task in waiting)
    async with asyncio.timeout(10):
        reply = await ask(browser.app, "GET", "/hosts/node1", headers=sent(browser), peer=PEER)
    freed.set()
    assert {(await task).status for task in waiting} <= {303, 401, 429}
    return reply


@pytest.mark.parametrize("what", ["sessions", "logins"])
def test_what_strangers_try_stops_nothing_while_the_audit_log_waits_for_its_disk(
    here: Site, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Boots and pages are served by the same loop and the same threads; none of them may wait for a stranger."""
    browser = logged_in(here, PrincipalRole.READER)

    def guess() -> Any:
        if what == "sessions":
            cookie = {"cookie": f"{COOKIE}={'A' * 43}"}
            return ask(browser.app, "GET", "/hosts", headers={**OURS, **cookie}, peer="198.51.100.9")
        body = urlencode({"token": "provision_" + "A" * 43}).encode()
        return ask(browser.app, "POST", "/login", headers=OURS, body=body, peer="198.51.100.9")

    entered, failed = threading.Event(), here.service.logins.failed

    def entering(*args: Any) -> Any:
        entered.set()
        return failed(*args)

    monkeypatch.setattr(here.service.logins, "failed", entering)
    with disk_that_waits(here) as freed:
        reply = asyncio.run(asked_beside(here, browser, [guess() for _ in range(60)], entered, freed))
    assert reply.status == 200 and b"node1" in reply.body
    assert here.audit("login-failed")


LARGE = ["/inventory", "/tokens", "/hosts/node1/window", "/login", "/static/x"]


@pytest.mark.parametrize("role", ["nobody", "reader", "auditor", "operator"])
@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("path", LARGE)
def test_a_large_body_is_read_of_nobody_who_may_not_send_it(here: Site, role: str, declared: bool, path: str) -> None:
    browser = Browser(pages_of(here)) if role == "nobody" else logged_in(here, PrincipalRole(role))
    size, taken, reply = 2 << 20, 0, Reply()
    length = (b"content-length", b"%d" % size) if declared else (b"transfer-encoding", b"chunked")

    async def receive() -> dict[str, Any]:
        nonlocal taken
        taken += 65536
        return {"type": "http.request", "body": b"a" * 65536, "more_body": taken < size}

    async def send(message: Any) -> None:
        reply.status = message.get("status", reply.status)
        reply.body += message.get("body", b"")

    asyncio.run(browser.app(scope_of("POST", path, sent(browser), length), receive, send))
    assert reply.status in (303, 403, 413) and taken <= (0 if declared else 2 * 65536)
    assert reply.status != 403 or json.loads(reply.body)["rule"] == "role"
