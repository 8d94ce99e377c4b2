"""The neighbour cache against a real kernel, in namespaces."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from unittest.mock import patch

from provision.net import neighbours
from provision.net.interfaces import Machine
from provision.net.neighbours import SOLICIT_SECONDS, Neighbours
from tests.helpers.netns import isolated, lan, sh

MAC = "52:54:00:00:00:07"


def soon(condition: Callable[[], bool], seconds: float = 3.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.005)
    return False


def mac_of(table: Neighbours, index: int, address: str, timeout: float = neighbours.SOLICIT_SECONDS) -> str | None:
    return asyncio.run(table.find_mac(index, address, timeout))


@isolated
def test_solicits_then_answers_from_memory() -> None:
    with lan("eth1", "192.0.2.1/24", "192.0.2.7/24", MAC), Neighbours() as table:
        index = socket.if_nametoindex("eth1")
        assert table.known(index, "192.0.2.7") is None
        assert mac_of(table, index, "192.0.2.7") == MAC
        with patch.object(neighbours, "solicit", side_effect=AssertionError("the peer is asked again")):
            assert table.known(index, "192.0.2.7") == mac_of(table, index, "192.0.2.7") == MAC
        assert table.known(socket.if_nametoindex("lo"), "192.0.2.7") is None


@isolated
def test_an_absent_peer_is_none_within_the_bound() -> None:
    with lan("eth1", "192.0.2.1/24", "192.0.2.7/24"), Neighbours() as table:
        index, start = socket.if_nametoindex("eth1"), time.monotonic()
        assert mac_of(table, index, "192.0.2.99") is None
        assert 0.9 < time.monotonic() - start < 3.0
        assert mac_of(table, 9999, "192.0.2.7", timeout=0.1) is None
        assert not table._waiting


@isolated
def test_find_mac_lets_the_loop_run() -> None:
    async def both(table: Neighbours, index: int) -> tuple[str | None, float]:
        worst = 0.0

        async def tick() -> None:
            nonlocal worst
            while True:
                before = time.monotonic()
                await asyncio.sleep(0.005)
                worst = max(worst, time.monotonic() - before)

        ticking = asyncio.create_task(tick())
        # Who answers has all the time that a busy machine takes.
        asked = (("192.0.2.7", 60.0), ("192.0.2.99", SOLICIT_SECONDS), ("192.0.2.7", 60.0))
        macs = await asyncio.gather(*(table.find_mac(index, address, seconds) for address, seconds in asked))
        ticking.cancel()
        assert macs[0] == macs[2]
        assert macs[1] is None
        return macs[0], worst

    with lan("eth1", "192.0.2.1/24", "192.0.2.7/24", MAC), Neighbours() as table:
        mac, worst = asyncio.run(both(table, socket.if_nametoindex("eth1")))
        assert mac == MAC
        assert worst < 0.25


@isolated
def test_forgets_and_relearns_with_the_kernel() -> None:
    with lan("eth1", "192.0.2.1/24", "192.0.2.7/24", MAC) as there, Neighbours() as table:
        index = socket.if_nametoindex("eth1")
        assert mac_of(table, index, "192.0.2.7") == MAC
        sh("ip neigh del 192.0.2.7 dev eth1")
        assert soon(lambda: table.known(index, "192.0.2.7") is None)
        there.sh("ip link set eth0 down; ip link set eth0 address 52:54:00:00:00:66; ip link set eth0 up")
        assert mac_of(table, index, "192.0.2.7") == "52:54:00:00:00:66"
        sh("ip neigh replace 192.0.2.7 lladdr 52:54:00:00:00:55 nud permanent dev eth1")
        assert soon(lambda: table.known(index, "192.0.2.7") == "52:54:00:00:00:55")
        sh("ip neigh replace 192.0.2.7 nud failed dev eth1")
        assert soon(lambda: table.known(index, "192.0.2.7") is None)
        assert mac_of(table, index, "192.0.2.7") is not None
        sh("ip link del eth1")
        assert soon(lambda: table.known(index, "192.0.2.7") is None)


@isolated
def test_entries_older_than_the_table_are_found() -> None:
    with lan("eth1", "192.0.2.1/24", "192.0.2.7/24", MAC):
        index = socket.if_nametoindex("eth1")
        sh(f"ip neigh replace 192.0.2.40 lladdr {MAC} nud stale dev eth1; ip neigh add proxy 192.0.2.41 dev eth1")
        with Neighbours() as table:
            assert table.known(index, "192.0.2.40") == MAC
            assert table.known(index, "192.0.2.41") is None


@isolated
def test_the_kernel_itself_is_asked_when_its_news_are_late() -> None:
    with lan("eth1", "192.0.2.1/24", "192.0.2.7/24", MAC), Neighbours() as table:
        index = socket.if_nametoindex("eth1")
        sh("ip neigh replace 192.0.2.7 lladdr 52:54:00:00:00:07 dev eth1 nud reachable")
        assert soon(lambda: table.confirmed(index, "192.0.2.7") == MAC)
        assert table.confirmed_now(index, "192.0.2.7") == MAC
        with patch.object(table, "_take_neighbour"):
            sh("ip neigh flush dev eth1 nud reachable")
            assert table.confirmed(index, "192.0.2.7") == MAC, "no notification of it has come"
            assert table.confirmed_now(index, "192.0.2.7") is None
            sh("ip neigh replace 192.0.2.7 lladdr 52:54:00:00:00:07 dev eth1 nud stale")
            assert table.confirmed_now(index, "192.0.2.7") is None, "it says who had the address once"
        assert table.confirmed_now(index, "192.0.2.99") is None


@isolated
def test_lost_news_are_made_good() -> None:
    with lan("eth1", "192.0.2.1/24", "192.0.2.7/24", MAC), Neighbours() as table:
        index = socket.if_nametoindex("eth1")
        table._monitor._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        lines = "\n".join(f"neigh replace 192.0.2.{n} lladdr {MAC} nud permanent dev eth1" for n in range(10, 250))
        for _ in range(3):
            sh(f"ip -batch - <<'X'\n{lines}\nX")
            sh("ip neigh flush dev eth1 nud permanent")
        sh("ip neigh replace 192.0.2.200 lladdr 52:54:00:00:00:99 nud permanent dev eth1")
        assert soon(lambda: table.known(index, "192.0.2.200") == "52:54:00:00:00:99")
        assert soon(lambda: all(table.known(index, f"192.0.2.{n}") is None for n in range(10, 200)))


@isolated
def test_own_addresses_follow_the_kernel() -> None:
    with lan("eth1", "192.0.2.1/24", "192.0.2.7/24"), Neighbours() as table:
        assert table.is_local("192.0.2.1")
        assert table.is_local("127.8.9.10")
        assert not table.is_local("192.0.2.7")
        sh("ip addr add 192.0.2.77/24 dev eth1")
        assert soon(lambda: table.is_local("192.0.2.77"))
        sh("ip addr del 192.0.2.77/24 dev eth1")
        assert soon(lambda: not table.is_local("192.0.2.77"))


@isolated
def test_changes_tells_of_ports_links_and_forwarding() -> None:
    async def follow(table: Neighbours) -> list[Machine]:
        seen: list[Machine] = []
        steps = [
            "ip tuntap add tap7 mode tap && ip link set tap7 master br0",
            "echo $((1 - $(cat /proc/sys/net/ipv4/conf/br0/forwarding))) >/proc/sys/net/ipv4/conf/br0/forwarding",
            "ip link del br0",
        ]
        async with asyncio.timeout(20):
            async for machine in table.changes(settle=0.3):
                seen.append(machine)
                if len(seen) > len(steps):
                    return seen
                sh(steps[len(seen) - 1])
        raise AssertionError

    sh("ip link add br0 type bridge && ip link set br0 up")
    time.sleep(0.3)
    with Neighbours() as table:
        first, with_port, switched, gone = asyncio.run(follow(table))
    assert first.interfaces["br0"].ports == ()
    assert with_port.interfaces["br0"].ports == ("tap7",)
    assert switched.interfaces["br0"].forwarding is not with_port.interfaces["br0"].forwarding
    assert "br0" not in gone.interfaces
