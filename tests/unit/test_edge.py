"""The channel of a request is its socket's, and a change of the inventory can only take from it what it had."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from provision.boot import Channel, ChannelKind
from provision.edge import Edge
from provision.errors import Denied, Unavailable
from provision.net.pins import Pin, Place
from provision.net.rules import Stack
from tests.helpers.fakes import FakeNeighbours, FakePin, FakePins
from tests.helpers.site_fixture import GENERAL, INVENTORY, IP, MAC1, MAC2, MANAGEMENT, Site

OFFICE = "office: {role: general, prefix: 10.1.0.0/24, gateway: 10.1.0.1}"
MGMT = "mgmt: {role: management"


def asked(here: Site, channel: Channel, address: str) -> Channel:
    """The channel of a request that comes in now at the listener that was started as `channel`."""
    core = here.service.core
    started = Edge(channel, 1, 80, FakeNeighbours({address: MAC1}), lambda: core.store.snapshot.site)
    return asyncio.run(started.origin(address)).channel


def test_as_it_was_started(here: Site) -> None:
    assert asked(here, MANAGEMENT, IP[MAC1]) == MANAGEMENT
    assert asked(here, GENERAL, "10.1.0.11") == GENERAL


def test_what_becomes_general_is_general_at_once(here: Site) -> None:
    here.apply(INVENTORY.replace(MGMT, MGMT.replace("management", "general")))
    assert asked(here, MANAGEMENT, IP[MAC1]).kind is ChannelKind.GENERAL


def test_what_becomes_management_stays_general_until_its_listener_is_looked_at(here: Site) -> None:
    here.apply(INVENTORY.replace(OFFICE, OFFICE.replace("general", "management")))
    assert here.service.core.site.networks["office"].role.value == "management"
    assert asked(here, GENERAL, "10.1.0.11") == GENERAL


def test_a_network_that_is_gone_is_general_and_nobody_is_on_it(here: Site) -> None:
    elsewhere = replace(GENERAL, network="gone")
    assert asked(here, elsewhere, "10.1.0.11") == replace(elsewhere, prefix=None)


def test_a_network_without_ipv4_is_general_and_nobody_is_on_it(here: Site) -> None:
    """No listener serves one: whatever was started before the inventory changed gives nothing away."""
    networks = here.service.core.site.networks
    changed = {**networks, "mgmt": networks["mgmt"].model_copy(update={"prefix": None})}
    site = here.service.core.site.model_copy(update={"networks": changed})
    started = Edge(MANAGEMENT, 1, 80, FakeNeighbours({IP[MAC1]: MAC1}), lambda: site)
    found = asyncio.run(started.origin(IP[MAC1])).channel
    assert found == replace(MANAGEMENT, kind=ChannelKind.GENERAL, prefix=None)


def test_a_new_prefix_counts_at_once(here: Site) -> None:
    here.apply(INVENTORY.replace("10.1.0", "10.2.0"))
    assert asked(here, GENERAL, "10.1.0.11").prefix == IPv4Network("10.2.0.0/24")


class LateNeighbours(FakeNeighbours):
    """What notifications have said, while the kernel itself has something else by now."""

    def __init__(self, news: str | None, kernel: str | None) -> None:
        super().__init__({IP[MAC1]: news} if news else {})
        self.kernel = kernel

    def confirmed_now(self, ifindex: int, address: IPv4Address | str) -> str | None:
        return self.kernel


@pytest.mark.parametrize("news", [None, MAC2])
@pytest.mark.parametrize("kernel", [None, MAC2])
def test_the_host_itself_is_asked_before_anything_else_is_believed(
    here: Site, news: str | None, kernel: str | None
) -> None:
    edge = Edge(MANAGEMENT, 1, 80, LateNeighbours(news, kernel), pins=FakePins(), macs_at=here.service.core.macs_at)
    assert asyncio.run(edge.origin(IP[MAC1])).requester.mac == MAC1


@pytest.mark.parametrize("kernel", [None, MAC2])
def test_nobody_is_refused_for_an_entry_that_the_kernel_no_longer_has(here: Site, kernel: str | None) -> None:
    pins = FakePins(off=[IP[MAC1]])
    for news in (None, MAC2):
        edge = Edge(MANAGEMENT, 1, 80, LateNeighbours(news, kernel), pins=pins, macs_at=here.service.core.macs_at)
        assert asyncio.run(edge.origin(IP[MAC1])).requester.mac == kernel


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("there", [True, False])
def test_nobody_is_taken_for_the_server_while_it_holds_an_address(here: Site, known: bool, there: bool) -> None:
    """The address of a machine that is rechecked has the server's own MAC, with the word of the kernel for it."""
    address = IP[MAC1]
    pins = FakePins(off=[] if there else [address], rechecked={address: MAC1})
    macs_at = here.service.core.macs_at if known else lambda network, address: ()
    edge = Edge(MANAGEMENT, 1, 80, FakeNeighbours({address: FakePins.ASIDE}), pins=pins, macs_at=macs_at)
    assert asyncio.run(edge.origin(address)).requester.mac == (MAC1 if there else None)


