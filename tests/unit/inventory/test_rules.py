from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from provision.inventory.rules import check
from tests.helpers.inventory_samples import HOSTS, SITE, lines, read

SECOND = """\
  node3:
    uuid: 4c4c4544-0042-3510-8054-b4c04f4d3132
    interfaces:
      a: {mac: 52:54:00:00:00:03, network: mgmt, addressing: static, ipv4: 10.0.0.13}
      b: {mac: 52:54:00:00:01:03, network: office, addressing: static, ipv6: '2001:db8:1::3'}
"""


SHOPS = """\
site:
  domain: example.test
  networks:
    shop0: {role: general, scope: shop0, prefix: 192.168.1.0/24, gateway: 192.168.1.1, dns: [192.168.1.20]}
    shop1: {role: general, scope: shop1, prefix: 192.168.1.0/24, gateway: 192.168.1.1, dns: [192.168.1.30]}
hosts:
  edge0: {interfaces: {lan: {mac: 52:54:00:aa:bb:00, network: shop0, addressing: static, ipv4: 192.168.1.10}}}
  edge1: {interfaces: {lan: {mac: 52:54:00:aa:bb:01, network: shop1, addressing: static, ipv4: 192.168.1.10}}}
"""


def test_scopes_that_never_meet_have_the_same_addresses() -> None:
    assert lines(SHOPS) == []
    assert lines(SHOPS.replace("ipv4: 192.168.1.10", "ipv4: 192.168.1.20").replace("shop0, addr", "shop1, addr"))
    assert len(lines(SHOPS.replace("192.168.1.10", "192.168.1.20"))) == 1, "a server of its own scope only"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            ("scope: shop1", "scope: shop0"),
            "site.networks.shop1.prefix: 192.168.1.0/24 overlaps with 192.168.1.0/24 of network 'shop0'; give each "
            "network a prefix of its own, or a 'scope' to networks that never meet",
        ),
        (("scope: shop1, ", ""), "site.networks.shop1.prefix: 192.168.1.0/24 overlaps with"),
        (
            ("network: shop1", "network: shop0"),
            "hosts.edge1.interfaces.lan.ipv4: the address 192.168.1.10 of scope 'shop0' is already that of edge0",
        ),
        (("general, scope: shop1", "management, scope: shop1"), "site.networks.shop1.scope: the management network"),
        (
            (
                "{lan: {mac: 52:54:00:aa:bb:01",
                "{b: {mac: 52:54:00:aa:bb:02, network: shop0, addressing: dhcp}, lan: {mac: 52:54:00:aa:bb:01",
            ),
            "hosts.edge1.interfaces.lan.network: is in scope 'shop1', and 'b' in scope 'shop0'; these never meet",
        ),
    ],
)
def test_what_scopes_do_not_allow(change: tuple[str, str], words: str) -> None:
    found = lines(SHOPS.replace(*change))
    assert any(words in line for line in found), found


def test_a_scope_that_cannot_be_read_is_not_missing() -> None:
    (found,) = lines(SHOPS.replace("scope: shop1", "scope: Shop_1"))
    assert "site.networks.shop1.scope: 'Shop_1' is not allowed" in found


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (
            "interfaces: {x: {mac: 52-54-00-00-00-03}}",
            "hosts.node4.interfaces.x.macs.0: the MAC 52:54:00:00:00:03 is already that of node3; a NIC belongs",
        ),
        (
            "interfaces: {x: {mac: 52:54:00:00:00:04, network: mgmt, addressing: dhcp, reservation: 10.0.0.13}}",
            "hosts.node4.interfaces.x.reservation: the address 10.0.0.13 is already that of node3",
        ),
        (
            "interfaces: {x: {mac: 52:54:00:00:00:04, network: office, addressing: static, ipv6: '2001:0db8:1:0::3'}}",
            "hosts.node4.interfaces.x.ipv6: the address 2001:db8:1::3 is already that of node3",
        ),
        (
            "{uuid: 4C4C4544-0042-3510-8054-B4C04F4D3132, interfaces: {x: {mac: 52:54:00:00:00:04}}}",
            "hosts.node4.uuid: the UUID 4c4c4544-0042-3510-8054-b4c04f4d3132 is already that of node3",
        ),
    ],
)
def test_hosts_that_collide(own: str, words: str) -> None:
    body = f" {own}" if own.startswith("{") else f"\n    {own}"
    (found,) = lines(SITE, f"{HOSTS}{SECOND}  node4:{body}\n")
    assert found.startswith("b.yaml:") and words in found


def test_one_host_with_an_address_twice() -> None:
    text = HOSTS + (
        "  n:\n    interfaces:\n"
        "      a: {mac: 52:54:00:00:00:04, network: mgmt, addressing: static, ipv4: 10.0.0.14}\n"
        "      b: {mac: 52:54:00:00:00:05, network: mgmt, addressing: static, ipv4: 10.0.0.14}\n"
    )
    (found,) = lines(SITE, text)
    assert "b.yaml:19: hosts.n.interfaces.b.ipv4: the address 10.0.0.14 is already that of a;" in found


def test_names_are_unique_also_among_hosts_from_elsewhere() -> None:
    inventory = read(SITE, HOSTS)
    one = inventory.hosts[0]
    facts = [violation.fact for violation in check(inventory.site, [one, one])]
    assert "the host name node1 is already that of node1" in facts
    assert list(check(inventory.site, inventory.hosts)) == []


def test_a_colliding_interface_and_a_bad_one_are_both_reported() -> None:
    text = HOSTS.replace("52:54:00:00:00:02", "52:54:00:00:00:01") + "      x: {mac: nonsense}\n"
    assert len(lines(SITE, text)) == 2


def many(count: int) -> str:
    """A hosts file of `count` hosts on a /16."""
    parts = ["hosts:\n"]
    for i in range(1, count + 1):
        high, low = divmod(i, 256)
        parts.append(
            f"  h{i}:\n    groups: [g]\n    interfaces:\n"
            f"      mgmt: {{mac: 52:54:00:00:{high:02x}:{low:02x}, network: mgmt, addressing: static, "
            f"ipv4: 10.0.{high}.{low}}}\n      guests: {{mac: 52:54:01:00:{high:02x}:{low:02x}}}\n"
            f"    labels: {{rack: {i % 40}}}\n"
        )
    return "".join(parts)


def steps(run: Callable[[], object]) -> int:
    """How many lines of Python `run` executes: what grows with the input, on a busy machine as on a quiet one."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)
    return count


def test_the_work_grows_no_worse_than_with_the_number_of_hosts() -> None:
    site = (
        "site:\n  domain: a.test\n  networks:\n    mgmt: {role: management, prefix: 10.0.0.0/16}\n"
        "  groups:\n    g: {interfaces: {guests: {vlan: 20, bridge: br-g}}}\n"
    )
    few, more = (many(count) for count in (60, 300))
    assert len(read(site, more).hosts) == 300
    assert steps(lambda: read(site, more)) < 5 * 1.1 * steps(lambda: read(site, few))
