"""Hosts that say that they are up, over HTTP; tests/unit/service/test_phone_home.py has what becomes of it."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provision.service.alive import Message
from provision.web import boot_app
from tests.helpers.agent import Agent, booted
from tests.helpers.site_fixture import Reply, Site, edge, request, site


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        yield opened


def post(here: Site, body: bytes) -> Reply:
    return request(boot_app.create(here.service.netboot, edge()), "POST", "/alive", body=body)


def encoded(message: Message) -> dict[str, Any]:
    state = "up" if message.up else "down"
    fields = {"host": message.host, "boot": message.boot, "run": message.run, "sequence": message.sequence}
    return {**fields, "state": state, "tag": message.tag.hex()}


def test_over_http(here: Site) -> None:
    agent = booted(here)
    assert agent.about["alive"]["url"] == "http://10.0.0.1/alive"
    said = encoded(agent.message())
    assert post(here, json.dumps(said).encode()).status == 204
    again = post(here, json.dumps(said).encode())
    assert (again.status, again.problem["rule"]) == (403, "alive")


@pytest.mark.parametrize(
    "change",
    [
        {"sequence": -1},
        {"sequence": 2**53},
        {"sequence": True},
        {"sequence": "7"},
        {"state": "sideways"},
        {"run": "a|b"},
        {"run": "x" * 64},
        {"boot": 17},
        {"host": ["node2"]},
        {"host": "node2\n"},
        {"tag": "zz"},
        {"identity": "\ud800"},
        {"slots": "\u00e4"},
        {"tag": None},
    ],
)
def test_what_is_no_message(here: Site, change: dict[str, Any]) -> None:
    agent = booted(here)
    before = here.service.core.alive.heard("node2")
    here.clock.advance(seconds=1)
    assert post(here, json.dumps(encoded(agent.message()) | change).encode()).status in (400, 422)
    for body in (b"", b"[]", b"{}", b"null", b"\xff", b"[" * 50_000):
        assert post(here, body).status in (400, 422)
    assert here.service.core.alive.heard("node2") == before


def threads_of(here: Site, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Let the host say that it is up; whether the event loop itself hears it."""
    say, heard = here.service.netboot.phone_home.alive, list[threading.Thread]()

    def noted(*args: Any) -> Any:
        heard.append(threading.current_thread())
        return say(*args)

    with monkeypatch.context() as patched:
        patched.setattr(here.service.netboot.phone_home, "alive", noted)
        assert post(here, json.dumps(encoded(agent.message())).encode()).status == 204
    (thread,) = heard
    return thread is threading.current_thread()


def test_the_event_loop_hears_what_is_no_news_while_nobody_writes(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    agent, database = booted(here), here.service.core.store.database
    agent.run = "run2"
    assert not threads_of(here, agent, monkeypatch), "the first word may be news"
    assert threads_of(here, agent, monkeypatch)
    with monkeypatch.context() as patched:
        patched.setattr(type(database), "is_busy", True)
        assert not threads_of(here, agent, monkeypatch), "it would wait for a writer"


def test_its_path_is_for_that_alone(here: Site) -> None:
    app = boot_app.create(here.service.netboot, edge())
    refused = request(app, "GET", "/alive")
    assert (refused.status, refused.headers["allow"]) == (405, "POST")
    assert request(app, "POST", "//alive", body=b"{}").problem["subject"] == "alive"
    assert request(app, "POST", "/alive/", body=b"{}").status == 404


def test_who_leaves_while_it_speaks_is_not_answered(here: Site, caplog: pytest.LogCaptureFixture) -> None:
    said: list[Any] = [
        {"type": "http.request", "body": b'{"host": "no', "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return said.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/alive",
        "headers": [],
        "query_string": b"",
        "client": None,
    }
    with caplog.at_level(logging.INFO):
        asyncio.run(boot_app.create(here.service.netboot, edge())(scope, receive, send))
    assert not said and not sent and not caplog.records
