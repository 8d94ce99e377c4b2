from __future__ import annotations

import pytest

from tests.helpers.inventory_samples import HOSTS, SITE, host, lines, said

MAC = "mac: 52:54:00:00:00:09"
MACS = "macs: [52:54:00:00:00:09, 52:54:00:00:00:0a]"
MGMT = f"{{{MAC}, network: mgmt, addressing: dhcp}}"
OTHER = "mac: 52:54:00:00:00:0b"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{{{MAC}, vlan: 5, bridge: n}}", "n.bridge: the name 'n' is taken"),
        (f"{{{MAC}, network: mgmt, addressing: dhcp, bridge: br0}}", "'br0' on the management network 'mgmt'"),
        (f"{{{MAC}, network: mgmt, addressing: dhcp, vlan: 10, bridge: br0}}", "'br0' on the management network"),
        (f"{{{MAC}, vlan: 10, bridge: br0}}", "n.bridge: puts the guests of 'br0' on VLAN 10, the management LAN"),
    ],
)
def test_one_interface(text: str, words: str) -> None:
    (found,) = said(n=text)
    assert words in found


def test_guests_stay_off_a_management_lans_tag_whatever_network_the_interface_names() -> None:
    site = SITE.replace("gateway6: fe80::1\n      vlan: 20\n", "gateway6: fe80::1\n")
    (found,) = lines(site, host(n=f"{{{MAC}, network: office, addressing: dhcp, vlan: 10, bridge: br0}}"))
    assert "n.bridge: puts the guests of 'br0' on VLAN 10, the management LAN 'mgmt'; take another VLAN" in found
    untagged = SITE.replace("      vlan: 10\n", "")
    (found,) = lines(untagged, host(n=f"{{{MAC}, network: mgmt, addressing: dhcp, vlan: 10, bridge: br0}}"))
    assert "n.bridge: puts the guests of 'br0' on the management network 'mgmt'" in found


def test_several_interfaces_may_share_nics_by_tag() -> None:
    assert said(m=MGMT, a=f"{{{MAC}, vlan: 20, bridge: br-a}}", b=f"{{{MAC}, vlan: 21, bridge: br-b}}") == []
    bond = f"{{{MACS}, bond: active-backup, vlan: "
    assert said(a=f"{bond}20}}", b=f"{bond}21}}", c=f"{{{MACS}, bond: active-backup}}") == []


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (f"{{{MAC}}}", "n.macs: is a second untagged connection on the NICs of 'm'"),
        (f"{{{MACS}, bond: 802.3ad, vlan: 20}}", "n.macs: shares only a part of its NICs or no bond with 'm'"),
    ],
)
def test_sharing_a_nic_wrongly(second: str, words: str) -> None:
    (found,) = said(m=MGMT, n=second)
    assert words in found


def test_the_same_tag_twice_and_the_same_bridge_twice() -> None:
    (tag,) = said(a=f"{{{MAC}, vlan: 20}}", b=f"{{{MAC}, vlan: 20}}")
    assert "b.vlan: VLAN 20 is already used by 'a' on the same NICs" in tag
    (bridge,) = said(a=f"{{{MAC}, vlan: 20, bridge: br}}", b=f"{{{OTHER}, vlan: 20, bridge: br}}")
    assert "b.bridge: the name 'br' is taken by another device" in bridge


@pytest.mark.parametrize("name", ["eth0", "eno1", "enp3s0f1", "ens3", "enx525400000001"])
def test_devices_are_never_named_like_nics(name: str) -> None:
    assert "is the name of a NIC" in said(a=f"{{{MAC}, bridge: {name}}}")[0]
    assert "is the name of a NIC" in said(**{name: f"{{{MAC}, vlan: 5}}"})[0]
    assert said(**{name: f"{{{MAC}}}"}) == []


def test_a_nic_has_no_smaller_mtu_than_a_vlan_on_it() -> None:
    vlan = f"{{{MAC}, vlan: 20, mtu: 9000}}"
    (found,) = said(a=f"{{{MAC}, mtu: 1500}}", b=vlan)
    assert "a.mtu: 1500 is less than the 9000 that the VLAN 'b' on the same NIC needs; leave it out" in found
    for fine in (f"{{{MAC}}}", f"{{{MAC}, mtu: 9000}}", f"{{{OTHER}, mtu: 1500}}", f"{{{MAC}, mtu: 1500, bridge: br}}"):
        assert said(a=fine, b=vlan) == []


