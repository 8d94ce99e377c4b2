"""A NIC that was exchanged: which one is meant, and what the host and its files say then."""

from __future__ import annotations

import pytest
import yaml

from provision.clock import now
from provision.document import Source
from provision.errors import Conflict, Invalid, NotFound
from provision.host import Host
from provision.inventory.parse import parse
from provision.inventory.replacement import fragment, nic, replaced

TEXT = """\
site:
  domain: example.test
  networks:
    mgmt: {role: management, prefix: 10.0.0.0/24}
    vm: {role: general, prefix: 10.1.0.0/24}
hosts:
  n1:
    interfaces:
      mgmt: {mac: "52:54:00:00:00:01", network: mgmt, addressing: dhcp}
      uplink: {macs: ["52:54:00:00:00:02", "52:54:00:00:00:03"], bond: 802.3ad, network: vm, vlan: 7, addressing: dhcp}
      spare: {macs: ["52:54:00:00:00:02", "52:54:00:00:00:03"], bond: 802.3ad, vlan: 8}
"""
OLD, NEW = "52:54:00:00:00:02", "52:54:00:00:00:99"


@pytest.fixture
def host() -> Host:
    (found,) = parse([Source("site.yaml", TEXT.encode())], now()).hosts
    return found


@pytest.mark.parametrize("named", ["mgmt", "52:54:00:00:00:01", "52-54-00-00-00-01", "525400000001"])
def test_a_nic_is_named_by_its_interface_or_its_mac(host: Host, named: str) -> None:
    assert nic(host, named) == "52:54:00:00:00:01"


def test_what_names_no_nic_is_refused_with_what_is_there(host: Host) -> None:
    with pytest.raises(NotFound, match=r"there: mgmt 52:54:00:00:00:01, "):
        nic(host, NEW)
    with pytest.raises(NotFound, match="n1/nothing"):
        nic(host, "nothing")
    with pytest.raises(Invalid, match="has 2 NICs; name the one to replace: 52:54:00:00:00:02, "):
        nic(host, "uplink")


def test_it_is_replaced_wherever_it_was_and_nothing_else_changes(host: Host) -> None:
    made = replaced(host, OLD, NEW)
    assert [made.interfaces[name].macs for name in ("uplink", "spare")] == [(NEW, "52:54:00:00:00:03")] * 2
    assert replaced(made, NEW, OLD) == host and list(made.interfaces) == list(host.interfaces)
    assert replaced(made, NEW, OLD).revision == host.revision


def test_a_nic_that_is_there_already_or_cannot_be_there(host: Host) -> None:
    for there in ("52:54:00:00:00:01", OLD):
        with pytest.raises(Conflict, match="has the NIC"):
            replaced(host, OLD, there)


def test_the_fragment_is_what_the_files_are_to_say(host: Host) -> None:
    made = replaced(host, OLD, NEW)
    own = {name: one.macs for name, one in made.interfaces.items() if NEW in one.macs}
    said = yaml.safe_load(fragment("n1", own))["hosts"]["n1"]["interfaces"]
    assert said == {name: {"macs": [NEW, "52:54:00:00:00:03"]} for name in ("uplink", "spare")}
    one = yaml.safe_load(fragment("n1", {"mgmt": (NEW,)}))
    assert one == {"hosts": {"n1": {"interfaces": {"mgmt": {"mac": NEW}}}}}
