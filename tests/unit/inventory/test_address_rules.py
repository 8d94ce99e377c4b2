from __future__ import annotations

import pytest

from tests.helpers.inventory_samples import lines

LONG = ".".join(["x" * 62] * 4)


def said(network: str = "prefix: 10.0.0.0/24", rest: str = "", domain: str = "a.test") -> list[str]:
    found = lines(f"site:\n  domain: {domain}\n  networks:\n    m: {{role: management, {network}}}\n{rest}")
    return [line.partition("site.")[2] or line for line in found]


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ("prefix: 127.0.0.0/8", "m.prefix: 127.0.0.0/8 is the loopback prefix of every machine"),
        ("prefix: 239.1.0.0/16", "m.prefix: 239.1.0.0/16 is a multicast prefix"),
        ("prefix: 0.0.0.0/0", "m.prefix: 0.0.0.0/0 is the prefix of all addresses"),
        ("prefix: 10.0.0.0/24, prefix6: 'fe80::/64'", "m.prefix6: fe80::/64 is the link-local prefix of every link"),
        ("prefix: 10.0.0.0/24, dns: ['fe80::53']", "m.dns.0: fe80::53 is a link-local address, which is another"),
        ("prefix: 10.0.0.0/24, ntp: [a.test, 'fe80::7b']", "m.ntp.1: fe80::7b is a link-local address"),
        ("prefix: 10.0.0.0/24, ntp: [224.0.1.1]", "m.ntp.0: 224.0.1.1 is a multicast address"),
        ("prefix: 10.0.0.0/24, dns: [0.0.0.0]", "m.dns.0: 0.0.0.0 is the unspecified address"),
        ("prefix: 10.0.0.0/24, prefix6: '2001:db8::/64', gateway6: 'ff02::2'", "gateway6: ff02::2 is a multicast"),
    ],
)
def test_addresses_that_mean_no_one_machine(network: str, words: str) -> None:
    found = said(network)
    assert any(words in line for line in found), found


def test_addresses_that_are_right() -> None:
    six = "prefix6: '2001:db8::/64', gateway6: 'fe80::1', dns: ['2001:db8::53', 169.254.169.254, 127.0.0.1, '::1']"
    assert said(f"prefix: 10.0.0.0/24, {six}") == []
    assert said("prefix: 169.254.7.0/24") == [], "addresses of no router, and a network all the same"


def test_a_server_with_a_link_local_address() -> None:
    servers = "  servers: {freeipa: {hosts: [{name: ipa.a.test, address: 'fe80::9'}]}}\n"
    (found,) = said(rest=servers)
    assert "servers.freeipa.hosts.0.address: fe80::9 is a link-local address" in found


def test_names_that_dns_does_not_take() -> None:
    hosts = "hosts:\n  {name}: {{interfaces: {{m: {{mac: '52:54:00:00:00:01', network: m, addressing: dhcp}}}}}}\n"
    assert len(LONG) == 251
    assert said(rest=hosts.format(name="a"), domain=LONG) == []
    (found,) = said(rest=hosts.format(name="ab"), domain=LONG)
    assert "hosts.ab: its full name, with the site's domain, has 254 characters, and DNS takes 253; give it a" in found
    (found,) = said(rest="  servers: {management: {srv: _x._tcp}}\n", domain=LONG)
    assert "servers.management.srv: its full name, with the site's domain, has 259 characters" in found
