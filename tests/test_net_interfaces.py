"""Which interface may serve which network; the kernel's side in namespaces."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface

import pytest

from provision.boot import Role
from provision.errors import Unavailable
from provision.net.interfaces import Binding, Interface, Machine, address_of, look
from provision.net.rules import check_binding
from provision.settings import RULES
from tests.netns import isolated, lan, sh

MGMT = Binding("mgmt", Role.MANAGEMENT, "eth1", IPv4Address("192.0.2.1"))
OFFICE = Binding("office", Role.GENERAL, "eth2")


def machine(*interfaces: Interface, default: str = "") -> Machine:
    return Machine({i.name: i for i in interfaces}, frozenset({default} - {""}))


NIC = Interface("eth1", 2, True, addresses=(IPv4Interface("192.0.2.1/24"),))
NIC2 = Interface("eth2", 3, True, addresses=(IPv4Interface("198.51.100.1/24"),))
BRIDGE = replace(NIC, kind="bridge", ports=("eth5", "tap0"))


def rules(binding: Binding, on: Machine, *others: Binding, **overrides: str) -> list[str]:
    given = {rule.replace("_", "-"): reason for rule, reason in overrides.items()}
    return [r.rule for r in check_binding(binding, others, on, given)]


def test_a_nic_of_its_own_is_fine() -> None:
    assert rules(MGMT, machine(NIC, NIC2, default="eth2"), OFFICE) == []


@pytest.mark.parametrize(
    ("binding", "on", "rule"),
    [
        (replace(MGMT, address=IPv4Address("0.0.0.0")), machine(NIC), "wildcard-address"),
        (MGMT, machine(NIC, default="eth1"), "default-route"),
        (MGMT, machine(BRIDGE), "bridge-ports"),
        (replace(MGMT, bridge_ports=("eth5",)), machine(BRIDGE), "bridge-ports"),
        (MGMT, machine(replace(NIC, kind="openvswitch")), "bridge-ports"),
        (MGMT, machine(replace(NIC, bridge="br0"), Interface("br0", 9, True, "bridge")), "bridge-port"),
        (
            replace(MGMT, interface="v10"),
            machine(BRIDGE, Interface("v10", 9, True, "vlan", lower="eth1")),
            "bridge-ports",
        ),
        (MGMT, machine(replace(NIC, forwarding=True), replace(NIC2, forwarding=True)), "forwarding"),
        (OFFICE, machine(replace(NIC, forwarding=True), replace(NIC2, forwarding=True)), "forwarding"),
    ],
)
def test_refused_and_overridden_by_a_reason_only(binding: Binding, on: Machine, rule: str) -> None:
    others = [b for b in (MGMT, OFFICE) if b.network != binding.network]
    refusals = check_binding(binding, others, on, {})
    assert [r.rule for r in refusals] == [rule]
    assert rule in RULES
    assert "\n" not in str(refusals[0])
    assert binding.network in str(refusals[0])
    assert [r.rule for r in check_binding(binding, others, on, {rule: "  "})] == [rule]
    assert check_binding(binding, others, on, {rule: "the lab has one switch"}) == []


def test_what_is_no_reason_to_refuse() -> None:
    assert rules(replace(MGMT, bridge_ports=("tap0", "eth5")), machine(BRIDGE)) == []
    assert rules(OFFICE, machine(replace(BRIDGE, name="eth2"), default="eth2")) == []
    assert rules(MGMT, machine(replace(NIC, forwarding=True), NIC2), OFFICE) == []
    both = machine(replace(NIC, forwarding=True), replace(NIC2, forwarding=True))
    assert rules(MGMT, both, replace(OFFICE, role=Role.MANAGEMENT)) == []
    assert rules(MGMT, machine()) == []


def test_a_loop_of_lower_interfaces_ends() -> None:
    a, b = Interface("eth1", 2, True, "vlan", lower="eth2"), Interface("eth2", 3, True, "vlan", lower="eth1")
    assert rules(MGMT, machine(a, b)) == []


def test_address_of() -> None:
    auto = replace(MGMT, address=None)
    assert address_of(machine(NIC), auto) == IPv4Address("192.0.2.1")
    assert address_of(machine(NIC), MGMT) == IPv4Address("192.0.2.1")
    two = replace(NIC, addresses=(*NIC.addresses, IPv4Interface("192.0.2.9/24")))
    for on, fact in [
        (machine(), "there is no interface eth1"),
        (machine(replace(NIC, up=False)), "eth1 is down"),
        (machine(replace(NIC, addresses=())), "eth1 has no IPv4 addresses"),
        (machine(two), "eth1 has 2 IPv4 addresses"),
    ]:
        with pytest.raises(Unavailable, match=fact):
            address_of(on, auto)
    with pytest.raises(Unavailable, match=r"does not have 192\.0\.2\.1"):
        address_of(machine(replace(NIC, addresses=())), MGMT)


@pytest.mark.integration
@isolated
def test_look_sees_what_the_kernel_has() -> None:
    with lan("eth1", "192.0.2.1/24", "192.0.2.7/24"):
        sh("ip link add br0 type bridge && ip tuntap add tap7 mode tap && ip link set tap7 master br0")
        sh("ip addr add 198.51.100.1/24 dev br0 && ip link set br0 up && ip link set tap7 up")
        sh("ip link add link br0 name mv0 type macvlan && ip route add default via 192.0.2.254")
        sh("echo 1 >/proc/sys/net/ipv4/conf/br0/forwarding; echo 0 >/proc/sys/net/ipv4/conf/eth1/forwarding")
        seen = look()
        eth1, br0 = seen.interfaces["eth1"], seen.interfaces["br0"]
        assert (eth1.kind, eth1.up, eth1.addresses) == ("veth", True, (IPv4Interface("192.0.2.1/24"),))
        assert (br0.kind, br0.ports, br0.forwarding, eth1.forwarding) == ("bridge", ("tap7",), True, False)
        assert seen.interfaces["tap7"].bridge == "br0"
        assert seen.interfaces["mv0"].lower == "br0"
        assert (eth1.lower, seen.default_routes) == (None, frozenset({"eth1"}))
        assert rules(Binding("m", Role.MANAGEMENT, "mv0"), seen) == ["bridge-ports"]
        sh("ip route replace default nexthop via 192.0.2.254 nexthop via 198.51.100.254")
        assert look().default_routes == {"eth1", "br0"}
