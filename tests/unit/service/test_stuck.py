"""A boot of which nothing is seen any more is told of, once."""

from __future__ import annotations

from provision.boot import Medium
from tests.helpers.site_fixture import MAC1, MAC2, NOW, Site, charged, origin, seed_url


def told(here: Site) -> list[tuple[str, str]]:
    here.service.stuck.look()
    return [(str(e["host"]), str(e["reason"]).rpartition(" ")[2]) for e in here.audit("stuck")]


def test_it_is_said_once_of_each_boot(here: Site) -> None:
    here.window()
    assert told(here) == []
    seed_url(here)
    here.clock.advance(minutes=9)
    here.service.netboot.sent(origin(), "kernel", 0.5)
    here.clock.advance(minutes=9)
    assert told(here) == [], "each sign of it counts"
    here.clock.advance(minutes=1)
    assert told(here) == [("node1", "kernel")]
    here.clock.advance(minutes=30)
    assert told(here) == [("node1", "kernel")]
    here.clock.advance(minutes=30)
    here.window()
    seed_url(here)
    assert told(here) == [("node1", "kernel")], "another boot has begun"
    here.clock.advance(minutes=10)
    assert told(here) == [("node1", "kernel"), ("node1", "configuration")]


def test_a_host_that_is_up_is_not_stuck(here: Site) -> None:
    delivery = here.service.netboot.seed(origin(MAC2), seed_url(here, MAC2))
    charged(delivery)
    key = here.service.core.store.keys.phone_home(delivery.boot.id, "node2").reveal()
    here.service.netboot.phone_home.up("node2", key)
    here.clock.advance(hours=1)
    assert told(here) == []


def test_of_a_general_network_nobody_knows(here: Site) -> None:
    boot = here.service.core.store.boots.begin("node2", MAC2, Medium.PXE, "office", NOW, "x")
    here.service.stuck._tracker.begin(boot)
    here.clock.advance(hours=1)
    assert told(here) == []


def test_a_boot_that_begins_is_told_of_once(here: Site) -> None:
    here.window()
    for _ in range(3):
        seed_url(here)
        here.clock.advance(seconds=1)
    (entry,) = here.audit("boot-begun")
    assert (entry["host"], entry["mac"], entry["medium"], entry["network"]) == ("node1", MAC1, "pxe", "mgmt")
