"""What is known of a host's slots ends when the host runs from none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.slots import HostSlots
from tests.helpers.agent import Updated, other, two_bases, updated
from tests.helpers.site_fixture import Site


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with two_bases(tmp_path) as found:
        yield found


@pytest.fixture
def agent(here: Site) -> Updated:
    """node2 is up."""
    return updated(here)


def slots_of(here: Site) -> HostSlots | None:
    return here.service.core.store.slots.of("node2")


def test_slots_are_forgotten_of_a_host_that_runs_from_none(here: Site, agent: Updated) -> None:
    agent.tells()
    agent.says()
    here.clock.advance(minutes=9)
    agent.tells()
    agent.says()
    here.clock.advance(minutes=9)
    agent.run = "run2"
    agent.says()
    here.clock.advance(minutes=9)
    agent.says()
    here.clock.advance(days=-1)
    agent.says()
    assert slots_of(here) is not None, "each start of it has its time"
    here.clock.advance(minutes=10)
    assert agent.says() is None
    (row,) = here.service.reports.of_hosts(["node2"])
    assert slots_of(here) is None and row.slots is None
    assert [entry["base"] for entry in here.audit("slots-left")] == [here.base.id[:16]]
    agent.says()
    agent.tells(f"failed {other(here)} 3 it did not prove itself", b=other(here))
    found = slots_of(here)
    assert found is not None and found.attempt == 3 and not found.failed[other(here)].attempt < found.attempt


def test_an_image_on_trial_may_be_silent_for_longer(here: Site, agent: Updated) -> None:
    for doing in ("waiting", "rebooting", "trying", "failed"):
        why = " 1 libvirt does not answer" if doing == "failed" else ""
        agent.tells(f"{doing} {other(here)}{why}", b=other(here))
        agent.says()
        here.clock.advance(hours=23)
        agent.says()
        assert slots_of(here) is not None, doing
    here.clock.advance(hours=1)
    agent.says()
    assert slots_of(here) is None


def test_a_host_that_has_fallen_back_is_looked_into_from_a_medium_for_a_day(here: Site, agent: Updated) -> None:
    """What it falls back to is not taken from it before; nor is that good for ever, however often it starts."""
    agent.tells(f"failed {other(here)} 1 libvirt does not answer", b=other(here))
    for start in range(6):
        agent.run = f"run{start}"
        agent.says()
        here.clock.advance(hours=1)
        agent.says()
        here.clock.advance(hours=3)
        assert slots_of(here) is not None, start
    agent.run = "run of the next day"
    agent.says()
    here.clock.advance(minutes=9)
    agent.says()
    assert slots_of(here) is not None, "it may be about to say it, in each start"
    here.clock.advance(minutes=1)
    agent.says()
    assert slots_of(here) is None
