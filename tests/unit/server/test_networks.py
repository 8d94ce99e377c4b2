"""What the loop that serves networks goes by, and what it says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from provision.boot import Channel, ChannelKind
from provision.errors import Unavailable
from provision.net.interfaces import Machine
from provision.net.rules import Stack
from provision.net.sources import Sources
from provision.places import Group
from provision.server import networks
from provision.server.networks import Networks
from provision.service.listeners import Listening
from provision.settings import Listen
from tests.helpers.fakes import FakePins

MAC = "52:54:00:00:00:01"
MACS = {MAC: "node1"}
LISTEN = Listen(network="mgmt", interface="eth1")


def with_networks(step: Callable[[Networks, Any], Any]) -> None:
    async def run() -> None:
        service = SimpleNamespace()
        kernel = SimpleNamespace(watch_links=lambda told: None)
        made = step(Networks(service, None, kernel, Unavailable("", "")), service)  # type: ignore[arg-type]
        if made is not None:
            await made

    asyncio.run(run())


def test_a_host_stays_one_of_the_inventory_while_it_is_rechecked() -> None:
    async def run() -> None:
        service = SimpleNamespace(core=SimpleNamespace(store=SimpleNamespace(snapshot=SimpleNamespace(by_mac=MACS))))
        kernel = SimpleNamespace(watch_links=lambda told: None, known=lambda ifindex, address: FakePins.ASIDE)
        serving = Networks(service, None, kernel, FakePins(rechecked={"10.0.0.11": MAC}))  # type: ignore[arg-type]
        assert serving._who(2, "10.0.0.11") == Group(MAC, known=True)
        assert serving._who(2, "10.0.0.12") == Group(FakePins.ASIDE)

    asyncio.run(run())


def test_a_look_that_began_earlier_does_not_replace_a_later_one() -> None:
    def step(serving: Networks, _: Any) -> None:
        early, late = Machine({}, taken=1.0), Machine({}, frozenset({"eth1"}), taken=2.0)
        serving._see(late)
        serving._see(early)
        assert serving._machine is late
        assert serving._changed.is_set()

    with_networks(step)


def test_a_network_that_was_cut_off_is_not_said_to_be_served() -> None:
    async def keep_up(serving: Networks, service: Any) -> None:
        channel = Channel(ChannelKind.MANAGEMENT, "mgmt", "eth1", None, None)
        server = SimpleNamespace(cut=lambda: None)
        before = Sources()
        served = networks._Served((2, channel, Stack()), server, None, (object(),), before)  # type: ignore[arg-type]
        serving._served["mgmt"] = served

        async def cut_meanwhile(*_: object) -> None:
            del serving._served["mgmt"]
            serving._states["mgmt"] = "tap7 has joined the bridge"

        with patch.object(serving, "_hear", cut_meanwhile):
            await serving._keep_up(LISTEN, served, Machine({}))
        assert serving.states() == {"mgmt": Listening("tap7 has joined the bridge", served=False)}

    with_networks(keep_up)
