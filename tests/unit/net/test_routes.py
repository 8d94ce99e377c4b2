"""What is a default route, however many pieces it comes in and whatever table they are in."""

from __future__ import annotations

import itertools
import socket
from ipaddress import IPv4Network, ip_network

import pytest

from provision.net import routes
from provision.net.interfaces import look
from tests.helpers.netns import isolated, lan, sh


def split(prefix: str, length: int) -> list[str]:
    return [str(part) for part in ip_network(prefix).subnets(new_prefix=length)]


DEFAULTS = {
    "whole": ["0.0.0.0/0"],
    "halves": ["0.0.0.0/1", "128.0.0.0/1"],
    "a half": ["128.0.0.0/1"],
    "quarters but one": ["64.0.0.0/2", "128.0.0.0/2", "192.0.0.0/2"],
    "sixteen": split("0.0.0.0/0", 4),
    "every second of 256": split("0.0.0.0/0", 8)[::2],
    "all but one network": [str(n) for n in IPv4Network("0.0.0.0/0").address_exclude(IPv4Network("192.0.2.0/24"))],
    "overlapping": ["8.0.0.0/5", "8.0.0.0/6", "12.0.0.0/6", "16.0.0.0/4"],
    "sixteens": split("64.0.0.0/3", 16),
    "IPv6": ["::/0"],
    "IPv6 halves": ["::/1", "8000::/1"],
    "IPv6 global": ["2000::/3"],
    "IPv6 pieces": split("2000::/3", 9),
    "IPv6 part": ["2a00::/7"],
}
OTHERS = {
    "none": [],
    "one LAN": ["192.0.2.0/24"],
    "private": ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"],
    "multicast": ["224.0.0.0/4", "ff00::/8"],
    "reserved": ["240.0.0.0/4", "127.0.0.0/8", "0.0.0.0/8"],
    "a company's own": ["9.0.0.0/8", "11.0.0.0/8", "53.0.0.0/8"],
    "the same many times": ["9.0.0.0/8"] * 40,
    "IPv6 sites": ["2001:db8::/32", "fe80::/64", "fd00::/8", "fc00::/7", "2a02:1000::/24"],
    "hosts": ["1.2.3.4/32", "2001:db8::1/128"],
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_it_is_one(name: str) -> None:
    assert routes.is_default(map(ip_network, DEFAULTS[name]))
    assert routes.is_default(map(ip_network, [*OTHERS["private"], *DEFAULTS[name]]))


@pytest.mark.parametrize("name", OTHERS)
def test_it_is_none(name: str) -> None:
    assert not routes.is_default(map(ip_network, OTHERS[name]))


def test_none_of_them_together() -> None:
    assert not routes.is_default(map(ip_network, itertools.chain(*OTHERS.values())))


@pytest.mark.integration
@isolated
@pytest.mark.parametrize(
    "lines",
    [
        "ip route add default via 192.0.2.7",
        "ip route add 0.0.0.0/1 via 192.0.2.7 && ip route add 128.0.0.0/1 via 192.0.2.7",
        "ip route add default via 192.0.2.7 table 77 && ip rule add from all lookup 77",
        "ip route add default nexthop via 192.0.2.7 nexthop via 198.51.100.7",
        "ip nexthop add id 5 via 192.0.2.7 dev eth1 && ip route add default nhid 5",
        "ip nexthop add id 5 via 192.0.2.7 dev eth1 && ip route add default nhid 5"
        " && echo 0 >/proc/sys/net/ipv4/nexthop_compat_mode",
        "ip -6 route add default dev eth1",
        "ip -6 route add 2000::/3 dev eth1",
        "ip -6 route add ::/1 dev eth1 table 9 && ip -6 route add 8000::/1 dev eth1",
        "ip -6 route add default via fe80::1 dev eth1 table 9",
    ],
)
def test_the_kernels_routes(lines: str) -> None:
    with lan("eth1", "192.0.2.1/24", "192.0.2.7/24"), lan("eth2", "198.51.100.1/24", "198.51.100.7/24"):
        assert look().default_routes == frozenset()
        assert look().routes["eth1"] == (IPv4Network("192.0.2.0/24"),)
        sh(lines)
        assert "eth1" in look().default_routes


@pytest.mark.integration
@isolated
def test_what_leads_nowhere_or_was_advertised_is_no_default_route() -> None:
    with lan("eth1", "192.0.2.1/24", "192.0.2.7/24"):
        sh("ip route add unreachable default metric 9 && ip route add blackhole 0.0.0.0/1")
        sh("ip -6 route add prohibit default && ip -6 route add default dev eth1 proto ra metric 5")
        assert look().default_routes == frozenset()


def test_news_of_single_hosts_are_passed_over() -> None:
    message = {"type": 1, "dst_len": 25, "family": socket.AF_INET, "proto": 3}
    assert not routes.matters(message)
    assert not routes.matters(message | {"dst_len": 64, "family": socket.AF_INET6})
    assert not routes.matters(message | {"dst_len": 0, "type": 2})
    assert not routes.matters(message | {"dst_len": 0, "family": socket.AF_INET6, "proto": 9}), (
        "no matter who sends them"
    )
    assert routes.matters(message | {"dst_len": 24})
    assert routes.matters(message | {"dst_len": 48, "family": socket.AF_INET6})
