"""Attacks on the web page: held back until a session has ended, beside its end, by strangers, and from other sites."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from provision.principal import PrincipalRole
from provision.service.sessions import STREAMS
from provision.web.pages import live
from provision.web.pages.headers import POLICY
from provision.web.pages.session import COOKIE
from tests.helpers.browser import OURS, Browser, logged_in, pages_of, token
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import CANARY, INVENTORY, STRANGER, Reply, Site, ask, leaks, site
from tests.integration.attacks.held import PEER, disk_that_waits, held, scope_of
from tests.project.test_deny_all import page_walk, paths_of, routes

pytestmark = pytest.mark.integration


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        yield opened


def sent(browser: Browser, **more: str) -> dict[str, str]:
    """The headers of a browser's request."""
    return {**browser.headers, "cookie": browser.cookie, **more}


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


async def asked_beside(here: Site, browser: Browser, guesses: list[Any], freed: threading.Event) -> Reply:
    """A page while strangers try `guesses`, each of which waits for the disk."""
    waiting = [asyncio.create_task(guess) for guess in guesses]
    await asyncio.sleep(0.2)
    assert not freed.is_set() and not any(task.done() for task in waiting)
    async with asyncio.timeout(10):
        reply = await ask(browser.app, "GET", "/hosts/node1", headers=sent(browser), peer=PEER)
    freed.set()
    assert {(await task).status for task in waiting} <= {303, 401, 429}
    return reply


@pytest.mark.parametrize("what", ["sessions", "logins"])
def test_what_strangers_try_stops_nothing_while_the_audit_log_waits_for_its_disk(here: Site, what: str) -> None:
    """Boots and pages are served by the same loop and the same threads; none of them may wait for a stranger."""
    browser = logged_in(here, PrincipalRole.READER)

    def guess() -> Any:
        if what == "sessions":
            cookie = {"cookie": f"{COOKIE}={'A' * 43}"}
            return ask(browser.app, "GET", "/hosts", headers={**OURS, **cookie}, peer="198.51.100.9")
        body = urlencode({"token": "provision_" + "A" * 43}).encode()
        return ask(browser.app, "POST", "/login", headers=OURS, body=body, peer="198.51.100.9")

    with disk_that_waits(here) as freed:
        reply = asyncio.run(asked_beside(here, browser, [guess() for _ in range(60)], freed))
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


# Other sites


OVERRIDES = {"x-http-method-override": "POST", "x-http-method": "DELETE", "x-method-override": "PUT"}
NAVIGATED = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "origin": "https://evil.example"}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_only_looks_changes_nothing(here: Site, method: str) -> None:
    """A link or a picture elsewhere has a browser send these; so no page does anything by them, whatever they add."""
    browser = logged_in(here)
    here.service.core.store.sightings.seen(STRANGER, None, "mgmt", here.clock())
    here.service.core.store.sightings.flush()
    before, began = here.state.joinpath("provision.db").read_bytes(), len(here.audit())
    fields = {"key": browser.key, "_method": "POST", "name": "node9", "mac": STRANGER, "network": "mgmt", "text": "x"}

    async def all_of_them() -> None:
        for route in routes(browser.app):
            for path in paths_of(route, here, ""):
                if path.endswith("events"):
                    continue  # which has no end
                headers = sent(browser, **OVERRIDES, **NAVIGATED)
                query, body = f"{path}?{urlencode(fields)}", urlencode(fields).encode()
                reply = await ask(browser.app, method, query, headers=headers, body=body, peer=PEER)
                assert reply.status < 500 and "set-cookie" not in reply.headers, path

    asyncio.run(all_of_them())
    assert here.state.joinpath("provision.db").read_bytes() == before
    assert {entry["event"] for entry in here.audit()[began:]} <= {"decision", "audit-read"}
    assert browser.get("/hosts").status == 200, "it is still logged in"


