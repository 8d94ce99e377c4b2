"""One MAC on two networks at a time is told of, unless the inventory has the NIC on both."""

from __future__ import annotations

from dataclasses import replace

import pytest

from provision.api.status import Alert
from provision.boot import Channel
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import GENERAL, INVENTORY, MAC1, MANAGEMENT, STRANGER, Site, origin

ON_BOTH = INVENTORY.replace(
    '      mgmt: {mac: "52:54:00:00:00:01", network: mgmt, addressing: static, ipv4: 10.0.0.11}\n',
    '      mgmt: {mac: "52:54:00:00:00:01", network: mgmt, addressing: static, ipv4: 10.0.0.11}\n'
    '      vm: {mac: "52:54:00:00:00:01", network: office, vlan: 7, addressing: dhcp}\n',
)


def ask(here: Site, mac: str, *channels: Channel) -> list[tuple[str, str]]:
    for channel in channels:
        here.service.netboot.grub_config(origin(mac, channel))
    return [(str(e["mac"]), str(e["network"])) for e in here.audit("duplicate-mac")]


@pytest.mark.parametrize("mac", [MAC1, STRANGER])
def test_it_is_said_once_an_hour(here: Site, mac: str) -> None:
    assert ask(here, mac, MANAGEMENT, MANAGEMENT) == []
    assert ask(here, mac, GENERAL, GENERAL) == [(mac, "office")]
    assert ask(here, mac, MANAGEMENT) == [(mac, "office"), (mac, "mgmt")]
    here.clock.advance(minutes=59)
    assert len(ask(here, mac, MANAGEMENT, GENERAL)) == 2
    here.clock.advance(minutes=2)
    assert len(ask(here, mac, MANAGEMENT)) == 3
    (entry, *_) = here.audit("duplicate-mac")
    assert entry.get("host") == ("node1" if mac == MAC1 else None) and "on network mgmt" in str(entry["reason"])


def test_a_hosts_is_an_alert(here: Site) -> None:
    """Shown with its status, at each request: a day after the last one it is over."""
    ask(here, STRANGER, MANAGEMENT, GENERAL)
    ask(here, MAC1, MANAGEMENT)
    assert alerts(here) == {}
    ask(here, MAC1, GENERAL, MANAGEMENT, GENERAL)
    ((name, (alert,)),) = alerts(here).items()
    assert (name, alert.event, alert.count) == ("node1", "duplicate-mac", 3)
    assert f"{MAC1} has asked on network office and on mgmt within 10 minutes. Find" in alert.text
    assert len(here.audit("duplicate-mac")) == 3
    here.clock.advance(days=1)
    assert alerts(here) == {}


def alerts(here: Site) -> dict[str, list[Alert]]:
    hosts = here.service.reports.status(ROOT).hosts
    return {one.host: list(one.alerts) for one in hosts if one.alerts}


def test_a_machine_that_was_put_elsewhere_is_none(here: Site) -> None:
    ask(here, MAC1, MANAGEMENT)
    here.clock.advance(minutes=10)
    assert ask(here, MAC1, GENERAL) == []


def test_a_nic_with_vlans_is_on_both(here: Site) -> None:
    here.apply(ON_BOTH)
    assert ask(here, MAC1, MANAGEMENT, GENERAL, MANAGEMENT) == []
    other = replace(GENERAL, network="vm")
    assert ask(here, MAC1, other) == [(MAC1, "vm")]


def test_what_is_made_up_is_bounded(here: Site) -> None:
    for number in range(6000):
        mac = f"02:00:00:00:{number // 256:02x}:{number % 256:02x}"
        here.service.netboot._duplicates.note(origin(mac, GENERAL))
    known = here.service.netboot._duplicates
    assert len(known._seen.values()) == 4096 and known._told.values() == []