@pytest.mark.parametrize("name", ["all", "default", "lo"])
def test_names_that_the_kernel_keeps(name: str) -> None:
    words = f"the kernel keeps the name '{name}' for itself; choose another"
    assert said(a=f"{{{MAC}, bridge: {name}}}") == [f"a.bridge: {words}"]
    assert said(**{name: f"{{{MAC}, vlan: 5}}"}) == said(**{name: f"{{{MAC}}}"}) == [f"{name}: {words}"]


def test_a_bond_of_vlans_only_has_a_name_of_its_own() -> None:
    bond = f"{{{MACS}, bond: 802.3ad"
    assert "device 'bond1'" in said(a=f"{bond}, vlan: 5}}", b=f"{{{OTHER}, bridge: bond1}}")[0]
    assert said(a=f"{bond}, vlan: 5}}", bond0=f"{bond}}}") == []


def test_a_guest_bridge_untagged_on_the_nic_that_boots() -> None:
    wrong = said(m=MGMT, g=f"{{{MAC}, bridge: br-g}}")
    assert any(
        "g.bridge: puts the guests of 'br-g' untagged on the NIC that is connected to 'mgmt'" in w for w in wrong
    )
    tagged = f"{{{MAC}, network: mgmt, addressing: dhcp, vlan: 10}}"
    (only,) = said(m=tagged, g=f"{{{MAC}, bridge: br-g}}")
    assert "g.bridge: puts the guests" in only
    member = said(m=MGMT, g="{macs: [52:54:00:00:00:09, 52:54:00:00:00:0c], bond: 802.3ad, bridge: br-g}")
    assert any("g.bridge: puts the guests" in w for w in member)
    assert said(m=MGMT, g=f"{{{OTHER}, bridge: br-g}}") == []
    assert said(m=MGMT, g=f"{{{MAC}, vlan: 30, bridge: br-g}}") == []


def test_guests_could_tag_their_frames_themselves_on_the_nic_of_tagged_management() -> None:
    interfaces = {"m": f"{{{MAC}, network: mgmt, addressing: dhcp, vlan: 10}}", "g": f"{{{MAC}, bridge: br-g}}"}
    (only,) = lines(SITE, host(**interfaces) + "    netboot: never\n")
    assert "g.bridge: puts the guests of 'br-g' untagged on the NIC that is connected to 'mgmt'" in only


def test_an_inherited_bridge_is_said_where_it_stands() -> None:
    site = SITE + "  groups:\n    g:\n      interfaces:\n        mgmt:\n          bridge: br-g\n"
    hosts = HOSTS.replace("  node2:", "    groups: [g]\n  node2:")
    assert lines(site, hosts)[0].startswith("a.yaml:25: hosts.node1.interfaces.mgmt.bridge: puts the guests")


@pytest.mark.parametrize("name", ["dummy0", "tunl0", "sit0", "ip6tnl0", "virbr0", "vnet3"])
def test_devices_that_others_make(name: str) -> None:
    nic = "mac: '52:54:00:00:09:01', network: office, addressing: dhcp"
    assert lines(SITE, host(a=f"{{{nic}, vlan: 20, bridge: {name}}}"))[0].endswith(
        f"a.bridge: the kernel or libvirt makes devices of names such as '{name}' by itself; "
        "choose another, such as 'br-guests'"
    )
    assert lines(SITE, host(**{name: f"{{{nic}}}"})) == [], "the name of an interface on a NIC is no device's"


def test_nics_are_on_a_network_once() -> None:
    site = SITE.replace("      vlan: 20\n", "")
    nic = "mac: '52:54:00:00:09:01', network: office, addressing: dhcp"
    (found,) = lines(site, host(a=f"{{{nic}}}", b=f"{{{nic}, vlan: 9}}"))
    assert "b.network: the same NICs are on network 'office' by 'a' already, with another VLAN" in found
    other = nic.replace(":01'", ":02'")
    assert lines(site, host(a=f"{{{nic}}}", b=f"{{{other}, vlan: 9}}")) == [], "two NICs may be, by one port each"
