"""What happens, as it happens: one making for all who look, and no stream longer than its session."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from provision.principal import PrincipalRole
from provision.service.sessions import STREAMS
from provision.web.pages import live
from provision.web.pages.live import event
from provision.web.pages.rendering import Pages
from tests.helpers.browser import PEER, Browser, logged_in
from tests.helpers.links import make
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import INVENTORY, Reply, Site, ask, request


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "EVERY", 0.02)


async def follow(browser: Browser, path: str, on_body: Callable[[], None]) -> Reply:
    headers = {**browser.headers, "cookie": browser.cookie}
    async with asyncio.timeout(30):
        return await ask(browser.app, "GET", path, headers=headers, on_body=on_body)


def steps(*doing: Callable[[], Any]) -> Callable[[], None]:
    """Does one thing after each part of the body, the first part (how long to wait before asking again) aside."""
    left = [lambda: None, *doing]

    def next_one() -> None:
        if left:
            left.pop(0)()

    return next_one


def test_a_host_is_followed_until_the_session_ends(here: Site) -> None:
    browser = logged_in(here, PrincipalRole.OPERATOR)
    then = steps(lambda: here.window(), lambda: here.service.sessions.close())
    reply = asyncio.run(follow(browser, "/hosts/node1/events", then))
    assert (
        reply.headers["content-type"].startswith("text/event-stream") and reply.headers["cache-control"] == "no-store"
    )
    text = reply.body.decode()
    assert text.startswith("retry: ") and text.endswith("event: ended\ndata: \n\n")
    assert text.count("event: changed") == 2 and text.index("idle") < text.index("ready to boot")


def test_window_and_links_come_with_the_boot(here: Site) -> None:
    browser = logged_in(here, PrincipalRole.OPERATOR)
    then = steps(lambda: here.window(), lambda: make(here), lambda: here.service.sessions.close())
    first, second, third = asyncio.run(follow(browser, "/hosts/node1/events", then)).body.split(b"event: changed")[1:]
    assert b'<template data-piece="live-window">' in first and b"No window is open." in first
    assert b"data-window-open" in second and b"0 of 1 boots used." in second
    assert b'form="revoke"' in third and b"/b/" not in third
    assert browser.key.encode() not in first + second + third, "others share what is sent"


@pytest.mark.parametrize("path", ["/events?search=node1", "/hosts/node1/events"])
def test_a_stream_ends_when_its_token_is_revoked(here: Site, path: str) -> None:
    browser = logged_in(here, PrincipalRole.READER)
    reply = asyncio.run(follow(browser, path, steps(lambda: here.service.tokens.revoke("reader", ROOT))))
    assert reply.body.endswith(b"event: ended\ndata: \n\n") and b"idle" in reply.body


def test_a_stream_ends_when_its_host_has_gone(here: Site) -> None:
    browser = logged_in(here, PrincipalRole.READER)
    without = INVENTORY[: INVENTORY.index("  node1:")] + INVENTORY[INVENTORY.index("  node2:") :]
    reply = asyncio.run(follow(browser, "/hosts/node1/events", steps(lambda: here.apply(without))))
    assert reply.body.endswith(b"event: ended\ndata: \n\n")


@pytest.mark.parametrize("path", ["/events", "/hosts/node1/events"])
def test_a_request_for_headers_alone_ends(here: Site, path: str) -> None:
    browser = logged_in(here, PrincipalRole.READER)
    headers = {**browser.headers, "cookie": browser.cookie}
    reply = request(browser.app, "HEAD", path, headers=headers, peer=PEER)
    assert (reply.status, reply.body) == (200, b"")
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"


def test_no_stream_of_a_host_that_is_not_seen(here: Site) -> None:
    browser = logged_in(here, PrincipalRole.READER, selector={"rack": "b"})
    assert browser.get("/hosts/node1/events").status == browser.get("/hosts/node9/events").status == 404


def test_one_session_has_few_streams_and_all_share_one_making(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "EVERY", 1.0)
    browser, made = logged_in(here, PrincipalRole.READER), 0
    hosts = here.service.overview.hosts

    def counted(*args: Any) -> Any:
        nonlocal made
        made += 1
        return hosts(*args)

    monkeypatch.setattr(here.service.overview, "hosts", counted)

    async def too_many() -> Reply:
        begun = asyncio.Semaphore(0)
        streams = [asyncio.create_task(follow(browser, "/events", begun.release)) for _ in range(STREAMS)]
        for _ in range(2 * STREAMS):
            await begun.acquire()
        refused = await follow(browser, "/events", lambda: None)
        for stream in streams:
            stream.cancel()
        for stream in streams:
            with contextlib.suppress(asyncio.CancelledError):
                await stream
        return refused

    refused = asyncio.run(too_many())
    assert refused.status == 429 and b"streams of events" in refused.body
    assert 1 <= made <= 2, "nor is anybody sent what is older than their page"
    session = next(iter(here.service.sessions._sessions.values()))
    assert session.streams == 0, "who leaves makes room"


def test_nobody_is_sent_what_is_older_than_their_page(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page that has just been loaded must not go back to what others were shown before."""
    pages, sent = live.Live(Pages(here.service)), iter(["old", "new"])

    async def made() -> list[bytes]:
        before = pages._events(None, "a", lambda: next(sent))
        await anext(before)
        assert b"old" in await anext(before)
        after = pages._events(None, "a", lambda: next(sent))
        found = [await anext(after), await anext(after)]
        await before.aclose()
        await after.aclose()
        return found

    monkeypatch.setattr(here.service.sessions, "lives", lambda _: True)
    first, second = asyncio.run(made())
    assert first.startswith(b"retry") and b"new" in second


def test_an_event_of_several_lines() -> None:
    assert event("changed", "a\nb\r\nc") == b"event: changed\ndata: a\ndata: b\ndata: c\n\n"
