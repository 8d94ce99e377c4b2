from __future__ import annotations

import pytest

from provision.errors import Problems
from provision.inventory.diff import Difference, difference, merge, needs_confirmation
from provision.service.inventory import shown
from provision.site import Inventory
from tests.helpers.inventory_samples import HOSTS, SITE, certificate, host, read

OLD = read(SITE, HOSTS)
NODE9 = host(n="{mac: 52:54:00:00:00:09, network: mgmt, addressing: dhcp}")


def test_nothing_changes() -> None:
    same = difference(OLD, read(HOSTS, SITE))
    assert not same
    assert same.lines() == []
    assert same == Difference()


def test_the_first_time_everything_is_new() -> None:
    found = difference(None, OLD)
    assert found.added == ("node1", "node2")
    assert "~ site: domain: none -> example.test" in found.lines()
    assert "~ site: networks.mgmt.prefix: none -> 10.0.0.0/24" in found.lines()
    assert not any("base" in line for line in found.lines())


def test_fields_hosts_and_site() -> None:
    text = HOSTS.replace("10.0.0.11", "10.0.0.21").replace("  node2:", "    labels: {rack: 1}\n  node3:")
    text = text.replace("  node3:", "    credentials: [keytab, token]\n  node3:")
    new = read(SITE.replace("vlan: 20", "vlan: 21") + "  base: b\n", text)
    assert difference(OLD, new).lines() == [
        "~ site: networks.office.vlan: 20 -> 21",
        "~ site: base: none -> b",
        "~ node1: interfaces.mgmt.ipv4: 10.0.0.11 -> 10.0.0.21",
        "~ node1: credentials: none -> keytab, token",
        "~ node1: labels.rack: none -> 1",
        "- node2",
        "+ node3",
    ]


def test_an_interface_appears_and_the_order_counts() -> None:
    two = "a: {mac: 52:54:00:00:00:0a}", "b: {mac: 52:54:00:00:00:0b, vlan: 5}"
    start = "hosts:\n  n:\n    interfaces:\n      "
    one, both, swapped = (read(SITE, start + "\n      ".join(t)) for t in (two[:1], two, two[::-1]))
    assert difference(one, both).lines() == [
        "~ n: interfaces.b.macs: none -> 52:54:00:00:00:0b",
        "~ n: interfaces.b.vlan: none -> 5",
    ]
    assert difference(both, swapped).lines() == ["~ n: interfaces: a, b -> b, a"]


def test_certificates_are_named_by_their_hash() -> None:
    block = "".join(f"      {line}\n" for line in certificate().splitlines())
    new = read(f"{SITE}  ca_certificates:\n    - |\n{block}", HOSTS)
    found = difference(OLD, new)
    data = shown(found, applied=False, confirm=False, tag='"x"')
    assert data.added == data.removed == () and data.changed == {}
    (change,) = data.site
    assert (change.path, change.old) == ("ca_certificates", [])
    assert "(text, SHA-256 " in change.model_dump_json() and "BEGIN" not in data.model_dump_json()
    assert len(found.lines()) == 1 and "BEGIN" not in found.lines()[0]


def test_hosts_stay_unless_pruned() -> None:
    new = read(SITE, NODE9)
    kept = merge(OLD, new, prune=False)
    assert [h.name for h in kept.hosts] == ["node1", "node2", "node9"]
    assert difference(OLD, kept).removed == ()
    pruned = merge(OLD, new, prune=True)
    assert pruned == new
    assert difference(OLD, pruned).lines() == ["- node1", "- node2", "+ node9"]
    assert merge(None, new, prune=False) == new


def test_hosts_that_stay_must_still_fit() -> None:
    text = NODE9.replace("dhcp}", "static, ipv4: 10.0.0.11}").replace(":09", ":02")
    with pytest.raises(Problems) as raised:
        merge(OLD, read(SITE, text), prune=False)
    said = [str(p) for p in raised.value.problems]
    assert said == [
        "(store): hosts.node1.interfaces.mgmt.ipv4: the address 10.0.0.11 is already that of node9; give one of them "
        "another address, or let --prune remove this host, which is in no file now",
        "(store): hosts.node2.interfaces.mgmt.macs.0: the MAC 52:54:00:00:00:02 is already that of node9; a NIC "
        "belongs to one host, or let --prune remove this host, which is in no file now",
    ]


def test_hosts_that_stay_need_the_sites_networks() -> None:
    site = SITE.replace("mgmt:", "other:")
    with pytest.raises(Problems) as raised:
        merge(OLD, read(site, "hosts:\n"), prune=False)
    assert {p.path for p in raised.value.problems} == {
        "hosts.node1.interfaces.mgmt.network",
        "hosts.node2.interfaces.mgmt.network",
    }


@pytest.mark.parametrize(("removed", "asks"), [(0, False), (2, False), (3, True)])
def test_pruning_more_than_a_tenth_asks(removed: int, asks: bool) -> None:
    hosts = "hosts:\n" + "".join(
        f"  h{i}: {{interfaces: {{a: {{mac: 52:54:00:00:00:{i:02x}}}}}}}\n" for i in range(1, 21)
    )
    old = read(SITE, hosts)
    new = Inventory(site=old.site, hosts=old.hosts[removed:])
    assert needs_confirmation(difference(old, new), old) is asks
    assert needs_confirmation(difference(None, new), None) is False
