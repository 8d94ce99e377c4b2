from __future__ import annotations

import pytest

from tests.helpers.inventory_samples import SITE, host, lines, read, said

MAC = "mac: 52:54:00:00:00:09"
MACS = "macs: [52:54:00:00:00:09, 52:54:00:00:00:0a]"
OTHER = "mac: 52:54:00:00:00:0b"


@pytest.mark.parametrize(
    "text",
    [
        f"{{{MACS}, bond: balance-alb, network: office, addressing: dhcp}}",
        f"{{{MACS}, bond: balance-tlb, bond_options: {{hash_policy: layer2}}}}",
        f"{{{MACS}, bond: 802.3ad, bond_options: {{lacp_rate: slow, hash_policy: encap3+4, min_links: 2}}}}",
        f"{{{MAC}, bridge: br0, bridge_vlans: [11-19, 100, 4094]}}",
    ],
)
def test_what_is_right(text: str) -> None:
    assert said(n=text) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{{{MAC}, bond_options: {{min_links: 1}}}}", "n.bond_options: 'bond_options' without 'bond'"),
        (
            f"{{{MACS}, bond: balance-xor, bond_options: {{lacp_rate: fast}}}}",
            "n.bond_options.lacp_rate: 'lacp_rate' has no effect on a bond of mode balance-xor; leave it out; it goes",
        ),
        (f"{{{MACS}, bond: balance-alb, bond_options: {{hash_policy: layer2}}}}", "n.bond_options.hash_policy"),
        (f"{{{MACS}, bond: active-backup, bond_options: {{min_links: 1}}}}", "n.bond_options.min_links"),
        (f"{{{MACS}, bond: 802.3ad, bond_options: {{min_links: 3}}}}", "3 NICs must be up, and the bond has 2"),
        (f"{{{MACS}, bond: 802.3ad, bond_options: {{hash_policy: layer4}}}}", "'layer4' is not one of layer2, "),
        (f"{{{MACS}, bond: balance-alb, vlan: 30, bridge: br0}}", "n.bond: guests of bridge 'br0' would lose frames"),
        (f"{{{MAC}, bridge_vlans: [100]}}", "n.bridge_vlans: 'bridge_vlans' without 'bridge'"),
        (f"{{{MAC}, vlan: 7, bridge: br0, bridge_vlans: [100]}}", "n.bridge_vlans: 'bridge_vlans' beside 'vlan'"),
        (
            f"{{{MAC}, bridge: br0, bridge_vlans: [100], network: office, addressing: dhcp}}",
            "n.bridge_vlans: a bridge that keeps VLANs apart has no address of the host",
        ),
        (f"{{{MAC}, bridge: br0, bridge_vlans: [100-110, 105]}}", "n.bridge_vlans.1: '105' has a VLAN that stands"),
        (
            f"{{{MAC}, bridge: br0, bridge_vlans: [2-99]}}",
            "n.bridge_vlans.0: puts the guests of 'br0' on VLAN 10, the management LAN 'mgmt'; leave it out",
        ),
        (
            f"{{{MAC}, bridge: br0, bridge_vlans: [0-5]}}",
            "n.bridge_vlans.0: '0-5' is neither a VLAN nor a range of them",
        ),
        (f"{{{MAC}, bridge: br0, bridge_vlans: [9-5]}}", "n.bridge_vlans.0: '9-5' is not a range of VLANs"),
        (f"{{{MAC}, bridge: br0, bridge_vlans: [4095]}}", "n.bridge_vlans.0: '4095' is not a range of VLANs"),
    ],
)
def test_one_interface(text: str, words: str) -> None:
    (found,) = said(n=text)
    assert words in found


def test_interfaces_of_one_bond_have_the_same_options() -> None:
    bond = f"{MACS}, bond: 802.3ad"
    (found,) = said(a=f"{{{bond}, vlan: 30}}", n=f"{{{bond}, vlan: 31, bond_options: {{lacp_rate: slow}}}}")
    assert "n.macs: shares only a part of its NICs or no bond with 'a'; list the same MACs, 'bond' and" in found


def test_a_tag_goes_to_the_bridge_or_to_an_interface_of_the_host() -> None:
    aware = f"{{{MAC}, bridge: br0, bridge_vlans: [11-40]}}"
    (found,) = said(n=aware, a=f"{{{MAC}, vlan: 30}}")
    assert "n.bridge_vlans.0: VLAN 30 is already used by 'a' on the same NICs" in found
    assert said(n=aware, a=f"{{{MAC}, vlan: 50}}", b=f"{{{OTHER}, vlan: 30}}") == []


