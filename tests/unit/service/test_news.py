"""What is new of a host is taken down one after the other, for boots that count, and not too often."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from provision.errors import Denied, TooMany
from provision.media.initrd import ALIVE, IDENTITY
from provision.service.news import AT_ONCE, SECONDS, News
from tests.helpers.agent import Agent, booted
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import INVENTORY, Site, site


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as found:
        found.service.core._bases[found.base.id] = replace(found.base, features=(ALIVE, IDENTITY))
        yield found


@pytest.fixture
def agent(here: Site) -> Agent:
    return booted(here)


def test_so_much_is_taken_at_once_and_then_some_now_and_then(here: Site, agent: Agent) -> None:
    clock = [1000.0]
    news, message = News(here.service.core, lambda: clock[0]), agent.message()
    for _ in range(AT_ONCE):
        with news.of(message):
            pass
    for _ in range(3):
        with pytest.raises(TooMany, match="says something new too often"), news.of(message):
            pytest.fail("it is taken")
        clock[0] += SECONDS
        with news.of(message):
            pass
    clock[0] += 10**6
    for _ in range(AT_ONCE):
        with news.of(message):
            pass
    with pytest.raises(TooMany), news.of(message):
        pass


def test_whoever_is_root_on_a_host_does_not_fill_the_log(here: Site, agent: Agent) -> None:
    """It turns from up to down, from one identity to another, as fast as it can."""
    before = len(here.audit())
    refused = 0
    for number in range(300):
        try:
            agent.says(number % 3 > 0, f"stored {number:064x}" if number % 3 else "")
        except TooMany:
            refused += 1
    assert refused > 200 and len(here.audit()) - before < 5 * AT_ONCE


def test_what_was_said_before_a_move_counts_no_longer_behind_it(here: Site, agent: Agent) -> None:
    """Its message was found to be genuine, and waits for the move that is just being made."""
    news, message = News(here.service.core), agent.message()
    with news.of(message):
        pass
    here.service.moves.move("node2", ("52:54:00:00:00:42",), None, ROOT)
    with pytest.raises(Denied, match="not signed with the key of that boot"), news.of(message):
        pytest.fail("it is taken")
    here.apply(INVENTORY.partition("  node2:\n")[0])
    with pytest.raises(Denied), news.of(message):
        pytest.fail("it is taken")


def test_nobody_else_changes_what_is_known_meanwhile(here: Site, agent: Agent) -> None:
    agent.says(identity=agent.stored)
    store, done = here.service.core.store, threading.Event()

    def decommission() -> None:
        here.service.decommissions.decommission("node2", ROOT)
        done.set()

    here.apply(INVENTORY.replace("  node2:\n    netboot: always\n", "  node2:\n"))
    thread = threading.Thread(target=decommission)
    with News(here.service.core).of(agent.message()):
        thread.start()
        assert not done.wait(0.3)
    thread.join(30)
    known = store.identities.of("node2")
    assert done.is_set() and known is not None and known.ordered.value == "wipe"
