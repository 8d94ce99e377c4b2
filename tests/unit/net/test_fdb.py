"""On which port of a bridge a MAC is: the kernel's word, and the messages that say it."""

from __future__ import annotations

import socket
import struct

import pytest

from provision.net import fdb
from provision.net.fdb import Entry
from provision.net.neighbours import Neighbours
from tests.helpers.netns import isolated, lan, peer, sh
from tests.helpers.wired import eventually

MAC = "52:54:00:00:00:07"


def body(state: int = 2, flags: int = 0, family: int = 7, port: int = 5, *, mac: bytes = b"RT\0\0\0\7") -> bytes:
    """A neighbour message's body: on port 5 of bridge 3, in VLAN 10."""
    head = struct.pack("=BxxxiHBB", family, port, state, flags, 0)
    lladdr = struct.pack("=HH", 4 + len(mac), 2) + mac.ljust((len(mac) + 3) & ~3, b"\0")
    return head + lladdr + struct.pack("=HHI", 8, 9, 3) + struct.pack("=HHHxx", 6, 5, 10)


def test_an_entry_is_read() -> None:
    assert fdb.parse(body()) == Entry(MAC, 5, 3, 10, fresh=True, own=False)
    assert fdb.parse(body(0x40)) == Entry(MAC, 5, 3, 10, fresh=True, own=False), "set by the operator (NUD_NOARP)"


@pytest.mark.parametrize(
    ("state", "flags", "port"),
    [(0x04, 0, 5), (0x80, 0, 5), (0x80, 0x02, 5), (0x02, 0x02, 5), (0x02, 0, 3), (0, 0, 5)],
    ids=["aged", "a port's own", "a device's own", "self", "the bridge itself", "nothing"],
)
def test_what_is_no_evidence(state: int, flags: int, port: int) -> None:
    entry = fdb.parse(body(state, flags, port=port))
    assert entry is not None and not entry.fresh


def test_what_is_no_entry() -> None:
    assert fdb.parse(body(family=2)) is None
    assert fdb.parse(body(mac=b"\1\2\3\4")) is None
    for length in range(12, len(body())):
        fdb.parse(body()[:length])


@pytest.mark.integration
@isolated
def test_the_port_of_a_mac() -> None:
    with lan("eth1", "192.0.2.1/24", "192.0.2.7/24", MAC) as one, lan("eth2", "198.51.100.1/24", "192.0.2.8/24") as two:
        two.sh("ip link set eth0 down && ip link set eth0 address 52:54:00:00:00:08 && ip link set eth0 up")
        sh("ip link add br0 address 52:54:00:00:00:fe type bridge forward_delay 0 mcast_snooping 0")
        sh("for e in eth1 eth2; do ip addr flush dev $e; ip link set $e master br0; done")
        sh("ip link set br0 up && ip addr add 192.0.2.1/24 dev br0")
        bridge = socket.if_nametoindex("br0")
        seen: list[Entry] = []
        with Neighbours() as table:
            end = table.watch_fdb(seen.append)
            for host, address in ((one, "192.0.2.1"), (two, "192.0.2.1")):
                host.sh(f"ping -c 1 -W 5 {address}")
            assert fdb.port_of(bridge, MAC) == fdb.port_of(bridge, MAC.upper()) == "eth1"
            assert fdb.port_of(bridge, "52:54:00:00:00:08") == "eth2"
            assert fdb.port_of(bridge, "52:54:00:00:00:fe") is None, "the bridge's own"
            assert fdb.port_of(bridge, "52:54:00:00:00:77") is None
            assert fdb.port_of(bridge, MAC, vlan=7) is None
            assert fdb.port_of(socket.if_nametoindex("eth1"), MAC) is None
            assert fdb.port_of(9999, MAC) is None
            # Another machine speaks with that MAC.
            two.sh(f"ip link set eth0 down && ip link set eth0 address {MAC} && ip link set eth0 up")
            eventually(lambda: two.sh("ping -c 1 -W 1 192.0.2.1 || true") != "" and fdb.port_of(bridge, MAC) == "eth2")
            ports = [socket.if_nametoindex("eth1"), socket.if_nametoindex("eth2")]

            def told() -> bool:
                moves = [entry.port for entry in seen if entry.mac == MAC and entry.fresh]
                return moves[:1] + moves[-1:] == ports

            eventually(told)  # notifications come in a thread of their own
            # Nobody speaks any more: a port without a carrier has learned nothing.
            for host in (one, two):
                host.sh("ip link set eth0 down")
            eventually(lambda: any(entry.mac == MAC and not entry.fresh for entry in seen))
            assert fdb.port_of(bridge, MAC) is None
            end()
            assert not table._fdb_watchers
            sh(f"bridge fdb add {MAC} dev eth1 master static")
            assert fdb.port_of(bridge, MAC) == "eth1"


@pytest.mark.integration
@isolated
def test_an_aged_entry_is_no_evidence() -> None:
    """The bridge floods frames for it to every port."""
    with lan("eth1", "192.0.2.1/24", "192.0.2.7/24", MAC) as there:
        there.sh("echo 1 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6; ip addr flush dev eth0")
        sh("ip link add br0 type bridge forward_delay 0 ageing_time 100 && ip link set br0 up")
        sh("ip link set eth1 master br0")
        bridge = socket.if_nametoindex("br0")
        there.sh("ip addr add 192.0.2.7/24 dev eth0; ping -c 1 -W 1 192.0.2.1 || true; ip addr flush dev eth0")
        eventually(lambda: fdb.port_of(bridge, MAC) is None)


@pytest.mark.integration
@isolated
def test_the_stations_on_a_nic() -> None:
    with lan("eth1", "192.0.2.1/24", "192.0.2.7/24"), peer() as container:
        index = socket.if_nametoindex("eth1")
        assert fdb.stations(index) == ()
        sh("ip link add link eth1 name mv1 address 52:54:00:00:00:33 type macvlan && ip link set mv1 up")
        assert fdb.stations(index) == ("52:54:00:00:00:33",)
        sh(f"ip link set mv1 netns {container.pid}")
        container.sh("ip link set mv1 up")
        assert fdb.stations(index) == ("52:54:00:00:00:33",)
        container.sh("ip link del mv1")
        assert fdb.stations(index) == ()
        assert fdb.stations(9999) == ()


@pytest.mark.integration
@isolated
def test_a_long_table_is_not_read_for_one_answer() -> None:
    with lan("eth1", "192.0.2.1/24", "192.0.2.7/24", MAC):
        sh("ip link add br0 type bridge && ip link set br0 up && ip link set eth1 master br0")
        macs = [f"52:54:01:00:{a:02x}:{b:02x}" for a in range(40) for b in range(100)]
        for start in range(0, len(macs), 1000):
            lines = "\n".join(f"fdb add {mac} dev eth1 master static" for mac in macs[start : start + 1000])
            sh(f"bridge -batch - <<'X'\n{lines}\nX")
        bridge, asked = socket.if_nametoindex("br0"), []
        original = socket.socket.recvfrom

        class Counted(socket.socket):
            def recvfrom(self, *args: int) -> tuple[bytes, object]:
                asked.append(1)
                return original(self, *args)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("provision.net.netlink.socket.socket", Counted)
            assert fdb.port_of(bridge, macs[-1]) == "eth1"
            assert fdb.stations(bridge) == ()
        assert len(asked) <= 4, "of more than a dozen datagrams"
