"""Which interface may serve which network; the kernel's side in namespaces."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface

import pytest

from provision.boot import Role
from provision.errors import Unavailable
from provision.net.interfaces import Binding, Interface, Link, Machine, address_of, look
from provision.net.rules import Stack, check_binding, objection, stack_of
from provision.settings import RULES
from tests.helpers.netns import isolated, lan, sh

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


MACVLAN = Interface("mv0", 7, True, "macvlan", lower="eth1", mac="52:54:00:00:00:33")
GUESTS = Interface("virbr0", 8, True, "bridge", addresses=(IPv4Interface("192.168.122.1/24"),))
VRF = Interface("red", 9, True, "vrf")


@pytest.mark.parametrize(
    ("on", "rule", "said"),
    [
        (machine(NIC, MACVLAN), "shared-nic", "mv0 is a macvlan over eth1"),
        (machine(NIC, replace(MACVLAN, kind="ipvlan", up=False)), "shared-nic", "mv0 is a ipvlan"),
        (machine(NIC, replace(MACVLAN, kind="macvtap")), "shared-nic", "ip link del mv0"),
        (machine(replace(NIC, stations=(MACVLAN.mac,))), "shared-nic", "in another namespace"),
        (machine(replace(NIC, kind="macvlan", elsewhere=True)), "shared-nic", "cannot be seen"),
        (machine(replace(NIC, kind="vrf")), "vrf", "hears every NIC"),
        (machine(replace(NIC, bridge="red"), VRF), "vrf", "ip link set eth1 nomaster"),
        (machine(replace(NIC, forwarding=True), replace(GUESTS, forwarding=True)), "forwarding", "it and virbr0;"),
        (
            machine(replace(NIC, forwarding=True), replace(NIC2, name="eth9", bridge="red", forwarding=True), VRF),
            "forwarding",
            "between it and eth9;",
        ),
        (
            machine(replace(NIC, forwarding6=True), replace(GUESTS, forwarding6=True)),
            "forwarding",
            "sysctl net.ipv6.conf.eth1.disable_ipv6=1",
        ),
        (
            machine(replace(NIC, kind="bond", ports=("tap0",)), Interface("tap0", 5, True, "tun")),
            "bridge-ports",
            "tap0",
        ),
    ],
)
def test_what_else_is_refused(on: Machine, rule: str, said: str) -> None:
    (refusal,) = check_binding(MGMT, [], on, {})
    assert refusal.rule == rule and said in str(refusal) and rule in RULES
    assert check_binding(MGMT, [], on, {rule: "we have looked at it"}) == []
    assert check_binding(replace(MGMT, role=Role.GENERAL), [], on, {}) == [], "secrets never go there anyway"


def test_a_macvlan_below_a_vlan_counts() -> None:
    on = machine(NIC, Interface("eth1.10", 9, True, "vlan", lower="eth1", vlan=10), MACVLAN)
    assert rules(replace(MGMT, interface="eth1.10"), on) == ["shared-nic"]
    assert rules(MGMT, machine(NIC, replace(MACVLAN, lower="eth2"), NIC2)) == []


def test_what_is_no_forwarding() -> None:
    own = replace(NIC, forwarding=True, forwarding6=True)
    for there in (
        Interface("lo", 1, True, loopback=True, forwarding=True, forwarding6=True),
        replace(GUESTS, up=False, forwarding=True, forwarding6=True),
        replace(GUESTS, forwarding=False, forwarding6=False),
    ):
        assert rules(MGMT, machine(own, there)) == []
    port = Interface("eth5", 5, True, bridge="eth1", forwarding=True, forwarding6=True)
    bridge = replace(own, kind="bridge", ports=("eth5",))
    assert rules(replace(MGMT, bridge_ports=("eth5",)), machine(bridge, port)) == []
    taps = [Interface(f"tap{n}", 20 + n, True, "tun", forwarding=True) for n in range(9)]
    (refusal,) = check_binding(MGMT, [], machine(own, *taps), {})
    assert "tap0, tap1, tap2 and 6 more" in refusal.fact


def test_what_one_link_breaks() -> None:
    bridge = replace(NIC, kind="bridge", ports=("eth5",))
    on, binding = machine(bridge, Interface("eth5", 5, True, bridge="eth1")), replace(MGMT, bridge_ports=("eth5",))
    stack = stack_of(binding, on, {})
    assert stack == Stack(frozenset({2}), frozenset({2}), frozenset({"eth5"}), bridge=2)
    joins = Link("vnet0", 9, "tun", master=2)
    assert "vnet0 has joined" in (objection(joins, stack) or "")
    assert objection(replace(joins, master=3), stack) is None
    assert objection(replace(joins, name="eth5"), stack) is None
    assert "macvlan" in (objection(Link("mv0", 9, "macvlan", lower=2), stack) or "")
    assert objection(Link("eth1.5", 9, "vlan", lower=2), stack) is None
    assert objection(Link("eth1", 2, "bridge"), stack) is None
    assert stack.allows("eth5") and not stack.allows("vnet0") and not stack.allows(None)
    free = stack_of(binding, on, {"bridge-ports": "a laboratory only", "shared-nic": "a laboratory only"})
    assert objection(joins, free) is objection(Link("mv0", 9, "macvlan", lower=2), free) is None
    assert free.allows("vnet0") and not free.allows(None)
    assert stack_of(replace(binding, role=Role.GENERAL), on, {}) == Stack()
    assert stack_of(MGMT, machine(NIC), {}) == Stack(frozenset({2}))


def test_the_vlan_in_which_a_mac_is_learned() -> None:
    plain, filtering = replace(NIC, kind="bridge"), replace(NIC, kind="bridge", vlan=1)
    tagged = Interface("eth1.10", 9, True, "vlan", lower="eth1", vlan=10)
    over = replace(MGMT, interface="eth1.10")
    found = [stack_of(b, machine(on, tagged), {}).vlan for on in (plain, filtering, NIC) for b in (MGMT, over)]
    assert found == [0, 0, 1, 10, 0, 0]
    assert stack_of(over, machine(filtering, tagged), {}).bridge == 2


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
