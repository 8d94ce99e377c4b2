"""A host that says that it is up: nobody else can say it, and what cannot be recorded does not happen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provision.boot import Copy, Medium
from provision.errors import Conflict, Denied, Unavailable
from provision.store.keys import load_key
from provision.store.rows import HISTORY
from provision.store.store import Store
from tests.helpers.agent import IN_OFFICE, OFFICE, TOKEN2, Agent, answer, booted, from_disk, two_bases, updated
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import MAC2, Site, charged, origin, seed_url, site


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        opened.window()
        yield opened


def key_of(here: Site, medium: Medium) -> bytes:
    """The key that a host has which was started with that medium."""
    core = here.service.core
    if medium is Medium.PXE:
        charged(here.service.netboot.seed(origin(), seed_url(here)))
        return core.store.keys.phone_home(core.store.boots.of("node1")[0].id, "node1").reveal()
    return core.store.keys.of_copy(Copy("node1", medium, core.state("node1").identity[:32])).reveal()


@pytest.mark.parametrize("medium", [Medium.PXE, Medium.ISO, Medium.DISK])
def test_without_a_record_nothing_changes_and_the_host_may_say_it_again(
    here: Site, monkeypatch: pytest.MonkeyPatch, medium: Medium
) -> None:
    key, core, phone_home = key_of(here, medium), here.service.core, here.service.netboot.phone_home
    before = core.store.windows.of("node1"), core.store.boots.of("node1")

    def full(*args: Any, **kwargs: Any) -> None:
        raise Unavailable("audit.log", "the audit log cannot be written")

    with monkeypatch.context() as broken:
        broken.setattr(core.audit, "record", full)
        with pytest.raises(Unavailable):
            phone_home.up("node1", key)
    assert (core.store.windows.of("node1"), core.store.boots.of("node1")) == before
    assert phone_home.up("node1", key).up == here.clock.now
    for _ in range(2):
        with pytest.raises(Conflict):
            phone_home.up("node1", key)
    assert len(here.audit("up")) == 1


@pytest.mark.parametrize("medium", [Medium.ISO, Medium.DISK])
def test_the_key_of_a_copy_is_good_once_however_many_others_came_up_since(here: Site, medium: Medium) -> None:
    """A host that is sent out with the first medium says that it is up, and is replaced again and again."""
    core, phone_home = here.service.core, here.service.netboot.phone_home
    keys = [
        core.store.keys.of_copy(Copy("node1", medium, f"{number:032x}")).reveal() for number in range(HISTORY * 2 + 2)
    ]
    for key in keys:
        phone_home.up("node1", key)
        here.clock.advance(seconds=1)
    for key in (keys[0], keys[1], keys[HISTORY], keys[-1]):
        with pytest.raises(Conflict):
            phone_home.up("node1", key)
    assert len(here.audit("up")) == len(keys)
    assert len(core.store.boots.of("node1")) == HISTORY
    with Store.open(here.state, load_key(here.state)) as again:
        assert again.boots.mark_copy_up(Copy("node1", medium, f"{0:032x}"), here.clock.now) is None


def test_a_clean_shutdown_says_so(here: Site) -> None:
    agent = booted(here)
    here.clock.advance(seconds=3)
    agent.says(up=False)
    assert TOKEN2 in answer(here, "seed")
    assert [entry["host"] for entry in here.audit("down")] == ["node2"]


def test_what_was_said_before_cannot_be_said_again_by_others(here: Site) -> None:
    agent = booted(here)
    down, phone_home = agent.message(up=False), here.service.netboot.phone_home
    phone_home.alive(down)
    seed = charged(here.service.netboot.seed(origin(MAC2), seed_url(here, MAC2))).data
    again = Agent(here, seed, "run2")
    again.up()
    again.says()
    for copied in (down, replace(down, sequence=down.sequence + 1), replace(down, run="run2", sequence=99)):
        with pytest.raises(Denied, match="alive"):
            phone_home.alive(copied)
        assert b"host-is-up" in answer(here, "seed")
    refused = [entry for entry in here.audit("alive") if entry["answer"] == "denied"]
    assert sum(entry.get("count", 1) for entry in refused) == 3
    assert {entry["rule"] for entry in refused} == {"alive"}


@contextmanager
def in_the_office(directory: Path) -> Iterator[tuple[Site, Agent]]:
    """node2 is on a general network alone, and runs from its disk image."""
    with site(directory, OFFICE, listen=IN_OFFICE) as here:
        yield here, from_disk(here)


def test_on_a_general_network_no_key_is_sent_and_the_first_word_says_that_it_is_up(tmp_path: Path) -> None:
    with in_the_office(tmp_path) as (here, agent):
        store = here.service.core.store
        copy = Copy.labelled("node2", agent.about["alive"]["boot"])
        assert copy is not None and copy.medium is Medium.DISK
        assert agent.about["alive"]["url"] == "http://10.1.0.1/alive" and "phone_home" not in agent.about
        sent = store.keys.of_copy(copy).reveal().hex()
        plan = here.service.media.plan("node2", Medium.DISK, ROOT)
        assert not any(sent.encode() in patch.data for patch in plan.patches)
        for _ in range(2):
            agent.says(up=False)
            assert here.audit("up") == [], "who goes down has not come up"
        for _ in range(2):
            agent.says()
            (entry,) = here.audit("up")
        assert (entry["host"], entry["medium"]) == ("node2", "disk")
        (row,) = here.service.reports.of_hosts(["node2"])
        assert row.up is not None and here.service.core.alive.heard("node2") == here.clock()


def test_a_first_word_that_cannot_be_recorded_is_said_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise Unavailable("audit.log", "the audit log cannot be written")

    with in_the_office(tmp_path) as (here, agent):
        with monkeypatch.context() as broken:
            broken.setattr(here.service.core.audit, "record", full)
            with pytest.raises(Unavailable):
                agent.says()
        assert not here.service.core.store.boots.of("node2")
        agent.says()
        assert len(here.audit("up")) == 1


def test_with_a_management_network_a_medium_has_the_key_and_uses_it(tmp_path: Path) -> None:
    """Its first word, which a copy of the disk says as well, does not."""
    with site(tmp_path, listen=IN_OFFICE) as here:
        agent = from_disk(here)
        assert agent.about["phone_home"]["url"] == "http://10.0.0.1/up"
        agent.says()
        assert here.audit("up") == []
        agent.up()
        assert len(here.audit("up")) == 1


def test_the_key_that_crosses_the_lan_at_up_signs_nothing(here: Site) -> None:
    agent = booted(here)
    agent.about["alive"]["key"] = agent.about["phone_home"]["key"]
    with pytest.raises(Denied):
        agent.says(up=False)
    assert b"host-is-up" in answer(here, "seed")


def test_one_host_does_not_speak_for_another(here: Site) -> None:
    agent = booted(here)
    for host in ("node1", "node9", "node3"):
        agent.about["host"] = host
        with pytest.raises(Denied):
            agent.says()
    assert here.service.core.alive.heard("node1") is None


def test_what_a_host_says_again_is_no_news(here: Site) -> None:
    """Only such a message is heard on the event loop, which nothing may keep from other hosts."""
    agent, phone_home = booted(here), here.service.netboot.phone_home
    assert not phone_home.is_news(agent.message())
    before = here.service.core.store.database.generation, len(here.audit())
    agent.says()
    assert (here.service.core.store.database.generation, len(here.audit())) == before
    for news in (
        agent.message(up=False),
        agent.message(identity=agent.stored),
        replace(agent.message(), run="run2"),
        replace(agent.message(), boot="other"),
        replace(agent.message(), slots="a a 0 - idle"),
        replace(agent.message(), host="node1"),
        replace(agent.message(), host="node9"),
    ):
        assert phone_home.is_news(news)
    here.window()
    assert phone_home.is_news(agent.message()), "what is stored has changed"


def test_a_host_with_slots_that_says_nothing_of_them_is_news(tmp_path: Path) -> None:
    """For it may have been silent for so long that this is taken down."""
    with two_bases(tmp_path) as here:
        agent, phone_home = updated(here), here.service.netboot.phone_home
        agent.tells()
        for _ in range(2):
            agent.says()
        assert phone_home.is_news(agent.message())


def test_a_word_that_is_refused_is_news(here: Site) -> None:
    """That it was refused is written down, and an audit log may be full."""
    agent, phone_home = booted(here), here.service.netboot.phone_home
    for _ in range(2):
        agent.says()
    said = agent.message()
    phone_home.alive(said)
    forged = replace(agent.message(), tag=b"?" * 32)
    for refused in (said, forged):
        assert phone_home.is_news(refused)
        with pytest.raises(Denied):
            phone_home.alive(refused)
    assert not phone_home.is_news(agent.message())


def test_another_start_in_between_is_news(here: Site) -> None:
    """Also one that only said that it goes down: two machines may be up as this host."""
    agent, phone_home = booted(here), here.service.netboot.phone_home
    for _ in range(2):
        agent.says()
    other = copy(agent)
    other.run = "run2"
    other.says(up=False)
    assert phone_home.is_news(agent.message())


def test_the_first_word_from_a_medium_is_news_while_nothing_else_says_that_it_is_up(tmp_path: Path) -> None:
    with in_the_office(tmp_path) as (here, agent):
        for _ in range(3):
            agent.says()
        assert here.service.netboot.phone_home.is_news(agent.message())


def test_hosts_that_are_gone_are_forgotten(here: Site) -> None:
    agent, phone_home = booted(here), here.service.netboot.phone_home
    phone_home._last |= {f"gone{number}": (0, ()) for number in range(2 * len(here.service.core.hosts))}
    agent.says()
    assert set(phone_home._last) == {"node2"}
