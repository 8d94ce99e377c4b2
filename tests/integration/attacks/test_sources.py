"""Forged sources from elsewhere: they cost no entry in the neighbour table, which all networks of the server share."""

from __future__ import annotations

import random
import re
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

import pytest

from provision import proc
from provision.lab.lans import inside, ip
from tests.helpers.wired import eventually
from tests.integration.attacks.site import GUEST, MGMT, AttackSite, attack_site, http, pxe, rrq, tftp

SOURCES = 300
"""Fewer than the table has room for (gc_thresh1 is 128, gc_thresh3 is 1,024): nothing is thrown out meanwhile."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttackSite]:
    with attack_site(tmp_path_factory.mktemp("sources")) as site:
        yield site


@pytest.fixture(scope="module")
def flooder(site: AttackSite) -> str:
    """A machine on both LANs, with an address on neither."""
    namespace = site.mgmt.host("flooder", mac="52:54:00:77:0f:01")
    site.guest.attach(namespace, "eth1", mac="52:54:00:77:0f:02")
    return namespace


def checksum(data: bytes) -> int:
    """RFC 1071."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data.ljust(len(data) + len(data) % 2, b"\0")))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packet(source: IPv4Address, target: str, protocol: int, body: bytes) -> bytes:
    """An IPv4 packet; the checksum of UDP is left out (RFC 768), TCP's is filled in."""
    ends = source.packed + socket.inet_aton(target)
    if protocol == socket.IPPROTO_TCP:
        total = checksum(ends + struct.pack("!HH", protocol, len(body)) + body)
        body = body[:16] + struct.pack("!H", total) + body[18:]
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, protocol, 0) + ends
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + body


def requests(source: IPv4Address, target: str) -> Iterator[bytes]:
    """What opens a TFTP transfer, and an HTTP connection."""
    request = rrq(pxe("node1"))
    yield packet(source, target, socket.IPPROTO_UDP, struct.pack("!HHHH", 4000, 69, 8 + len(request), 0) + request)
    yield packet(source, target, socket.IPPROTO_TCP, struct.pack("!HHIIBBHHH", 4000, 80, 1, 0, 0x50, 2, 1024, 0, 0))


def flood(site: AttackSite, namespace: str, interface: str, target: str, sources: list[IPv4Address]) -> None:
    """Send both requests from each source, to the server's MAC."""
    shown = proc.run(
        ["ip", "-n", site.lab.server, "link", "show", target_nic(target)], package="iproute2"
    ).stdout.decode()
    (mac,) = re.findall(r"link/ether (\S+)", shown)
    with inside(namespace), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((interface, 0))
        for source in sources:
            for one in requests(source, target):
                raw.send(bytes.fromhex(mac.replace(":", "")) + b"\x52\x54\0\x77\x0f\1" + b"\x08\0" + one)


def target_nic(address: str) -> str:
    return {MGMT: "mgmt", GUEST: "guest"}[address]


def neighbours(site: AttackSite, interface: str) -> set[IPv4Address]:
    shown = proc.run(
        ["ip", "-n", site.lab.server, "neigh", "show", "dev", interface], package="iproute2"
    ).stdout.decode()
    return {IPv4Address(line.split()[0]) for line in shown.splitlines() if line and ":" not in line.split()[0]}


def drawn(prefix: str, number: int = SOURCES) -> list[IPv4Address]:
    network = IPv4Network(prefix)
    return [network[index] for index in random.Random(1).sample(range(1, network.num_addresses - 1), number)]


@pytest.mark.parametrize("target", [MGMT, GUEST])
def test_forged_sources_from_elsewhere_cost_no_neighbour(site: AttackSite, flooder: str, target: str) -> None:
    nic = target_nic(target)
    forged = [*drawn("198.18.0.0/15"), *drawn("8.0.0.0/8"), *drawn("10.77.3.0/24", 50)]
    # The other network's own addresses, which are routed, but not by this interface.
    forged += drawn("10.77.2.0/24" if target == MGMT else "10.77.1.0/24", 50)
    flood(site, flooder, "eth0" if target == MGMT else "eth1", target, forged)
    inner = drawn(f"{target.rpartition('.')[0]}.128/25", 3)
    flood(site, flooder, "eth0" if target == MGMT else "eth1", target, inner)
    # They were sent last, so the others have been heard, or never are.
    eventually(lambda: set(inner) <= neighbours(site, nic))
    assert neighbours(site, nic) & set(forged) == set()


def test_who_is_routed_by_the_interface_is_heard(site: AttackSite) -> None:
    """A host behind a router of the management LAN gets its refusal, from the moment the server has a route to it."""
    behind = site.mgmt.host("behind", "10.77.1.60/24", mac="52:54:00:77:0f:03")
    ip(behind, "addr", "add", "172.20.0.9/32", "dev", "eth0")
    assert http(behind, MGMT, f"/pxe/{pxe('node1')}", source="172.20.0.9", timeout=1).status == 0
    ip(site.lab.server, "route", "add", "172.20.0.0/24", "via", "10.77.1.60", "dev", "mgmt")
    try:
        eventually(
            lambda: http(behind, MGMT, f"/pxe/{pxe('node1')}", source="172.20.0.9", timeout=1).rule == "off-prefix"
        )
        assert tftp(behind, MGMT, pxe("node1"), source="172.20.0.9").rule == "off-prefix"
    finally:
        ip(site.lab.server, "route", "del", "172.20.0.0/24")
    eventually(lambda: http(behind, MGMT, f"/pxe/{pxe('node1')}", source="172.20.0.9", timeout=1).status == 0)
    assert site.canary["node1"] in site.seed_of("node1").body
