from __future__ import annotations

import pytest

from provision.inventory.host_rules import MAX_COMMAND_LINE
from tests.helpers.inventory_samples import SITE, host, lines, said

MAC = "mac: 52:54:00:00:00:09"
MACS = "macs: [52:54:00:00:00:09, 52:54:00:00:00:0a]"


@pytest.mark.parametrize(
    "text",
    [
        f"{{{MAC}}}",
        f"{{{MAC}, vlan: 101, bridge: br-a}}",
        f"{{{MAC}, bridge: br-a}}",
        f"{{{MACS}, bond: 802.3ad, network: office, vlan: 20, addressing: dhcp}}",
        f"{{{MAC}, network: office, addressing: static, ipv4: 10.1.0.9, ipv6: 2001:db8:1::9}}",
        f"{{{MAC}, network: office, addressing: static, ipv6: 2001:db8:1::9}}",
        f"{{{MAC}, network: office, addressing: static, ipv4: 10.1.0.9, bridge: br-office}}",
        f"{{{MAC}, network: mgmt, addressing: dhcp, reservation: 10.0.0.150}}",
        f"{{{MAC}, network: mgmt, addressing: dhcp, vlan: 10}}",
        f"{{{MAC}, network: mgmt, addressing: static, ipv4: 10.0.0.9, routes: [{{to: 10.9.0.0/16, via: 10.0.0.254}}]}}",
        f"{{{MAC}, network: office, addressing: dhcp, routes: [{{to: '2001:db8:9::/48', via: 'fe80::9'}}]}}",
        f"{{{MAC}, network: mgmt, addressing: dhcp, routes: [{{to: 10.9.0.0/16, via: 10.9.0.1, onlink: true}}]}}",
        f"{{{MAC}, network: mgmt, addressing: dhcp, routes: [{{to: 10.9.0.0/16, via: 169.254.0.1}}]}}",
        f"{{{MAC}, network: mgmt, addressing: dhcp, routes: [{{to: 10.9.0.0/16}}, {{to: 10.9.0.0/16, metric: 9}}]}}",
        f"{{{MAC}, network: mgmt, addressing: dhcp, routes: [{{to: 0.0.0.0/0, via: 10.0.0.2, metric: 900}}]}}",
        f"{{{MAC}, network: office, addressing: static, ipv4: 10.1.0.9, ipv6_addressing: slaac}}",
        f"{{{MAC}, network: office, addressing: static, ipv4: 10.1.0.9, ipv6_addressing: dhcp, "
        "routes: [{to: '2001:db8:9::/48'}]}",
    ],
)
def test_what_is_right(text: str) -> None:
    assert said(n=text) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{macs: [52:54:00:00:00:09, 52:54:00:00:00:09], bond: 802.3ad}", "n.macs: a MAC is listed twice"),
        (f"{{{MAC}, bond: 802.3ad}}", "n.bond: a bond of one NIC"),
        (f"{{{MACS}}}", "n.macs: 2 MACs without 'bond'"),
        (
            f"{{{MAC}, network: mgmt, addressing: dhcp, routes: [{{to: 10.9.0.0/16, onlink: true}}]}}",
            "n.routes.0.onlink: 'onlink' without 'via'; name the router with 'via', or leave 'onlink' out",
        ),
        (
            f"{{{MAC}, network: mgmt, addressing: dhcp, routes: [{{to: 10.9.0.0/16, via: 10.0.0.2, onlink: yes}}]}}",
            "n.routes.0.onlink: 'yes' is neither true nor false",
        ),
        (
            f"{{{MAC}, network: office, addressing: static, ipv4: 10.1.0.9, routes: [{{to: '2001:db8:9::/48'}}]}}",
            "n.routes.0.to: 2001:db8:9::/48 is out of reach: the interface has no 'ipv6'",
        ),
        (
            f"{{{MAC}, network: mgmt, addressing: static, ipv4: 10.0.0.9, ipv6_addressing: slaac}}",
            "n.ipv6_addressing: network 'mgmt' has no 'prefix6'; add it, or leave 'ipv6_addressing' out",
        ),
        (
            f"{{{MAC}, network: office, addressing: static, ipv4: 10.1.0.9, ipv6: 2001:db8:1::9, "
            "ipv6_addressing: slaac}",
            "n.ipv6_addressing: 'ipv6_addressing: slaac' beside the static address 2001:db8:1::9; keep one of them",
        ),
        (
            f"{{{MAC}, network: office, addressing: dhcp, ipv6_addressing: slaac}}",
            "n.ipv6_addressing: 'ipv6_addressing' stands beside a static address, but addressing is dhcp",
        ),
        (f"{{{MAC}, network: mgmt}}", "n.network: 'network' without 'addressing'"),
        (f"{{{MAC}, addressing: dhcp}}", "n.addressing: 'addressing' without 'network'"),
        (f"{{{MAC}, ipv4: 10.0.0.9}}", "n.ipv4: 'ipv4' without 'network' and 'addressing'"),
        (f"{{{MAC}, network: mgmt, addressing: dhcp, ipv4: 10.0.0.9}}", "n.ipv4: 'ipv4' is a static address"),
        (f"{{{MAC}, network: office, addressing: dhcp, ipv6: 2001:db8:1::9}}", "n.ipv6: 'ipv6' is a static address"),
        (f"{{{MAC}, network: mgmt, addressing: static}}", "n.addressing: static addressing without an address"),
        (
            f"{{{MAC}, network: mgmt, addressing: static, ipv4: 10.0.0.9, reservation: 10.0.0.8}}",
            "n.reservation: a DHCP reservation, but addressing is static",
        ),
        (f"{{{MAC}, network: mgnt, addressing: dhcp}}", "n.network: no network 'mgnt' is in the site; did you mean"),
        (f"{{{MAC}, network: mgmt, addressing: dhcp, vlan: 11}}", "n.vlan: VLAN 11, but network 'mgmt' has VLAN 10"),
        (f"{{{MAC}, network: mgmt, addressing: static, ipv4: 10.1.0.9}}", "n.ipv4: 10.1.0.9 is outside 10.0.0.0/24"),
        (f"{{{MAC}, network: mgmt, addressing: static, ipv4: 10.0.0.0}}", "n.ipv4: 10.0.0.0 is the network address"),
        (f"{{{MAC}, network: mgmt, addressing: static, ipv4: 10.0.0.255}}", "n.ipv4: 10.0.0.255 is the broadcast"),
        (f"{{{MAC}, network: mgmt, addressing: static, ipv4: 10.0.0.1}}", "n.ipv4: 10.0.0.1 is the gateway of network"),
        (f"{{{MAC}, network: mgmt, addressing: static, ipv4: 10.0.0.100}}", "n.ipv4: 10.0.0.100 is inside the pool"),
        (f"{{{MAC}, network: mgmt, addressing: dhcp, reservation: 10.0.1.1}}", "n.reservation: 10.0.1.1 is outside"),
        (f"{{{MAC}, network: mgmt, addressing: dhcp, reservation: 10.0.0.1}}", "n.reservation: 10.0.0.1 is the gate"),
        (f"{{{MAC}, network: mgmt, addressing: static, ipv6: 2001:db8:1::9}}", "n.ipv6: network 'mgmt' has no"),
        (f"{{{MAC}, network: office, addressing: static, ipv6: 2001:db8:2::9}}", "n.ipv6: 2001:db8:2::9 is outside"),
        (f"{{{MAC}, network: office, addressing: static, ipv6: '2001:db8:1::'}}", "the subnet-router anycast"),
        (
            f"{{{MAC}, routes: [{{to: 10.9.0.0/16, via: 10.0.0.254}}]}}",
            "n.routes: routes without 'network'",
        ),
        (
            f"{{{MAC}, network: mgmt, addressing: dhcp, routes: [{{to: 10.9.0.0/16, via: 10.9.0.1}}]}}",
            "n.routes.0.via: the router 10.9.0.1 is not on network 'mgmt'; give one inside 10.0.0.0/24",
        ),
        (
            f"{{{MAC}, network: mgmt, addressing: dhcp, routes: [{{to: 10.9.0.0/16, via: 'fe80::1'}}]}}",
            "n.routes.0.via: an IPv4 route through an IPv6 router",
        ),
        (
            f"{{{MAC}, network: mgmt, addressing: dhcp, routes: [{{to: '2001:db8::/32', via: '2001:db8::1'}}]}}",
            "n.routes.0.via: the router 2001:db8::1 is not on network 'mgmt'; add 'prefix6'",
        ),
        (
            f"{{{MAC}, network: mgmt, addressing: static, ipv4: 10.0.0.9, routes: [{{to: 10.9.0.0/16, via: 10.0.0.9}}]"
            "}",
            "n.routes.0.via: 10.0.0.9 is the host's own address",
        ),
        (
            f"{{{MAC}, network: mgmt, addressing: dhcp, routes: "
            "[{to: 10.9.0.0/16, via: 10.0.0.2}, {to: 10.9.0.0/16, via: 10.0.0.3}]}",
            "n.routes.1.to: a second route to 10.9.0.0/16 with the metric 100, beside that of 'n'",
        ),
        (
            f"{{{MAC}, network: office, addressing: static, ipv4: 10.1.0.9, "
            "routes: [{to: '2001:db8:9::/48', via: 'fe80::9'}]}",
            "n.routes.0.via: the router fe80::9 is out of reach: the interface has no 'ipv6'; add 'ipv6', or leave",
        ),
        (
            f"{{{MAC}, network: office, addressing: static, ipv6: '2001:db8:1::9', "
            "routes: [{to: 10.9.0.0/16, via: 10.1.0.2}]}",
            "n.routes.0.via: the router 10.1.0.2 is out of reach: the interface has no 'ipv4'",
        ),
        (
            f"{{{MAC}, network: mgmt, addressing: dhcp, routes: [{{to: '2001:db8:9::/48', via: 'fe80::9'}}]}}",
            "n.routes.0.via: the router fe80::9 is not on network 'mgmt'; add 'prefix6'",
        ),
        (
            f"{{{MAC}, network: office, addressing: dhcp, routes: [{{to: 0.0.0.0/0, via: 10.1.0.2}}]}}",
            "n.routes.0.to: a second route to 0.0.0.0/0 with the metric 100, beside the gateway 10.1.0.1",
        ),
        (
            f"{{{MAC}, network: office, addressing: static, ipv6: '2001:db8:1::9', "
            "routes: [{to: '::/0', via: '2001:db8:1::2'}]}",
            "n.routes.0.to: a second route to ::/0 with the metric 100, beside the gateway fe80::1 of network 'office'",
        ),
    ],
)  # fmt: skip
def test_one_interface(text: str, words: str) -> None:
    found = said(n=text)
    assert len(found) == 1, found
    assert words in found[0]


