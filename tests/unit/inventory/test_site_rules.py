from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from provision.inventory.site_rules import edge
from tests.helpers.inventory_samples import lines

BASE = "site:\n  domain: a.test\n  networks:\n"


def said(network: str, rest: str = "") -> list[str]:
    return lines(f"{BASE}    m: {{role: management, prefix: 10.0.0.0/24{network}}}\n{rest}")


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (", gateway: 10.0.1.1", "site.networks.m.gateway: the gateway 10.0.1.1 is outside 10.0.0.0/24"),
        (", gateway: 10.0.0.0", "gateway: 10.0.0.0 is the network address"),
        (", gateway: 10.0.0.255", "gateway: 10.0.0.255 is the broadcast address"),
        (", gateway6: '2001:db8::1'", "gateway6: 'gateway6' without 'prefix6'"),
        (", prefix6: '2001:db8::/64', gateway6: '2001:db9::1'", "gateway6: the gateway 2001:db9::1 is outside"),
        (", pool: {first: 10.0.1.1, last: 10.0.1.9}", "pool.first: 10.0.1.1 is outside"),
        (", pool: {first: 10.0.0.9, last: 10.0.1.9}", "pool.last: 10.0.1.9 is outside"),
        (", pool: {first: 10.0.0.9, last: 10.0.0.255}", "pool.last: 10.0.0.255 is the broadcast"),
        (", pool: {first: 10.0.0.9, last: 10.0.0.8}", "pool: it ends at 10.0.0.8 before it begins at 10.0.0.9"),
        (", gateway: 10.0.0.5, pool: {first: 10.0.0.2, last: 10.0.0.8}", "pool: it contains the gateway 10.0.0.5"),
    ],
)
def test_one_network(network: str, words: str) -> None:
    found = said(network)
    assert any(words in line for line in found), found
    assert all(line.startswith("a.yaml:4: ") for line in found)


def test_networks_that_are_right() -> None:
    assert said(", gateway: 10.0.0.1, gateway6: 'fe80::1', pool: {first: 10.0.0.2, last: 10.0.0.254}") == []
    assert said("", "    g: {role: general, prefix: 10.0.1.0/24}\n") == []


@pytest.mark.parametrize(
    "network",
    [
        "prefix: 10.0.0.0/24, gateway: 169.254.0.1",
        "prefix: 192.0.2.11/32, gateway: 203.0.113.1",
        "prefix: 10.0.0.0/24, gateway: 10.9.0.1, gateway_onlink: true",
        "prefix: 10.0.0.0/24, prefix6: '2001:db8::/64', gateway6: '2001:db8:9::1', gateway_onlink: true",
        "prefix: 10.0.0.0/24, prefix6: '2001:db8::7/128', gateway6: '2001:db8:9::1'",
    ],
)
def test_gateways_on_the_link(network: str) -> None:
    assert lines(f"{BASE}    m: {{role: general, {network}}}\n") == []


SIX = "prefix6: '2001:db8::/64'"


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("vlan: 7", "site.networks.m: neither 'prefix' nor 'prefix6' is given; add the network's IPv4 or IPv6 prefix"),
        (f"{SIX}, gateway: 10.0.0.1", "site.networks.m.gateway: 'gateway' without 'prefix'"),
        (f"{SIX}, pool: {{first: 10.0.0.1, last: 10.0.0.2}}", "site.networks.m.pool: 'pool' without 'prefix'"),
    ],
)
def test_a_network_without_ipv4(network: str, words: str) -> None:
    (found,) = lines(f"{BASE}    m: {{role: management, {network}}}\n")
    assert words in found
    assert lines(f"{BASE}    m: {{role: management, {SIX}, gateway6: 'fe80::1'}}\n") == []


def test_a_prefix_that_cannot_be_read_is_not_missing() -> None:
    (found,) = lines(f"{BASE}    m: {{role: management, prefix: 10.0.0.0/33, gateway: 10.0.0.1}}\n")
    assert "site.networks.m.prefix: " in found


@pytest.mark.parametrize(
    ("interface", "words"),
    [
        ("addressing: static, ipv6: '2001:db8::9'", ""),
        ("addressing: dhcp", ""),
        ("addressing: static, ipv4: 10.0.0.9", "ipv4: network 'm' has no 'prefix'; add it, or leave 'ipv4' out"),
        ("addressing: dhcp, reservation: 10.0.0.9", "reservation: network 'm' has no 'prefix'"),
        ("addressing: dhcp, routes: [{to: 10.9.0.0/16, via: 10.0.0.1}]", "is not on network 'm'; add 'prefix' to it"),
    ],
)
def test_hosts_of_a_network_without_ipv4(interface: str, words: str) -> None:
    host = f"hosts:\n  n:\n    interfaces:\n      a: {{mac: 52:54:00:00:00:09, network: m, {interface}}}\n"
    found = lines(f"{BASE}    m: {{role: general, {SIX}}}\n{host}")
    assert len(found) == bool(words) and words in "".join(found)


def test_a_gateway_outside_of_its_prefix_has_a_way_out() -> None:
    (found,) = said(", gateway: 10.9.0.1")
    assert found.endswith("; give one inside it, or 'gateway_onlink: true' if hosts reach it on the link itself")


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ("[b.test, a.test]", "site.search.1: 'a.test' is searched already"),
        ("[b.test, b.test]", "site.search.1: 'b.test' is searched already"),
        ("[b.7]", "site.search.0: 'b.7' ends in a number"),
        ("[b.t, c.t, d.t, e.t, f.t, g.t]", "site.search: has too many entries; it may have at most 5"),
        ("[b/c]", "site.search.0: 'b/c' is not allowed; a DNS name has"),
    ],
)
def test_search_lists(search: str, words: str) -> None:
    (found,) = said("", f"  search: {search}\n")
    assert words in found


