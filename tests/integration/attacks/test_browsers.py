"""Attacks on operators' browsers: from other sites, by cookies that were planted, and on what streams bring."""

from __future__ import annotations

import asyncio
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
from tests.helpers.browser import Browser, logged_in, pages_of, token
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import CANARY, STRANGER, Site, ask, leaks, site
from tests.integration.attacks.held import PEER, scope_of, sent
from tests.project.test_deny_all import page_walk, paths_of, routes


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        yield opened


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