@pytest.mark.parametrize(
    "method", ["OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "PROPFIND", "post", "GET "]
)
def test_other_methods_do_nothing(here: Site, method: str) -> None:
    browser = logged_in(here)
    body = urlencode({"key": browser.key, "name": "heir", "role": "admin"}).encode()
    for path in ("/tokens", "/hosts/node1/window", "/hosts/node1/links", "/logout"):
        headers = {name: value for name, value in sent(browser).items() if name not in ("origin", "sec-fetch-site")}
        reply = asyncio.run(ask(browser.app, method, path, headers=headers, body=body, peer=PEER))
        assert reply.status in (403, 405) and "access-control-allow-origin" not in reply.headers
    assert [row.name for row in here.service.tokens.listing()] == ["admin"]
    assert here.audit("window-opened") == [] and browser.get("/hosts").status == 200


def test_every_answer_forbids_frames_scripts_of_others_and_copies(here: Site) -> None:
    for asked, reply in page_walk(here, lambda _: ROOT):
        assert reply.headers["content-security-policy"] == POLICY, asked
        assert reply.headers["x-content-type-options"] == "nosniff", asked
        kept = reply.headers["cache-control"]
        assert kept == "no-store" or ("/static/" in asked and b"node1" not in reply.body), asked
        assert reply.headers.get("location", "/").startswith("/") and "//" not in reply.headers.get("location", "/")
    assert "frame-ancestors 'none'" in POLICY and "unsafe" not in POLICY and "*" not in POLICY


# Cookies


def test_a_cookie_that_was_planted_never_becomes_a_session(here: Site) -> None:
    """Session fixation: who plants a cookie in a browser does not know the one that it has after it logged in."""
    planted, browser = f"{COOKIE}={'A' * 43}", Browser(pages_of(here))
    browser.cookie = planted
    reply = browser.post("/login", token=token(here))
    assert reply.status == 303 and planted not in reply.headers["set-cookie"]
    assert Browser(browser.app, planted).get("/hosts").headers["location"] == "/login"


def test_a_session_is_another_at_each_login_and_the_one_before_ends(here: Site) -> None:
    shown = token(here)
    browser = Browser(pages_of(here))
    browser.log_in(shown)
    first = browser.cookie
    browser.log_in(shown)
    assert browser.cookie != first and browser.get("/hosts").status == 200
    assert Browser(browser.app, first).get("/hosts").headers["location"] == "/login"


@pytest.mark.parametrize("tossed", ["{mine}; {theirs}", "{theirs}; {mine}", "{mine}; a=b; {mine}", "{theirs} ;{mine}"])
def test_cookies_that_were_tossed_in_are_nobodys(here: Site, tossed: str) -> None:
    """A page of another name of the same site can add a cookie; which one is meant, nobody can say."""
    app = pages_of(here)
    mine, theirs = logged_in(here, app=app), logged_in(here, PrincipalRole.OPERATOR, app)
    both = Browser(app, tossed.format(mine=mine.cookie, theirs=theirs.cookie))
    for path in ("/hosts", "/hosts/node1/media/iso"):
        reply = both.get(path)
        assert reply.headers["location"] == "/login" and CANARY not in reply.body


def test_no_cookie_is_at_rest(here: Site) -> None:
    browser = logged_in(here)
    browser.get("/hosts/node1")
    here.service.core.store.tokens.flush(at_once=True)
    value = browser.cookie.partition("=")[2].encode()
    forms = [value, value.hex().encode(), browser.key.encode()]
    assert leaks(forms, *(path.read_bytes() for path in here.state.rglob("*") if path.is_file())) == []
    assert leaks(forms, *map(str, here.audit()), repr(here.service.sessions.__dict__)) == []


# Streams


def test_a_reader_who_is_slow_sees_nothing_of_what_comes_after_their_end(
    here: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream waits in `send` when the token is revoked; all that follows is its end."""
    monkeypatch.setattr(live, "EVERY", 0.01)
    browser, parts = logged_in(here, PrincipalRole.READER), list[bytes]()

    async def run() -> None:
        stuck, go_on = asyncio.Event(), asyncio.Event()

        async def send(message: Any) -> None:
            parts.append(message.get("body", b""))
            if b"event: changed" in parts[-1]:
                stuck.set()
                await go_on.wait()

        async def receive() -> Any:
            await asyncio.Event().wait()

        scope = scope_of("GET", "/hosts/node1/events", sent(browser), (b"x-none", b"0"))
        following = asyncio.create_task(browser.app(scope, receive, send))
        async with asyncio.timeout(30):
            await stuck.wait()
            here.window()
            here.service.tokens.revoke("reader", ROOT)
            go_on.set()
            await following

    asyncio.run(run())
    assert b"ready to boot" not in b"".join(parts) and b"event: ended" in b"".join(parts)
    assert sum(b"event: changed" in part for part in parts) == 1


def test_streams_of_many_searches_leave_time_for_boots(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a table of its own, and in a large site each takes a while: they are made in turns, with pauses."""
    monkeypatch.setattr(live, "EVERY", 0.01)
    browser, spans = logged_in(here, PrincipalRole.READER), list[tuple[float, float]]()
    original = here.service.overview.hosts

    def slow(*args: Any) -> Any:
        began = time.monotonic()
        threading.Event().wait(0.02)
        spans.append((began, time.monotonic()))
        return original(*args)

    monkeypatch.setattr(here.service.overview, "hosts", slow)

    async def run() -> None:
        paths = [f"/events?search=node{number}" for number in range(STREAMS)]
        streams = [asyncio.create_task(ask(browser.app, "GET", path, headers=sent(browser))) for path in paths]
        async with asyncio.timeout(30):
            while len(spans) < 20:
                await asyncio.sleep(0.01)
        here.service.sessions.close()
        await asyncio.gather(*streams)

    asyncio.run(run())
    assert all(ended <= began for (_, ended), (began, _) in pairwise(spans)), "one at a time"
    assert sum(ended - began for began, ended in spans) < 0.5 * (spans[-1][1] - spans[0][0])


def test_streams_with_other_words_are_made_once(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What else a query says makes no other table of it, which would have to be made each second, too."""
    browser, made = logged_in(here, PrincipalRole.READER), list[object]()
    overview = here.service.overview
    original = overview.hosts

    def counted(*args: Any) -> Any:
        made.append(args)
        return original(*args)

    monkeypatch.setattr(overview, "hosts", counted)

    async def run() -> None:
        begun = asyncio.Semaphore(0)
        streams = [
            asyncio.create_task(
                ask(browser.app, "GET", f"/events?search=node&x={number}", headers=sent(browser), on_body=begun.release)
            )
            for number in range(STREAMS)
        ]
        async with asyncio.timeout(30):
            for _ in range(2 * STREAMS):
                await begun.acquire()
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)

    monkeypatch.setattr(live, "EVERY", 5.0)
    asyncio.run(run())
    assert len(made) == 1