def test_a_domain_that_ends_in_a_number() -> None:
    (found,) = lines("site:\n  domain: rack.7\n  networks: {}\n")
    assert "a.yaml:2: site.domain: 'rack.7' ends in a number" in found


def test_servers_that_are_mistyped_addresses() -> None:
    servers = "  servers: {management: {hosts: [{name: 192.0.2.256}]}}\n"
    assert said(', ntp: [192.0.2.256, 192.0.2.1, "10.0.0", "2001:db8::1", ntp.example.test]', servers) == [
        f"a.yaml:{line}: site.{path}: '{name}' is neither an IP address nor a DNS name; "
        "correct the address, or give the server's name"
        for line, path, name in (
            (4, "networks.m.ntp.0", "192.0.2.256"),
            (4, "networks.m.ntp.2", "10.0.0"),
            (5, "servers.management.hosts.0.name", "192.0.2.256"),
        )
    ]


def test_prefixes_that_overlap_even_with_one_between() -> None:
    found = lines(
        f"{BASE}    wide: {{role: general, prefix: 10.0.0.0/8, prefix6: '2001:db8::/32'}}\n"
        "    a: {role: general, prefix: 10.1.0.0/16, prefix6: '2001:db8:1::/48'}\n"
        "    b: {role: general, prefix: 10.2.0.0/16}\n    c: {role: general, prefix: 11.0.0.0/8}\n"
    )
    assert [line.partition(": ")[2].partition(";")[0] for line in found] == [
        "site.networks.a.prefix: 10.1.0.0/16 overlaps with 10.0.0.0/8 of network 'wide'",
        "site.networks.a.prefix6: 2001:db8:1::/48 overlaps with 2001:db8::/32 of network 'wide'",
        "site.networks.b.prefix: 10.2.0.0/16 overlaps with 10.0.0.0/8 of network 'wide'",
    ]


def test_guests_never_share_the_tag_of_a_management_network() -> None:
    (found,) = said(", vlan: 7", "    g: {role: general, prefix: 10.0.1.0/24, vlan: 7}\n")
    assert "site.networks.g.vlan: VLAN 7 is also that of the management network 'm'" in found


def test_services_name_hosts_or_srv() -> None:
    both = "  servers: {freeipa: {srv: _ldap._tcp, hosts: [{name: a.b}]}, management: {}}\n"
    found = said("", both)
    assert len(found) == 2
    assert any("site.servers.freeipa: both 'hosts' and 'srv' are given" in line for line in found)
    assert any("site.servers.management: neither 'hosts' nor 'srv' is given" in line for line in found)
    assert said("", "  servers: {freeipa: {srv: _ldap._tcp}, management: {hosts: [{name: a.b}]}}\n") == []


def test_credentials_and_arguments() -> None:
    assert (
        "every user of the host could read a key"
        in said("", "  credentials: {k: {kind: key, path: /etc/k, mode: 0644}}\n")[0]
    )
    assert said("", "  credentials: {k: {kind: certificate, path: /etc/k, mode: 0644}}\n") == []
    assert "site.kernel_arguments.0: 'initrd='" in said("", "  kernel_arguments: [initrd=a]\n")[0]


@pytest.mark.parametrize(
    ("address", "prefix", "kind"),
    [
        ("10.0.0.0", "10.0.0.0/30", "network"),
        ("10.0.0.3", "10.0.0.0/30", "broadcast"),
        ("10.0.0.0", "10.0.0.0/31", ""),
        ("10.0.0.1", "10.0.0.0/31", ""),
        ("10.0.0.1", "10.0.0.0/30", ""),
        ("2001:db8::", "2001:db8::/64", "subnet-router anycast"),
        ("2001:db8::", "2001:db8::/127", ""),
        ("2001:db8::ffff:ffff:ffff:ffff", "2001:db8::/64", ""),
    ],
)
def test_edges_of_prefixes(address: str, prefix: str, kind: str) -> None:
    assert edge(ip_address(address), ip_network(prefix)) == kind


@pytest.mark.parametrize(
    ("credential", "words"),
    [
        ("kind: token, names: [vip.a.test]", "credentials.c.names: a token is for no name; leave it out"),
        ("kind: key, names: [vip.a.test]", "credentials.c.names: a key is for no name"),
        ("kind: certificate, realms: [B.TEST]", "credentials.c.realms: a certificate has no realm; leave it out"),
        ("kind: keytab, realms: [B.TEST]", "credentials.c.realms: the site has no realm"),
        ("kind: keytab, names: [vip.a.test, h.a.test]", "credentials.c.names.1: 'h.a.test' is the host h, and others"),
        ("kind: keytab, names: [h]", "credentials.c.names.0: 'h' is the host h"),
    ],
)
def test_other_names_and_realms_of_a_credential(credential: str, words: str) -> None:
    hosts = "hosts: {h: {interfaces: {m: {mac: '52:54:00:00:00:01', network: m, addressing: dhcp}}}}\n"
    found = said("", f"  credentials: {{c: {{path: /etc/c, {credential}}}}}\n{hosts}")
    assert len(found) == 1 and words in found[0], found


def test_other_names_and_realms_that_are_right() -> None:
    keytab = "  credentials: {c: {kind: keytab, path: /etc/c, names: [vip.a.test, vip], realms: [B.TEST, c.test]}}\n"
    assert said("", f"  realm: a.test\n{keytab}") == []