def test_a_default_route_where_the_network_has_no_gateway() -> None:
    route = f"{{{MAC}, network: mgmt, addressing: dhcp, routes: [{{to: 0.0.0.0/0, via: 10.0.0.2}}]}}"
    assert lines(SITE.replace("      gateway: 10.0.0.1\n", ""), host(n=route)) == []


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ("credentials: [keytap]", "credentials.0: no credential 'keytap' is in the site; did you mean 'keytab'?"),
        ("credentials: [keytab, keytab]", "credentials.1: credential 'keytab' is listed twice"),
        ("kernel_arguments: [initrd=x]", "kernel_arguments.0: 'initrd=' is set by the boot loader"),
        ("kernel_arguments: [a, BOOT_IMAGE=x]", "kernel_arguments.1: 'BOOT_IMAGE=' is set by the boot loader"),
        ("kernel_arguments: [bootif=x]", "kernel_arguments.0: 'bootif=' is set by the boot loader"),
        ("kernel_arguments: [ip=dhcp, ip=off]", "kernel_arguments: 'ip=' is given 2 times"),
        ("uuid: 00000000-0000-0000-0000-000000000000", "uuid: 00000000-0000-0000-0000-000000000000 is a placeholder"),
    ],
)
def test_host_fields(own: str, words: str) -> None:
    (found,) = lines(SITE, host(n=f"{{{MAC}}}") + f"    {own}\n")
    assert found.startswith(f"b.yaml:5: hosts.node9.{words}"), found


