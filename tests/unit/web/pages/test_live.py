"""What happens, as it happens: one making for all who look, and no stream longer than its session."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from types import SimpleNamespace
from typing import Any, cast

import pytest

from provision.principal import PrincipalRole
from provision.service.sessions import STREAMS
from provision.web.pages import live
from provision.web.pages.live import event
from provision.web.pages.rendering import Pages
from tests.helpers.browser import PEER, Browser, logged_in, pages_of
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


def test_who_shares_a_part_is_judged_alone(here: Site) -> None:
    """The first of those who follow has the part made. When the token of that one is revoked, its stream ends without
    another byte of a host, and the others go on; who sees other hosts shares nothing with them."""
    here.apply(INVENTORY.replace("    netboot: never\n", "    netboot: never\n    labels: {rack: c}\n"))
    app = pages_of(here)
    first, second = (logged_in(here, PrincipalRole.READER, app=app, name=name) for name in ("first", "second"))
    other = logged_in(here, PrincipalRole.READER, app=app, name="other", selector={"rack": "c"})

    async def run() -> list[Reply]:
        begun, told = asyncio.Semaphore(0), asyncio.Semaphore(0)
        streams = [asyncio.create_task(follow(one, "/events", begun.release)) for one in (first, other)]
        for _ in range(4):  # how long to wait before asking again, and the part, of each
            await begun.acquire()
        streams.append(asyncio.create_task(follow(second, "/events", told.release)))
        await told.acquire()
        await told.acquire()
        here.service.tokens.revoke("first", ROOT)
        here.window()
        gone = await streams[0]
        await told.acquire()  # the window, for the one that is left
        here.service.sessions.close()
        return [gone, *await asyncio.gather(*streams[1:])]

    gone, elsewhere, left = asyncio.run(run())
    assert gone.body.endswith(b"event: ended\ndata: \n\n") and gone.body.count(b"event: changed") == 1
    assert b"ready to boot" not in gone.body and b"ready to boot" in left.body
    assert b"node1" in gone.body and b"node1" not in elsewhere.body and b"node3" in elsewhere.body


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


class Streams:
    """Streams of parts that are no pages, all in one event loop."""

    def __init__(self) -> None:
        # All that this needs of a service is whether a session lives, and a whole one takes a second to make.
        service = SimpleNamespace(sessions=SimpleNamespace(lives=lambda _: True))
        self.live = live.Live(cast(Pages, SimpleNamespace(service=service)))

    @contextlib.asynccontextmanager
    async def follow(self, look: live.Look, show: live.Show = str) -> AsyncIterator[AsyncGenerator[bytes]]:
        """A stream behind its first bytes."""
        with self.live.following(None, "part", live._Part(look, show)) as follower:
            events = self.live.events(follower)
            assert (await anext(events)).startswith(b"retry")
            yield events
            await events.aclose()

    def run(self, doing: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(30):
                await doing()

        asyncio.run(bounded())


@pytest.fixture
def streams() -> Streams:
    return Streams()


def test_nobody_is_sent_what_is_older_than_their_page(streams: Streams) -> None:
    """A page that has just been loaded must not go back to what others were shown before."""
    shown = iter(["old", *["new"] * 1000])

    async def follow() -> None:
        async with streams.follow(lambda: next(shown)) as before:
            assert b"old" in await anext(before)
            async with streams.follow(lambda: "of others") as after:
                assert b"new" in await anext(after)
                assert b"new" in await anext(before), "both have the same part"

    streams.run(follow)


def test_what_is_the_same_is_made_once_and_sent_once(streams: Streams) -> None:
    looked, shown = 0, list[str]()

    def look() -> str:
        nonlocal looked
        looked += 1
        return "a" if looked < 5 else "b"

    def show(seen: str) -> str:
        shown.append(seen)
        return seen

    async def follow() -> None:
        async with streams.follow(look, show) as one, streams.follow(look) as other:
            assert [await anext(one), await anext(one)] == [event("changed", "a"), event("changed", "b")]
            assert await anext(other) == event("changed", "b"), "whoever is late is sent the last one alone"
        assert looked >= 5 and shown == ["a", "b"]

    streams.run(follow)


def test_a_stream_without_news_is_sent_a_comment(streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_QUIET", 2)

    async def follow() -> None:
        async with streams.follow(lambda: "a") as events:
            assert [await anext(events) for _ in range(3)] == [event("changed", "a"), b":\n\n", b":\n\n"]

    streams.run(follow)


def test_an_error_that_nobody_foresaw_breaks_the_stream_off(streams: Streams) -> None:
    async def follow() -> None:
        async with streams.follow(lambda: 1 // 0) as events:
            with pytest.raises(ZeroDivisionError):
                await anext(events)

    streams.run(follow)


def test_the_rounds_end_with_the_last_stream_and_begin_again(streams: Streams) -> None:
    async def follow() -> None:
        for _ in range(2):
            async with streams.follow(lambda: "a") as events:
                assert b"a" in await anext(events)
            rounds = streams.live._rounds
            assert rounds is not None
            await rounds
            assert not streams.live._parts

    streams.run(follow)


def test_many_parts_are_made_with_pauses(streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_BUSY", 0.0)
    parts = [live._Part(lambda: "a", str) for _ in range(3)]
    assert live._make(parts) == 1 and [part.text for part in parts] == ["a", None, None]
    monkeypatch.setattr(live, "_BUSY", 60.0)
    assert live._make(parts[1:]) == 2 and parts[2].event == event("changed", "a")


def test_an_event_of_several_lines() -> None:
    assert event("changed", "a\nb\r\nc") == b"event: changed\ndata: a\ndata: b\ndata: c\n\n"
