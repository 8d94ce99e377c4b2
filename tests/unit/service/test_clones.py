"""Two machines with one identity: what the server sees of it, says and refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.errors import Denied
from provision.web import boot_app
from tests.helpers.agent import Agent, booted
from tests.helpers.site_fixture import IP, MAC2, Site, edge, origin, request, seed_url, site


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        yield opened


def copy(agent: Agent, run: str = "run2") -> Agent:
    """A machine with a copy of the host's disk, in a start of its own."""
    found = object.__new__(Agent)
    found.about, found.here, found.run, found.sequence = agent.about, agent.here, run, 0
    return found


def told(here: Site) -> int:
    here.clock.advance(seconds=10)
    return len(here.audit("duplicate-identity"))


def test_two_that_speak_by_turns_are_two_machines(here: Site) -> None:
    first = booted(here)
    second = copy(first)
    for agent, entries in ((first, 0), (second, 0), (first, 1), (second, 1), (first, 1)):
        agent.says()
        assert told(here) == entries
    (entry,) = here.audit("duplicate-identity")
    assert entry["host"] == "node2"
    (alert,) = [one for one in here.service.core.alerts.of("node2", here.clock.now) if one.event == entry["event"]]
    assert alert.count == 3 and "two machines are up as node2" in alert.text
    here.clock.advance(hours=1)
    second.says()
    assert told(here) == 2


def test_two_that_speak_by_turns_over_http(here: Site) -> None:
    """What each says is answered as ever: a copy is not told that it was noticed."""
    app, first = boot_app.create(here.service.netboot, edge()), booted(here)
    second = copy(first)
    for agent, entries in ((first, 0), (second, 0), (first, 1), (second, 1)):
        message = agent.message()
        body = {"host": message.host, "boot": message.boot, "run": message.run, "sequence": message.sequence}
        body |= {"state": "up", "tag": message.tag.hex()}
        reply = request(app, "POST", "/alive", body=json.dumps(body).encode(), peer=IP[MAC2])
        assert (reply.status, reply.body) == (204, b"")
        assert told(here) == entries
    (entry,) = here.audit("duplicate-identity")
    assert (entry["host"], entry["network"]) == ("node2", "mgmt")


def test_neither_gets_the_seed_while_one_is_up(here: Site) -> None:
    url = seed_url(here, MAC2)
    first = booted(here)
    second = copy(first)
    first.says(up=False)
    here.clock.advance(seconds=1)
    second.says()
    with pytest.raises(Denied) as refused:
        here.service.netboot.seed(origin(MAC2), url)
    assert refused.value.rule == "host-is-up"


def test_a_host_that_was_started_again_is_one(here: Site) -> None:
    first = booted(here)
    for run in ("run2", "run3"):
        again = copy(first, run)
        for _ in range(3):
            again.says()
            assert told(here) == 0
    first = copy(first, "run4")
    first.says(up=False)
    assert told(here) == 0


def test_whoever_has_only_heard_it_makes_no_second_machine(here: Site) -> None:
    first = booted(here)
    heard = first.message()
    here.service.netboot.phone_home.alive(heard)
    here.clock.advance(seconds=10)
    copy(first).says()
    here.clock.advance(seconds=10)
    with pytest.raises(Denied):
        here.service.netboot.phone_home.alive(heard)
    assert told(here) == 0
