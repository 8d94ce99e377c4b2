"""systemd-networkd files, parsed back as systemd reads them."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provision.errors import Invalid
from provision.host import Addressing, Host, Interface, Route
from provision.render import networkd
from provision.site import Site
from tests.helpers.rendering import HOSTS, SITE, SMUGGLED, golden, host, interface_names, nic

MGMT_STATIC = {"addressing": "static", "ipv4": "10.20.0.7"}
Sections = list[tuple[str, list[tuple[str, str]]]]


def parse(text: bytes) -> Sections:
    """Every section in order with its assignments; anything else fails the test."""
    sections: Sections = []
    for line in text.decode("ascii").splitlines():
        if line.startswith("["):
            assert line.endswith("]")
            sections.append((line[1:-1], []))
        elif line:
            key, equals, value = line.partition("=")
            assert equals and key.isalnum() and value and "%" not in value, line
            sections[-1][1].append((key, value))
    return sections


def addresses(text: bytes) -> list[str]:
    """The static addresses, wherever they stand."""
    return values(text, "Network", "Address") + values(text, "Address", "Address")


def values(text: bytes, section: str, key: str) -> list[str]:
    return [v for name, pairs in parse(text) if name == section for k, v in pairs if k == key]


@pytest.mark.parametrize("name", HOSTS)
def test_golden(name: str) -> None:
    files = networkd.files(HOSTS[name], SITE)
    text = b"".join(b"# " + path.encode() + b"\n" + data + b"\n" for path, data in sorted(files.items()))
    golden(f"networkd/{name}.txt", text)


def test_a_dhcp_host_is_known_by_its_mac() -> None:
    text = networkd.files(HOSTS["dhcp"], SITE)["10-mgmt.network"]
    assert values(text, "Match", "PermanentMACAddress") == [nic(7)]
    assert values(text, "Network", "DHCP") == ["yes"]
    assert values(text, "DHCPv4", "ClientIdentifier") == ["mac"]
    assert values(text, "Network", "Address") == []


def test_dhcp_without_an_ipv6_prefix_asks_for_ipv4_only() -> None:
    text = networkd.files(host(office={"macs": (nic(7),), "network": "office", "addressing": "dhcp"}), SITE)
    assert values(text["10-office.network"], "Network", "DHCP") == ["ipv4"]
    assert values(text["10-office.network"], "Network", "IPv6AcceptRA") == ["no"]


def test_a_static_host_takes_nothing_from_the_wire() -> None:
    text = networkd.files(HOSTS["static"], SITE)["10-mgmt.network"]
    assert values(text, "Network", "Address") == ["10.20.0.7/16", "2001:db8:20::7/64"]
    assert values(text, "Network", "IPv6AcceptRA") == ["no"]
    assert values(text, "Network", "DHCP") == []
    assert values(text, "Route", "Destination") == ["203.0.113.0/24", "2001:db8:99::/48"]
    assert values(text, "Route", "Gateway") == ["10.20.0.1", "2001:db8:20::1", "10.20.0.9", "2001:db8:20::9"]


def test_the_first_gateway_wins_and_only_the_first_interface_is_waited_for() -> None:
    office = {"macs": (nic(8),), "network": "office", "addressing": "static", "ipv4": "192.0.2.7"}
    files = networkd.files(host(mgmt=HOSTS["static"].primary, office=office), SITE)
    assert set(values(files["10-mgmt.network"], "Route", "Metric")) == {"100"}
    assert values(files["10-office.network"], "Route", "Metric") == ["200"]
    assert values(files["10-mgmt.network"], "Link", "RequiredForOnline") == ["routable"]
    assert values(files["10-office.network"], "Link", "RequiredForOnline") == ["no"]


def test_a_bond_carries_vlans_and_bridges() -> None:
    files = networkd.files(HOSTS["hypervisor"], SITE)
    assert values(files["05-mgmt-ports.network"], "Match", "PermanentMACAddress") == [f"{nic(1)} {nic(2)}"]
    assert values(files["05-mgmt-ports.network"], "Network", "Bond") == ["mgmt"]
    assert values(files["10-mgmt.netdev"], "Bond", "Mode") == ["802.3ad"]
    assert values(files["10-mgmt.network"], "Network", "VLAN") == ["office", "storage"]
    assert values(files["20-office.netdev"], "VLAN", "Id") == ["30"]
    assert values(files["20-office.network"], "Network", "Bridge") == ["br-office"]
    assert values(files["20-office.network"], "Network", "DHCP") == []
    assert values(files["30-br-office.network"], "Network", "DHCP") == ["ipv4"]


def test_a_large_mtu_reaches_every_device_below_and_no_device_beside() -> None:
    files = networkd.files(HOSTS["hypervisor"], SITE)
    mtus = {name: values(text, "Link", "MTUBytes") for name, text in files.items() if name.endswith(".network")}
    assert {name for name, mtu in mtus.items() if mtu == ["9000"]} == {
        "05-mgmt-ports.network",
        "10-mgmt.network",
        "20-storage.network",
    }
    assert mtus["20-office.network"] == mtus["30-br-office.network"] == ["1500"]
    assert mtus["10-guests.network"] == []


def test_a_bridge_for_guests_gives_this_host_no_address() -> None:
    files = networkd.files(HOSTS["hypervisor"], SITE)
    for name in ("10-guests.network", "30-br-guests.network"):
        assert values(files[name], "Network", "LinkLocalAddressing") == ["no"]
        assert values(files[name], "Network", "IPv6AcceptRA") == ["no"]
        assert values(files[name], "Network", "Address") == values(files[name], "Network", "DHCP") == []


def test_a_bond_with_tagged_interfaces_only_gets_a_name_of_its_own() -> None:
    files = networkd.files(HOSTS["tagged"], SITE)
    assert values(files["10-bond0.network"], "Network", "VLAN") == ["mgmt", "guests"]
    assert values(files["10-bond0.network"], "Network", "LinkLocalAddressing") == ["no"]
    assert values(files["20-mgmt.network"], "Network", "Address") == ["10.20.0.7/16"]


BONDED: dict[str, Any] = {"macs": (nic(4), nic(5)), "bond": "802.3ad"}


@pytest.mark.parametrize(
    ("mode", "options", "written"),
    [
        ("active-backup", {}, {}),
        ("balance-tlb", {}, {}),
        ("balance-alb", {}, {}),
        ("balance-tlb", {"hash_policy": "layer2+3"}, {"TransmitHashPolicy": "layer2+3"}),
        ("balance-xor", {}, {"TransmitHashPolicy": "layer3+4"}),
        ("802.3ad", {}, {"TransmitHashPolicy": "layer3+4", "LACPTransmitRate": "fast"}),
        (
            "802.3ad",
            {"lacp_rate": "slow", "hash_policy": "encap2+3", "min_links": 2},
            {"TransmitHashPolicy": "encap2+3", "LACPTransmitRate": "slow", "MinLinks": "2"},
        ),
    ],
)
def test_a_bond_has_the_options_of_its_mode(mode: str, options: dict[str, Any], written: dict[str, str]) -> None:
    text = networkd.files(host(a=BONDED | {"bond": mode, "bond_options": options}), SITE)["10-a.netdev"]
    found = {key: value for name, pairs in parse(text) if name == "Bond" for key, value in pairs}
    assert found == {"Mode": mode, "MIIMonitorSec": "100ms", **written}


def test_a_bridge_that_keeps_vlans_apart_takes_the_listed_ones_from_its_port_and_nothing_untagged() -> None:
    guests = BONDED | {"bridge": "br0", "bridge_vlans": ("100", "110-139")}
    files = networkd.files(host(guests=guests, office=BONDED | {"vlan": 30, "bridge": "br1"}), SITE)
    assert values(files["30-br0.netdev"], "Bridge", "VLANFiltering") == ["yes"]
    assert values(files["30-br0.netdev"], "Bridge", "DefaultPVID") == ["none"]
    assert values(files["10-guests.network"], "Network", "Bridge") == ["br0"]
    assert values(files["10-guests.network"], "Network", "VLAN") == ["office"]
    assert values(files["10-guests.network"], "BridgeVLAN", "VLAN") == ["100", "110-139"]
    assert values(files["30-br0.network"], "BridgeVLAN", "VLAN") == []
    assert values(files["30-br1.netdev"], "Bridge", "VLANFiltering") == []
    assert values(files["20-office.network"], "BridgeVLAN", "VLAN") == []


def network(**values: Any) -> Site:
    """The site with one more network."""
    return Site.model_validate(
        {"domain": "example.org", "search": ["a.test"], "networks": {"n": {"role": "general", **values}}}
    )


STATIC: dict[str, Any] = {"macs": (nic(7),), "network": "n", "addressing": "static", "ipv4": "192.0.2.11"}


@pytest.mark.parametrize(
    ("site", "onlink"),
    [
        (network(prefix="192.0.2.0/24", gateway="192.0.2.1"), []),
        (network(prefix="192.0.2.0/24", gateway="192.0.2.1", gateway_onlink="true"), []),
        (network(prefix="192.0.2.0/24", gateway="169.254.0.1"), ["yes"]),
        (network(prefix="192.0.2.11/32", gateway="203.0.113.1"), ["yes"]),
        (network(prefix="192.0.2.0/24", gateway="203.0.113.1", gateway_onlink="true"), ["yes"]),
    ],
)
def test_a_gateway_that_no_prefix_has_is_on_the_link(site: Site, onlink: list[str]) -> None:
    text = networkd.files(host(a=STATIC), site)["10-a.network"]
    assert values(text, "Route", "Gateway") == [str(site.networks["n"].gateway)]
    assert values(text, "Route", "GatewayOnLink") == onlink


def test_routes_of_a_device_and_metrics() -> None:
    routes = [
        {"to": "198.51.100.0/24"},
        {"to": "2001:db8:9::/48"},
        {"to": "198.18.0.0/15", "via": "203.0.113.9", "onlink": "true", "metric": "7"},
        {"to": "198.20.0.0/15", "via": "169.254.0.9"},
    ]
    site = network(prefix="192.0.2.0/24", prefix6="2001:db8::/64")
    text = networkd.files(host(a=STATIC | {"metric": 50, "routes": routes, "ipv6": "2001:db8::9"}), site)[
        "10-a.network"
    ]
    assert [dict(pairs) for name, pairs in parse(text) if name == "Route"] == [
        {"Destination": "198.51.100.0/24", "Scope": "link", "Metric": "50"},
        {"Destination": "2001:db8:9::/48", "Metric": "50"},
        {"Destination": "198.18.0.0/15", "Gateway": "203.0.113.9", "GatewayOnLink": "yes", "Metric": "7"},
        {"Destination": "198.20.0.0/15", "Gateway": "169.254.0.9", "GatewayOnLink": "yes", "Metric": "50"},
    ]


@pytest.mark.parametrize(("way", "dhcp", "client"), [("slaac", [], "no"), ("dhcp", ["ipv6"], "always")])
def test_static_ipv4_beside_learned_ipv6(way: str, dhcp: list[str], client: str) -> None:
    site = network(prefix="192.0.2.0/24", prefix6="2001:db8::/64", gateway6="fe80::1")
    text = networkd.files(host(a=STATIC | {"ipv6_addressing": way}), site)["10-a.network"]
    assert values(text, "Network", "Address") == ["192.0.2.11/24"]
    assert values(text, "Network", "DHCP") == dhcp
    assert values(text, "Network", "IPv6AcceptRA") == ["yes"]
    assert values(text, "Network", "LinkLocalAddressing") == ["ipv6"]
    assert values(text, "IPv6AcceptRA", "DHCPv6Client") == [client]
    assert values(text, "IPv6AcceptRA", "RouteMetric") == ["100"]
    assert values(text, "Route", "Gateway") == [], "the router says itself that it is one"
    assert values(text, "DHCPv4", "ClientIdentifier") == []


def test_ipv6_only() -> None:
    site = network(prefix6="2001:db8::/64", gateway6="fe80::1")
    dhcp = networkd.files(host(a={"macs": (nic(7),), "network": "n", "addressing": "dhcp"}), site)["10-a.network"]
    assert values(dhcp, "Network", "DHCP") == values(dhcp, "Link", "RequiredFamilyForOnline") == ["ipv6"]
    assert values(dhcp, "Network", "IPv6AcceptRA") == ["yes"], "it says whether there is DHCPv6, and who routes"
    assert values(dhcp, "DHCPv4", "ClientIdentifier") == []
    static = {"macs": (nic(7),), "network": "n", "addressing": "static", "ipv6": "2001:db8::9"}
    text = networkd.files(host(a=static), site)["10-a.network"]
    assert values(text, "Network", "Address") == ["2001:db8::9/64"]
    assert values(text, "Route", "Gateway") == ["fe80::1"]


def test_domains_that_are_searched() -> None:
    site = network(prefix="192.0.2.0/24")
    dhcp = {"macs": (nic(7),), "network": "n", "addressing": "dhcp"}
    assert values(networkd.files(host(a=STATIC), site)["10-a.network"], "Network", "Domains") == ["example.org a.test"]
    assert values(networkd.files(host(a=dhcp), site)["10-a.network"], "Network", "Domains") == ["a.test"]


def test_one_nic_with_tagged_interfaces_only_needs_no_device() -> None:
    tagged = {"macs": (nic(4),), "network": "mgmt", "addressing": "static"}
    files = networkd.files(host(a=tagged | {"vlan": 20, "ipv4": "10.20.0.7"}, b={"macs": (nic(4),), "vlan": 9}), SITE)
    assert set(files) == {"10-a-port.network", "20-a.netdev", "20-a.network", "20-b.netdev", "20-b.network"}
    assert values(files["10-a-port.network"], "Network", "VLAN") == ["a", "b"]


def test_an_untagged_interface_keeps_its_file_from_a_nic_that_no_interface_names() -> None:
    tagged = {"macs": (nic(4),), "vlan": 10, "network": "mgmt", "addressing": "static", "ipv4": "10.20.0.7"}
    interfaces: dict[str, Any] = {"mgmt": tagged, "mgmt-port": {"macs": (nic(5),)}}
    files = networkd.files(host(**interfaces), SITE)
    assert values(files["10-mgmt-port.network"], "Match", "PermanentMACAddress") == [nic(5)]
    assert values(files["10-mgmt_port.network"], "Match", "PermanentMACAddress") == [nic(4)]
    assert values(files["10-mgmt_port.network"], "Network", "VLAN") == ["mgmt"]


def test_an_untagged_interface_keeps_its_file_from_a_bond_that_no_interface_names() -> None:
    tagged = {"macs": (nic(4), nic(5)), "bond": "active-backup", "vlan": 9}
    files = networkd.files(host(bond1={"macs": (nic(6),)}, a=tagged), SITE)
    assert values(files["10-bond1.network"], "Match", "PermanentMACAddress") == [nic(6)]
    assert values(files["10-bond_1.network"], "Network", "VLAN") == ["a"]
    assert values(files["10-bond_1.netdev"], "NetDev", "Name") == ["bond_1"]
    assert values(files["05-bond_1-ports.network"], "Network", "Bond") == ["bond_1"]


def test_two_devices_of_one_name_are_refused() -> None:
    with pytest.raises(Invalid, match="node7: two network devices would be called br0"):
        networkd.files(host(a={"macs": (nic(4),), "bridge": "br0"}, b={"macs": (nic(5),), "bridge": "br0"}), SITE)


def test_two_untagged_interfaces_on_one_nic_are_refused() -> None:
    with pytest.raises(Invalid, match="node7: a and b are both untagged on the same NIC"):
        networkd.files(host(a={"macs": (nic(4),)}, b={"macs": (nic(4),)}), SITE)


@st.composite
def hosts(draw: st.DrawFn) -> Host:
    """Any host of up to five interfaces on up to three NICs or bonds."""
    awkward = st.sampled_from(["a", "a-port", "a-port-port", "bond0", "bond1", "bond2"])
    keys = draw(st.lists(interface_names | awkward, min_size=1, max_size=5, unique=True))
    interfaces: dict[str, Any] = {}
    for number, key in enumerate(keys):
        port = draw(st.integers(0, 2))
        bonded = port == 2
        given: dict[str, Any] = {"macs": (nic(20), nic(21)) if bonded else (nic(port),)}
        given |= {"bond": "active-backup"} if bonded else {}
        given["vlan"] = draw(st.none() | st.integers(1, 4094))
        given["mtu"] = draw(st.none() | st.integers(1280, 9216))
        given["bridge"] = draw(st.sampled_from([None, f"br-{number}"]))
        if draw(st.booleans()):
            given |= {"network": "mgmt", "addressing": "static", "ipv4": f"10.20.1.{number}"}
            given["ipv6"] = draw(st.none() | st.just(f"2001:db8:20::{number + 1}"))
            given["routes"] = draw(
                st.lists(st.integers(0, 255).map(lambda n: {"to": f"203.0.{n}.0/24", "via": "10.20.0.9"}), max_size=2)
            )
        interfaces[key] = given
    return host(**interfaces)


KNOWN = {
    "Match": {"PermanentMACAddress", "Name"},
    "Link": {"MTUBytes", "RequiredForOnline", "RequiredFamilyForOnline"},
    "Network": {"Bond", "Bridge", "VLAN", "Address", "DNS", "Domains", "NTP", "LinkLocalAddressing", "IPv6AcceptRA"},
    "Address": {"Address", "RouteMetric"},
    "Route": {"Gateway", "Destination", "Metric"},
    "NetDev": {"Name", "Kind", "MACAddress", "MTUBytes"},
    "VLAN": {"Id"},
    "Bond": {"Mode", "MIIMonitorSec"},
    "Bridge": {"STP", "ForwardDelaySec"},
}


@given(hosts())
def test_no_valid_host_adds_a_section_or_an_option(subject: Host) -> None:
    try:
        files = networkd.files(subject, SITE)
    except Invalid as error:
        assert "two network devices" in str(error) or "both untagged" in str(error)
        return
    links = networkd.plan(subject, SITE)
    assert len(files) == len(links) + sum(1 for link in links if link.kind), "no file replaces another"
    for text in files.values():
        for section, pairs in parse(text):
            assert {key for key, _ in pairs} <= KNOWN[section]
    networks = [text for name, text in files.items() if name.endswith(".network")]
    found = Counter(address for t in networks for address in addresses(t))
    wanted = Counter(
        f"{address}/{length}"
        for interface in subject.interfaces.values()
        for address, length in ((interface.ipv4, 16), (interface.ipv6, 64))
        if address is not None
    )
    assert found == wanted


@pytest.mark.parametrize("value", SMUGGLED)
def test_smuggled_values_are_refused(value: str) -> None:
    primary = HOSTS["static"].primary
    evil: list[tuple[Host, Site]] = [
        (host(mgmt=primary.model_copy(update={"macs": (value,)})), SITE),
        (host(mgmt=primary.model_copy(update={"vlan": value, "macs": (nic(1),)})), SITE),
        (host(mgmt=primary.model_copy(update={"bridge": value or "\n"})), SITE),
        (host(mgmt=primary.model_copy(update={"mtu": value or "\n"})), SITE),
        (HOSTS["static"].model_copy(update={"interfaces": {value: primary.model_copy(update={"vlan": 5})}}), SITE),
        (host(mgmt=primary.model_copy(update={"routes": (Route.model_construct(to=value, via=value),)})), SITE),
        (HOSTS["static"], SITE.model_copy(update={"domain": value})),
    ]
    for subject, site in evil:
        with pytest.raises(Invalid, match=r"seed/(netdev|network)\.j2: a value holds"):
            networkd.files(subject, site)


def test_addresses_have_the_length_of_their_prefix() -> None:
    interface = Interface(
        macs=(nic(1),),
        network="mgmt",
        addressing=Addressing.STATIC,
        ipv4=IPv4Address("10.20.255.254"),
        ipv6=IPv6Address("2001:db8:20::abcd"),
    )
    text = networkd.files(host(mgmt=interface), SITE)["10-mgmt.network"]
    assert values(text, "Network", "Address") == ["10.20.255.254/16", "2001:db8:20::abcd/64"]


def test_interfaces_on_one_network_reach_it_in_their_order() -> None:
    first = {"macs": (nic(4),), "network": "office", "addressing": "static", "ipv4": "192.0.2.11"}
    second = {"macs": (nic(5),), "network": "office", "addressing": "static", "ipv4": "192.0.2.12"}
    files = networkd.files(host(a=first, b=second, c={"macs": (nic(6),), "network": "mgmt"} | MGMT_STATIC), SITE)
    for name, address, metric in (("a", "192.0.2.11/24", "100"), ("b", "192.0.2.12/24", "200")):
        text = files[f"10-{name}.network"]
        assert values(text, "Address", "Address") == [address] and values(text, "Network", "Address") == []
        assert values(text, "Address", "RouteMetric") == values(text, "Route", "Metric") == [metric]
    assert values(files["10-c.network"], "Network", "Address") == ["10.20.0.7/16"]
    assert values(files["10-c.network"], "Address", "RouteMetric") == []


def test_dhcpv6_knows_an_interface_by_its_mac() -> None:
    text = networkd.files(HOSTS["dhcp"], SITE)["10-mgmt.network"]
    assert values(text, "DHCPv6", "DUIDType") == ["link-layer"]


def test_the_bonding_module_makes_no_bond_by_itself() -> None:
    for name in ("hypervisor", "tagged"):
        assert b"options bonding max_bonds=0\n" in (networkd.module_options(HOSTS[name]) or b"")
    assert networkd.module_options(HOSTS["static"]) is None