def test_a_signed_image_has_no_arguments_of_one_host() -> None:
    own = "    chain: uki\n    kernel_arguments: [quiet]\n"
    (found,) = lines(SITE, host(n=f"{{{MAC}}}") + own)
    assert "hosts.node9.kernel_arguments: a signed image ('chain: uki') has the command line of all hosts" in found
    assert lines(SITE, host(n=f"{{{MAC}}}") + own.replace("uki", "grub")) == []


def test_the_addresses_of_servers_are_no_hosts() -> None:
    site = SITE.replace("vlan: 10", "vlan: 10\n      dns: [10.0.0.7, 10.1.0.9]") + (
        "  servers:\n    management: {hosts: [{name: m.a.test, address: 10.0.0.8}]}\n"
        "    freeipa: {hosts: [{name: i.a.test, address: '2001:db8:1::9'}]}\n"
    )
    hosts = host(
        a=f"{{{MAC}, network: mgmt, addressing: static, ipv4: 10.0.0.8}}",
        b="{mac: 52:54:00:00:00:0a, network: mgmt, addressing: dhcp, reservation: 10.0.0.7}",
        c="{mac: 52:54:00:00:00:0b, network: office, addressing: static, ipv4: 10.1.0.9, ipv6: '2001:db8:1::9'}",
    )
    assert [line.partition("interfaces.")[2] for line in lines(site, hosts)] == [
        "a.ipv4: 10.0.0.8 is the management server 'm.a.test'; take another",
        "b.reservation: 10.0.0.7 is a DNS server of network 'mgmt'; take another",
        "c.ipv4: 10.1.0.9 is a DNS server of network 'mgmt'; take another",
        "c.ipv6: 2001:db8:1::9 is the FreeIPA server 'i.a.test'; take another",
    ]


