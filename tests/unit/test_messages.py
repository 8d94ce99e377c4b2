from __future__ import annotations

from typing import get_args

import pytest
from pydantic import StringConstraints

from provision import model
from provision.inventory.vocabulary import INVENTORY
from provision.messages import nearest, quoted
from tests.helpers.inventory_samples import HOSTS, SITE, host, lines


def test_every_pattern_of_the_domain_has_words() -> None:
    requests = (model.UploadId, model.ContentId, model.LoaderName)  # they stand in no inventory
    speaking = (model.KernelArgument,)  # its validator says itself what is wrong
    patterns = {
        part.pattern
        for alias in vars(model).values()
        if alias not in (*requests, *speaking)
        for part in get_args(alias)
        if isinstance(part, StringConstraints) and part.pattern
    }
    assert patterns and patterns <= set(INVENTORY.words)


def test_nearest_and_quoted() -> None:
    assert nearest("netbot", ["netboot", "name"]) == "did you mean 'netboot'?"
    assert nearest("zzz", ["b", "a"]) == "known: a, b"
    assert nearest("x", []) == ""
    assert quoted("a\nb\u202e") == "'a?b?'"
    assert quoted("x" * 50) == f"'{'x' * 40}...'"


NIC = "mac: 52:54:00:00:00:09"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{{{NIC}, vlan: z}}", "vlan: 'z' is not a whole number"),
        (f"{{{NIC}, vlan: 4095}}", "vlan: '4095' is too large; the most is 4094"),
        (f"{{{NIC}, mtu: 12}}", "mtu: '12' is too small; the least is 1280"),
        (f"{{{NIC}, vlam: 3}}", "vlam: unknown key 'vlam'; did you mean 'vlan'?"),
        (f"{{{NIC}, mc: 3}}", "mc: unknown key 'mc'; did you mean 'mac'?"),
        (f"{{{NIC}, bond: lacp}}", "bond: 'lacp' is not one of active-backup, 802.3ad, balance-xor"),
        (f"{{{NIC}, addressing: statik}}", "'statik' is not one of dhcp, static; did you mean 'static'?"),
        ("{mac: 52:54:00:00:00:0g}", "macs.0: '52:54:00:00:00:0g' is not a MAC address; write it as"),
        ("{mac: ff:ff:ff:ff:ff:ff}", "is not the address of one interface"),
        ("{mac: [52:54:00:00:00:01]}", "macs.0: must be one value, not a list"),
        ("{macs: 52:54:00:00:00:01}", "macs: must be a list; write it as [52:54:00:00:00:01]"),
        ("{macs: []}", "macs: has too few entries; it needs at least 1"),
        ("{vlan: 3}", "'macs' is missing"),
        ("nic", "n: must be a mapping"),
        ("", "n: is empty"),
        (f"{{{NIC}, ipv4: 10.0.0.300}}", "ipv4: '10.0.0.300' is not an IPv4 address"),
        (f"{{{NIC}, ipv4: 167772161}}", "ipv4: '167772161' is not an IPv4 address"),
        (f"{{{NIC}, ipv6: fe80::1%eth0}}", "ipv6: 'fe80::1%eth0' must not have a zone"),
        (f"{{{NIC}, ipv6: x}}", "ipv6: 'x' is not an IPv6 address"),
        (f"{{{NIC}, routes: [{{to: 10.9.9.9/8, via: q}}]}}", "set behind its prefix length; did you mean 10.0.0.0/8?"),
        (f"{{{NIC}, routes: [{{to: 10.9.9.9/8, via: q}}]}}", "via: 'q' is not an IP address"),
        (f"{{{NIC}, routes: [{{to: zz, via: q}}]}}", "to: 'zz' is not an IP prefix"),
        (f"{{{NIC}, routes: [{{to: 10.0.0.0/8}}]}}", "routes: routes without 'network'; name the network"),
        (f"{{{NIC}, bridge: Br 0}}", "bridge: 'Br 0' is not allowed; an interface name"),
    ],
)  # fmt: skip
def test_interface_messages(text: str, said: str) -> None:
    found = lines(SITE, host(n=text))
    assert any(said in line for line in found), found
    assert all(line.startswith("b.yaml:4: hosts.node9.interfaces.n") for line in found), found


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("    netbot: always", "b.yaml:9: hosts.node1.netbot: unknown key 'netbot'; did you mean 'netboot'?"),
        ("    netboot: no", "'no' is not one of window, always, never"),
        ("    uuid: 12", "uuid: '12' is not a UUID"),
        ("    uuid:", "ok"),
        ("    labels: [a]", "labels: must be a mapping"),
        ("    labels: {a: ~}", "labels.a: is empty"),
        ("    labels: {A B: x}", "labels.A B: 'A B' is not allowed; a label's name"),
        ("    storage:", "storage: is empty; give it a value or leave the key out"),
        ("    name: node1", "name: a host's name is its key"),
        ("    kernel_arguments: [a b]", "kernel_arguments.0: 'a b' has a space outside of double quotes"),
        ("    credentials: {a: b}", "credentials: must be a list"),
        ("    labels: {rack: 12, spare: no, v: 1.10}", "ok"),
    ],
)
def test_host_messages(line: str, said: str) -> None:
    first, second = HOSTS.split("  node2:")
    found = lines(SITE, f"{first}{line}\n  node2:{second}")
    assert (not found) if said == "ok" else any(said in text for text in found), found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("  realms: X", "a.yaml:21: site.realms: unknown key 'realms'; did you mean 'realm'?"),
        ("  base: A", "base: 'A' is not allowed; a name has lower-case letters"),
        ("  policy: {window_minuts: 3}", "did you mean 'window_minutes'?"),
        ("  policy: {window_minutes: 0}", "'0' is too small; the least is 1"),
        ("  servers: {freeipa: {srv: ldap}}", "write a service as '_name._tcp'"),
        ("  servers: {freeipa: {hosts: [{name: x, adress: 1}]}}", "did you mean 'address'?"),
        ("  servers: {frepa: {}}", "did you mean 'freeipa'?"),
        ("  defaults: {groups: [a]}", "site.defaults.groups: 'groups' does not belong here"),
        ("  defaults: {netbot: x}", "site.defaults.netbot: unknown key 'netbot'; did you mean 'netboot'?"),
        ("  groups: {g: {storage: x}}", "site.groups.g.storage: 'x' is not one of persistent, none"),
        ("  groups: {g: {name: x}}", "site.groups.g.name: a host's name is its key"),
        ("  groups: [g]", "site.groups: must be a mapping"),
    ],
)
def test_site_messages(text: str, said: str) -> None:
    found = lines(f"{SITE}{text}\n", HOSTS)
    assert len(found) == 1 and said in found[0], found


def test_names_and_addresses_of_networks() -> None:
    net = "site:\n  domain: a\n  networks:\n    m: {role: management, prefix: 10.0.0.0/24, "
    assert "'10.0.0.999' is neither an IP address nor a DNS name" not in str(lines(net + "ntp: [ntp.example.test]}\n"))
    assert "ntp.0: 'a_b' is neither an IP address nor a DNS name" in str(lines(net + "ntp: [a_b]}\n"))
    assert "dns.0: 'dns' is not an IP address" in str(lines(net + "dns: [dns]}\n"))
