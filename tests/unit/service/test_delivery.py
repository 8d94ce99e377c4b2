"""Hosts that want their seeds at the same moment: one wait for the disk and one transaction for all of them."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from provision.boot import Medium
from provision.errors import Denied, Gone, ProvisionError, Unavailable
from provision.seed import Seed
from provision.service.delivery import Delivery
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import CANARY, INVENTORY, MAC1, MAC2, MAC3, Site, origin, seed_url, site, used

SECOND = "02:00:00:00:00:0%d"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path, INVENTORY.replace("netboot: always", "netboot: window")) as open_site:
        open_site.window()
        open_site.window("node2")
        yield open_site


async def all_seeds(here: Site, *macs: str) -> list[Delivery | BaseException]:
    """What the machines get that ask at one moment. The first is busy until the others wait."""
    netboot = here.service.netboot
    urls = {mac: seed_url(here, mac) if mac != MAC3 else "0" * 64 for mac in macs}
    begun, go = threading.Event(), threading.Event()
    make = netboot._make_seeds

    def held(of: Any) -> Any:
        if not begun.is_set():
            begun.set()
            go.wait()
        return make(of)

    netboot._seeds._do = held
    first = netboot.seed_of_many(origin(MAC3), None)
    await asyncio.to_thread(begun.wait)
    asked = [netboot.seed_of_many(origin(mac), urls[mac]) for mac in macs]
    go.set()
    await asyncio.gather(first, return_exceptions=True)
    return await asyncio.gather(*asked, return_exceptions=True)


def seeds(found: list[Delivery | BaseException]) -> list[bytes]:
    return [one.what.data for one in found if isinstance(one, Delivery) and isinstance(one.what, Seed)]


def test_their_decisions_wait_for_the_disk_once(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    real, synced = os.fdatasync, list[int]()

    def sync(descriptor: int) -> None:
        synced.append(here.service.core.audit.sequence)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", sync)
    first, second, refused = asyncio.run(all_seeds(here, MAC1, MAC2, MAC3))
    assert isinstance(refused, Denied)
    assert [CANARY in data for data in seeds([first, second])] == [True, False]
    released = [entry for entry in here.service.core.audit.entries() if entry.get("answer") == "released"]
    assert [entry["host"] for entry in released[-2:]] == ["node1", "node2"]
    assert len(synced) == 1 and synced[0] >= int(released[-1]["seq"])


def test_a_disk_that_fails_gives_none_of_them_anything(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)
    found = asyncio.run(all_seeds(here, MAC1, MAC2, MAC3))
    assert [type(one) for one in found] == [Unavailable, Unavailable, Denied]
    assert not here.service.netboot._deliveries._of  # nothing waits for a turn at a window
    monkeypatch.undo()
    assert len(seeds(asyncio.run(all_seeds(here, MAC1, MAC2)))) == 2


@pytest.fixture
def commits() -> Iterator[list[None]]:
    """One for each transaction that writes."""
    seen: list[None] = []

    def note(connection: Any) -> None:
        if connection.get_execution_options().get("provision_write"):
            seen.append(None)

    event.listen(Engine, "commit", note)
    yield seen
    event.remove(Engine, "commit", note)


async def all_charged(here: Site, deliveries: list[Delivery]) -> list[BaseException | None]:
    """What becomes of deliveries of which a byte arrives at one moment, while another charge is under way."""
    netboot = here.service.netboot
    begun, go, charge = threading.Event(), threading.Event(), netboot._charge_all

    def held(of: Any) -> Any:
        if not begun.is_set():
            begun.set()
            go.wait()
            return [None] * len(of)
        return charge(of)

    netboot._charges._do = held
    first = netboot._charges.begin(None)  # type: ignore[arg-type]
    await asyncio.to_thread(begun.wait)
    asked = [asyncio.ensure_future(delivery.acknowledged()) for delivery in deliveries]
    await asyncio.sleep(0)
    go.set()
    await first
    return await asyncio.gather(*asked, return_exceptions=True)


def delivery(here: Site, mac: str, revision: str | None = None) -> Delivery:
    return here.service.netboot.seed(origin(mac), revision or seed_url(here, mac))


def test_they_are_charged_in_one_transaction(here: Site, commits: list[None]) -> None:
    both = [delivery(here, MAC1), delivery(here, MAC2)]
    commits.clear()
    assert asyncio.run(all_charged(here, both)) == [None, None]
    assert len(commits) == 1
    assert [one.charged for one in both] == [True, True] and (used(here), used(here, "node2")) == (1, 1)


def test_one_that_may_have_nothing_any_more_costs_the_others_nothing(here: Site) -> None:
    both = [delivery(here, MAC1), delivery(here, MAC2)]
    here.service.windows.close("node1", ROOT)
    gone, charged = asyncio.run(all_charged(here, both))
    assert isinstance(gone, Gone) and charged is None
    assert [one.charged for one in both] == [False, True] and used(here, "node2") == 1


def test_the_last_boot_of_a_window_is_given_once(here: Site) -> None:
    """Two boots of one host in one transaction: the second sees what the first has used."""
    core, netboot = here.service.core, here.service.netboot
    state = core.state("node1")
    boots = [core.store.boots.begin("node1", SECOND % n, Medium.PXE, "mgmt", here.clock(), "r") for n in (1, 2)]
    progress = [netboot._boots._tracker.begin(boot) for boot in boots]
    first, second = netboot._boots.charge_all([(state, one) for one in progress])
    assert first is None and isinstance(second, Denied)
    assert used(here) == 1 and core.store.database.recheck()


def test_a_transaction_that_fails_charges_none(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    both = [delivery(here, MAC1), delivery(here, MAC2)]

    def broken(*_: object) -> Any:
        raise here.service.core.store.database.lost_trust()

    monkeypatch.setattr(here.service.core.store.boots, "_charge", broken)
    found = asyncio.run(all_charged(here, both))
    assert all(isinstance(one, ProvisionError) for one in found)
    assert not any(one.charged for one in both)
