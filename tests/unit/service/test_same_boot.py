"""What belongs to one boot: policy, which says yes, and the window, which is charged, mean the same by it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.errors import Denied, Gone
from tests.helpers.site_fixture import (
    CANARY,
    INVENTORY,
    MAC1,
    MAC2,
    Site,
    boot_iso,
    charged,
    everything,
    origin,
    seed_url,
    site,
    used,
)

SECOND_NIC = "52:54:00:00:00:21"
TWO_NICS = INVENTORY.replace(
    "addressing: static, ipv4: 10.0.0.11}\n",
    f'addressing: static, ipv4: 10.0.0.11}}\n      spare: {{mac: "{SECOND_NIC}"}}\n',
)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path, TWO_NICS) as opened:
        yield opened


def test_kernel_and_initrd_may_take_an_hour(here: Site) -> None:
    here.window()
    revision = seed_url(here)
    here.clock.advance(minutes=59)
    assert CANARY in charged(here.service.netboot.seed(origin(), revision)).data


def test_no_boot_is_under_way_for_ever(here: Site) -> None:
    revision = seed_url(here, MAC2)
    here.clock.advance(minutes=60)
    with pytest.raises(Gone, match="no boot of it is under way any more"):
        charged(here.service.netboot.seed(origin(MAC2), revision))


def test_a_configuration_asked_for_later_is_another_boot(here: Site) -> None:
    seed_url(here, MAC2)
    here.clock.advance(minutes=10)
    seed_url(here, MAC2)
    assert len(here.service.core.store.boots.of("node2")) == 2


def test_the_other_way_to_boot_is_another_boot(here: Site) -> None:
    here.window()
    netboot = here.service.netboot
    charged(netboot.seed(origin(), seed_url(here)))
    assert boot_iso(netboot, origin(), 0, everything).revision == "refusal"
    assert used(here) == 1


def test_a_changed_host_is_told_that_its_window_is_used_up(here: Site) -> None:
    here.window()
    netboot = here.service.netboot
    revision = seed_url(here)
    charged(netboot.seed(origin(), revision))
    here.secret("node1", b"another-token")
    for _ in range(5):
        with pytest.raises(Gone, match="withdrawn"):
            charged(netboot.seed(origin(), revision))
        assert b"window-closed" in netboot.pxelinux_config(origin(), MAC1)
        with pytest.raises(Denied):
            charged(netboot.seed(origin(), None))
    denied = [entry for entry in here.audit("decision") if entry["answer"] == "denied"]
    assert [entry.get("count") for entry in denied] == [None, 14]


def test_each_nic_may_read_its_own_boot_again(here: Site) -> None:
    here.window(boots=2)
    netboot, revisions = here.service.netboot, {}
    for mac in (MAC1, SECOND_NIC):
        config = netboot.pxelinux_config(origin(mac), mac).decode()
        revisions[mac] = config.split("/boot/seed/")[1].split("/")[0]
        charged(netboot.seed(origin(mac), revisions[mac]))
        here.clock.advance(seconds=5)
    for mac, revision in revisions.items():
        assert CANARY in charged(netboot.seed(origin(mac), revision)).data
    assert used(here) == 2