@pytest.mark.parametrize(("port", "mac"), [("eth5", MAC1), ("tap0", None), (None, None)])
def test_on_a_bridge_a_mac_counts_on_a_listed_port_only(
    monkeypatch: pytest.MonkeyPatch, port: str | None, mac: str | None
) -> None:
    monkeypatch.setattr("provision.net.fdb.port_of", lambda *of: port if of == (7, MAC1, 10) else "eth5")
    stack = Stack(frozenset({7}), frozenset({7}), frozenset({"eth5"}), bridge=7, vlan=10)
    on_it = Edge(MANAGEMENT, 1, 80, FakeNeighbours({IP[MAC1]: MAC1}), stack=stack)
    assert asyncio.run(on_it.origin(IP[MAC1])).requester.mac == mac
    elsewhere = replace(on_it, stack=Stack(frozenset({7})))
    assert asyncio.run(elsewhere.origin(IP[MAC1])).requester.mac == MAC1


class CountedPins(FakePins):
    """Pins that say which of them are held."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[Place] = []

    async def pin(self, place: Place) -> Pin | None:
        self.held.append(place)
        return FakePin(place, lambda pin: self.held.remove(pin.place))


def test_a_kernel_that_does_not_answer_leaves_no_address_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = Stack(frozenset({7}), frozenset({7}), frozenset({"eth5"}), bridge=7)
    pins = CountedPins()
    edge = Edge(MANAGEMENT, 1, 80, FakeNeighbours({IP[MAC1]: MAC1}), pins=pins, stack=stack)
    monkeypatch.setattr("provision.net.fdb.port_of", lambda *_: "eth5")
    origin = asyncio.run(edge.origin(IP[MAC1]))

    def silent(*_: object) -> str | None:
        raise Unavailable("netlink", "the kernel did not answer", "look at the journal")

    monkeypatch.setattr("provision.net.fdb.port_of", silent)
    with pytest.raises(Unavailable):
        asyncio.run(edge.deliver(origin, lambda pinned: pytest.fail("it was not found")))
    assert pins.held == []


def test_the_address_of_one_host_is_never_held_for_another(here: Site) -> None:
    """Another host, that has been taken over, asks and answers as the address of one that is off."""
    pins, core = CountedPins(), here.service.core
    edge = Edge(MANAGEMENT, 1, 80, FakeNeighbours({IP[MAC1]: MAC2}), pins=pins, macs_at=core.macs_at)
    assert core.macs_at("mgmt", IPv4Address(IP[MAC1])) == (MAC1,)
    pins.confirm = lambda place: FakePins(off=[IP[MAC1]] if place.mac == MAC1 else []).confirm(place)  # type: ignore[method-assign]
    origin = asyncio.run(edge.origin(IP[MAC1]))
    assert origin.requester.mac == MAC2
    with pytest.raises(Denied, match="did not answer"):
        asyncio.run(edge.deliver(origin, lambda pinned: here.service.netboot.seed(pinned, None)))
    assert pins.held == []
