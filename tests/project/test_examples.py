"""The examples are valid inventories, and one of them shows everything."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from provision.boot import Role
from provision.host import Addressing, Host, Install, Netboot, Storage
from provision.inventory.files import load
from provision.inventory.parse import parse
from provision.site import Inventory, Site
from tests.helpers.paths import EXAMPLES


def inventory(name: str) -> Inventory:
    return parse(load([EXAMPLES / name]), datetime.now(UTC))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_is_a_valid_inventory(path: Path) -> None:
    assert inventory(path.name).hosts


def test_the_minimal_example_is_one_host_on_a_management_network() -> None:
    found = inventory("minimal.yaml")
    (host,) = found.hosts
    assert host.primary.network is not None
    assert found.site.networks[host.primary.network].role is Role.MANAGEMENT


def test_the_full_example_shows_every_feature() -> None:
    found = inventory("site.yaml")
    hosts, interfaces = found.hosts, [i for h in found.hosts for i in h.interfaces.values()]
    assert {h.install for h in hosts} == set(Install)
    assert {h.storage for h in hosts} == set(Storage)
    assert {h.netboot for h in hosts} == set(Netboot)
    assert {i.addressing for i in interfaces} >= set(Addressing)
    for field in type(interfaces[0]).model_fields:
        assert any(getattr(i, field) for i in interfaces), f"no interface has '{field}'"
    for field in Host.model_fields:
        assert any(getattr(h, field) for h in hosts), f"no host has '{field}'"
    for field in Site.model_fields:
        assert getattr(found.site, field), f"the site has no '{field}'"
    text = (EXAMPLES / "site.yaml").read_text()
    assert "defaults:" in text and "groups:" in text
