"""A running guest's tap joins the management bridge and asks at once, with a host's own MAC and address."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from provision.lab.lans import Lab
from tests.helpers.wired import CANARY, Wired
from tests.integration.attacks.clients import OPTIONS, SEED, Client, Http, Tftp
from tests.integration.attacks.guest_tap import Tap, join_and_ask
from tests.integration.attacks.intruder import Target
from tests.integration.attacks.site import ADDRESS, MAC, MGMT

BRIDGE_MAC = "52:54:00:77:00:fe"  # of `Wired`
TARGET = Target(MAC["node1"], ADDRESS["node1"], BRIDGE_MAC, MGMT)
HOST = (ADDRESS["node1"], 2070)
CLIENTS: dict[str, Callable[[], Client]] = {
    "TFTP with options": lambda: Tftp(HOST, MGMT, *OPTIONS),
    "TFTP without options": lambda: Tftp(HOST, MGMT),
    "HTTP seed": lambda: Http(HOST, MGMT, f"/{SEED}"),
    "HTTP Boot ISO": lambda: Http(HOST, MGMT, "/http-boot/boot.iso"),
}


@pytest.fixture(scope="module")
def wired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wired]:
    with Lab("j", tmp_path_factory.mktemp("joining")) as lab:
        yield Wired(lab)


def joined(wired: Wired, client: Client) -> bytes:
    """What a guest got that joined the management bridge of a fresh server."""
    server, tap = wired.serve('bridge_ports = ["uplink"]'), Tap(wired.lab.server, f"vnet{wired.number()}")
    try:
        assert "boots from the network" in wired.config(), "the network is served until then"
        return join_and_ask(tap, "brm", TARGET, client).data
    finally:
        tap.close()
        server.stop()


@pytest.mark.parametrize("name", CLIENTS)
def test_a_guest_that_joins_the_bridge_gets_no_seed(wired: Wired, name: str) -> None:
    for _ in range(2):
        data = joined(wired, CLIENTS[name]())
        assert CANARY not in data and b"phone_home" not in data
