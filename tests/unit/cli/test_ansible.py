"""The dynamic inventory: what Ansible documents of one, every fact of a host, and nothing that it would evaluate."""

from __future__ import annotations

import json
import re
from typing import Any

from provision.cli.ansible import inventory
from provision.inventory import files
from provision.inventory.parse import parse
from provision.site import Inventory
from tests.helpers.paths import ROOT
from tests.helpers.site_fixture import NOW, sources

TEXT = """\
site:
  domain: example.test
  base: base
  networks:
    mgmt: {role: management, prefix: 10.0.0.0/24, gateway: 10.0.0.1}
    lan-6: {role: general, prefix6: "2001:db8::/64"}
  credentials:
    token: {kind: token, path: /etc/token}
hosts:
  a1:
    credentials: [token]
    labels: {rack: "7", site/row: b-2, "7": x}
    interfaces:
      mgmt: {mac: "52:54:00:00:00:01", network: mgmt, addressing: static, ipv4: 10.0.0.11}
      guests: {macs: ["52:54:00:00:00:11", "52:54:00:00:00:12"], bond: active-backup, bridge: br0, mtu: 9000}
  a2:
    labels: {rack: "8"}
    interfaces:
      mgmt: {mac: "52:54:00:00:00:02", network: mgmt, addressing: dhcp, reservation: 10.0.0.12}
  a3:
    interfaces:
      mgmt: {mac: "52:54:00:00:00:03", network: mgmt, addressing: dhcp}
  a4:
    netboot: never
    interfaces:
      lan: {mac: "52:54:00:00:00:04", network: lan-6, addressing: static, ipv6: "2001:db8::4", vlan: 7}
"""


def site() -> Inventory:
    return parse(sources(TEXT), NOW)


def test_it_is_what_ansible_documents() -> None:
    """By "Inventory script conventions" of its developer guide: groups of hosts and children, and variables at once."""
    found = json.loads(json.dumps(inventory(site())))
    assert set(found.pop("_meta")) == {"hostvars"}
    assert all(set(group) <= {"hosts", "children", "vars"} and name.isidentifier() for name, group in found.items())
    groups = {name: group["hosts"] for name, group in found.items() if name != "all"}
    assert groups == {
        "_7_x": ["a1"],
        "network_lan_6": ["a4"],
        "network_mgmt": ["a1", "a2", "a3"],
        "rack_7": ["a1"],
        "rack_8": ["a2"],
        "site_row_b_2": ["a1"],
    }
    assert found["all"] == {"children": ["ungrouped", *groups], "hosts": ["a1", "a2", "a3", "a4"]}
    assert list(inventory(site())["_meta"]["hostvars"]) == ["a1", "a2", "a3", "a4"]


def test_a_host_is_reached_by_its_address_or_its_name() -> None:
    hosts = inventory(site())["_meta"]["hostvars"]
    assert {name: one["ansible_host"] for name, one in hosts.items()} == {
        "a1": "10.0.0.11",
        "a2": "10.0.0.12",
        "a3": "a3.example.test",
        "a4": "2001:db8::4",
    }


def test_a_host_has_its_facts() -> None:
    hosts = inventory(site())["_meta"]["hostvars"]
    assert hosts["a1"] == {
        "ansible_host": "10.0.0.11",
        "provision_fqdn": "a1.example.test",
        "provision_labels": {"rack": "7", "site/row": "b-2", "7": "x"},
        "provision_install": "it",
        "provision_storage": "persistent",
        "provision_netboot": "window",
        "provision_base": "base",
        "provision_interfaces": {
            "mgmt": {
                "macs": ["52:54:00:00:00:01"],
                "network": "mgmt",
                "role": "management",
                "addressing": "static",
                "ipv4": "10.0.0.11",
                "prefix": "10.0.0.0/24",
                "gateway": "10.0.0.1",
            },
            "guests": {
                "macs": ["52:54:00:00:00:11", "52:54:00:00:00:12"],
                "bond": "active-backup",
                "bridge": "br0",
                "mtu": 9000,
            },
        },
    }
    assert hosts["a4"]["provision_interfaces"]["lan"] == {
        "macs": ["52:54:00:00:00:04"],
        "network": "lan-6",
        "role": "general",
        "addressing": "static",
        "ipv6": "2001:db8::4",
        "prefix6": "2001:db8::/64",
        "vlan": 7,
    }


def test_a_label_selects() -> None:
    found = inventory(site(), ("rack", "7"))
    assert (found["all"]["hosts"], list(found["_meta"]["hostvars"])) == (["a1"], ["a1"])
    assert "rack_8" not in found
    assert inventory(site(), ("rack", "9"))["all"] == {"children": ["ungrouped"], "hosts": []}


def test_nothing_in_it_is_a_template_or_a_secret() -> None:
    example = parse(files.load([ROOT / "examples" / "site.yaml"]), NOW)
    for whole in (site(), example):
        found = inventory(whole)
        assert [text for text in strings(found) if not re.fullmatch(r"[A-Za-z0-9._:/ +-]*", text)] == []
        assert [text for text in strings(found) if "token" in text or "keytab" in text] == []


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.items() for one in item for text in strings(one)]
    if isinstance(value, list):
        return [text for one in value for text in strings(one)]
    return [value] if isinstance(value, str) else []