@pytest.mark.parametrize(
    ("prefix", "key", "address"),
    [
        ("prefix: 127.0.0.0/8", "ipv4", "127.0.0.5"),
        ("prefix: 224.0.0.0/4", "ipv4", "224.0.0.5"),
        ("prefix: 0.0.0.0/31", "ipv4", "0.0.0.0"),
        ("prefix: 10.0.0.0/24, prefix6: '::/127'", "ipv6", "::"),
        ("prefix: 10.0.0.0/24, prefix6: '::/127'", "ipv6", "::1"),
        ("prefix: 10.0.0.0/24, prefix6: 'ff02::/16'", "ipv6", "ff02::9"),
    ],
)
def test_addresses_that_no_machine_has(prefix: str, key: str, address: str) -> None:
    site = f"site: {{domain: a.test, networks: {{m: {{role: management, {prefix}}}}}}}\n"
    found = lines(site, host(n=f"{{{MAC}, network: m, addressing: static, {key}: '{address}'}}"))[-1]
    assert f"n.{key}: {address} is not an address that one machine of a network can have; take another" in found


@pytest.mark.parametrize("name", ["localhost", "ip6-loopback"])
def test_a_host_is_not_called_what_every_host_is(name: str) -> None:
    words = f"b.yaml:2: hosts.{name}: '{name}' is a name that every machine has for itself; give the host another name"
    assert lines(SITE, host(name, n=f"{{{MAC}}}")) == [words]


def test_credentials_that_are_one_file() -> None:
    site = SITE + "    other: {kind: token, path: /etc/token}\n"
    (found,) = lines(site, host(n=f"{{{MAC}}}") + "    credentials: [token, other]\n")
    assert "credentials.1: 'other' and 'token' are both /etc/token" in found
    below = site.replace("{kind: token, path: /etc/token}\n    other", "{kind: token, path: /etc/token/x}\n    other")
    (found,) = lines(below, host(n=f"{{{MAC}}}") + "    credentials: [token, other]\n")
    assert "of 'other' (/etc/token) and 'token' (/etc/token/x) one is the other's directory" in found


def test_the_command_line_of_site_and_host_together() -> None:
    site = SITE + "  kernel_arguments: [ip=dhcp]\n"
    (found,) = lines(site, host(n=f"{{{MAC}}}") + "    kernel_arguments: [ip=off]\n")
    assert "'ip=' is given 2 times, by site and host together" in found
    words = ["a" * 99] * 14  # 100 bytes each with its space
    fits = MAX_COMMAND_LINE - 1400 - len("ip=dhcp ")
    for last, expected in ((fits, 0), (fits + 1, 1)):
        arguments = ", ".join([*words, "b" * last])
        assert len(lines(site, host(n=f"{{{MAC}}}") + f"    kernel_arguments: [{arguments}]\n")) == expected


def test_a_route_to_a_network_that_the_host_is_on() -> None:
    mgmt = "mac: '52:54:00:00:09:01', network: mgmt, addressing: static, ipv4: 10.0.0.9"
    office = "mac: '52:54:00:00:09:02', vlan: 20, network: office, addressing: dhcp"
    for to, via in (("10.1.0.0/24", "10.0.0.1"), ("10.0.0.0/24", "10.0.0.1")):
        route = f"{{{mgmt}, routes: [{{to: {to}, via: {via}}}]}}"
        (found,) = lines(SITE, host(a=route, b=f"{{{office}}}"))
        assert f"a.routes.0.to: a route to {to}, which is network " in found
    route = f"{{{mgmt}, routes: [{{to: 10.1.0.0/25, via: 10.0.0.1}}]}}"
    assert lines(SITE, host(a=route, b=f"{{{office}}}")) == []