def test_a_bridge_that_keeps_vlans_apart_may_stand_on_the_nic_of_a_tagged_management_interface() -> None:
    management = f"{{{MAC}, network: mgmt, vlan: 10, addressing: dhcp}}"
    assert said(m=management, n=f"{{{MAC}, bridge: br0, bridge_vlans: [11-40]}}") == []
    (found,) = said(m=management, n=f"{{{MAC}, bridge: br0}}")
    assert "puts the guests of 'br0' untagged on the NIC that is connected to 'mgmt'" in found


def test_the_management_interface_says_which_tag_is_the_management_lans_when_the_site_does_not() -> None:
    untagged = SITE.replace("      vlan: 10\n", "")
    interfaces = {
        "m": f"{{{MAC}, network: mgmt, vlan: 10, addressing: dhcp}}",
        "n": f"{{{MAC}, bridge: br0, bridge_vlans: [2-99]}}",
    }
    (found,) = lines(untagged, host(**interfaces))
    assert "n.bridge_vlans.0: VLAN 10 is already used by 'm' on the same NICs" in found


def test_forty_guest_networks_with_a_bridge_each_on_one_bond() -> None:
    mgmt = {"mgmt": f"{{{OTHER}, network: mgmt, addressing: dhcp}}"}
    guests = {f"g{n}": f"{{{MACS}, bond: 802.3ad, vlan: {n}, bridge: br{n}}}" for n in range(100, 163)}
    assert said(**mgmt, **guests) == []
    (found,) = lines(SITE, host(**mgmt, **guests, g163=f"{{{MACS}, bond: 802.3ad, vlan: 163}}"))
    assert "node9.interfaces: has too many entries; it may have at most 64" in found


def test_each_interface_has_a_metric_of_its_own() -> None:
    static = "network: office, addressing: static, ipv4: 10.1.0"
    a, b = f"{{{MAC}, network: mgmt, addressing: dhcp}}", f"{{{OTHER}, {static}.9, metric: 100}}"
    (found,) = said(a=a, b=b)
    assert "b.metric: the routes of 'a' have the metric 100 too; give each interface one of its own" in found
    assert said(a=a, b=b.replace("100", "50")) == []
    (found,) = said(a=a.replace("dhcp", "dhcp, metric: 200"), b=f"{{{OTHER}, {static}.9}}")
    assert "a.metric: the routes of 'b' have the metric 200 too" in found
    assert "is too small; the least is 1" in said(a=a.replace("dhcp", "dhcp, metric: 0"))[0]


PORT = "80:00:02:08:fe:80:00:00:00:00:00:00:e4:1d:2d:03:00:aa:bb:01"
IB = f'mac: "{PORT}"'


def test_an_infiniband_port_beside_a_nic() -> None:
    mgmt = f"{{{MAC}, network: mgmt, addressing: dhcp}}"
    port = f"{{{IB.upper().replace('MAC', 'mac')}, network: office, addressing: static, ipv4: 10.1.0.9}}"
    found = read(SITE, host(m=mgmt, i=port)).hosts[0]
    assert found.interfaces["i"].macs == (PORT,)
    assert found.macs == ("52:54:00:00:00:09",), "nothing boots by the other"
    assert said(i=port) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            f"{{{IB}, network: mgmt, addressing: dhcp}}",
            "i.network: an InfiniBand port on the management network",
        ),
        (f"{{{IB}, vlan: 30}}", "i.vlan: 'vlan' on an InfiniBand port, which has no Ethernet"),
        (f"{{{IB}, bridge: br0}}", "i.bridge: 'bridge' on an InfiniBand port"),
        (
            f'{{macs: ["{PORT}", "{PORT[:-1]}2"], bond: active-backup}}',
            "i.bond: 'bond' on an InfiniBand port",
        ),
        (
            f'{{mac: "{PORT[-23:]}"}}',
            "is only a part of an InfiniBand port's address; give the 20 bytes",
        ),
        (f'{{mac: "20:{PORT[-23:]}"}}', "is only a part of an InfiniBand port's address"),
    ],
)
def test_what_an_infiniband_port_cannot_be(text: str, words: str) -> None:
    (found,) = said(i=text)
    assert words in found
