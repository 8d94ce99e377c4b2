"""Which boot a machine is in: policy, which says yes, and the window, which is charged, mean the same by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.errors import Denied, Gone
from provision.media.layout import SEED
from tests.helpers.site_fixture import (
    CANARY,
    INVENTORY,
    MAC1,
    MAC2,
    STRANGER,
    Site,
    boot_iso,
    charged,
    everything,
    origin,
    seed_url,
    site,
    used,
)

CHANGED = INVENTORY.replace("domain: example.test", "domain: changed.test")


def test_a_change_between_configuration_and_seed_is_gone(here: Site) -> None:
    here.window()
    revision = seed_url(here)
    here.secret("node1", b"another-token")
    with pytest.raises(Gone, match="withdrawn"):
        charged(here.service.netboot.seed(origin(), revision))
    assert used(here) == 0
    assert b"another-token" in charged(here.service.netboot.seed(origin(), seed_url(here))).data


@pytest.mark.parametrize("revision", ["0" * 64, "f" * 64])
def test_a_revision_that_never_was_is_gone(here: Site, revision: str) -> None:
    here.window()
    seed_url(here)
    with pytest.raises(Gone):
        charged(here.service.netboot.seed(origin(), revision))
    assert used(here) == 0


def test_a_range_after_a_change_is_gone(here: Site) -> None:
    here.window(boots=2)
    netboot = here.service.netboot
    before = boot_iso(netboot, origin(), 0, everything)
    assert boot_iso(netboot, origin(), 4096, everything) == before
    here.apply(CHANGED)
    with pytest.raises(Gone):
        boot_iso(netboot, origin(), 4096, everything)
    assert boot_iso(netboot, origin(), 0, everything).etag != before.etag


def test_a_boot_is_charged_by_a_byte_of_the_seed_and_nothing_else(here: Site) -> None:
    here.window()
    netboot, base = here.service.netboot, here.service.core.base_of(here.service.core.state("node1").host)
    slot = base.iso.slots[SEED]

    def charged(wanted: range) -> int:
        boot_iso(netboot, origin(), wanted.start, lambda plan: wanted)
        return used(here)

    assert charged(range(slot.offset)) == charged(range(slot.offset + slot.size, base.iso.size)) == 0
    assert charged(range(slot.offset, slot.offset)) == 0
    # Of a slot's zeros, which are the base's own, none is the seed's.
    assert charged(range(slot.offset + slot.size - 1, slot.offset + slot.size)) == 0
    assert charged(range(slot.offset, slot.offset + 1)) == 1


def test_a_range_never_continues_with_the_refusal(here: Site) -> None:
    here.window()
    netboot = here.service.netboot
    boot_iso(netboot, origin(), 0, everything)
    here.apply(INVENTORY.replace("  node1:\n", "  node1:\n    netboot: never\n"))
    with pytest.raises(Gone, match="withdrawn"):
        boot_iso(netboot, origin(), 4096, everything)
    assert boot_iso(netboot, origin(), 0, everything).revision == "refusal"
    assert boot_iso(netboot, origin(STRANGER), 4096, everything).revision == "refusal"


def test_a_slow_reader_is_not_given_the_refusal_s_end(here: Site) -> None:
    here.window()
    netboot = here.service.netboot
    boot_iso(netboot, origin(), 0, everything)
    here.clock.advance(minutes=70)
    with pytest.raises(Gone, match="withdrawn"):
        boot_iso(netboot, origin(), 4096, everything)
    assert boot_iso(netboot, origin(), 0, everything).revision == "refusal"


def test_a_range_of_a_boot_that_began_with_the_refusal_gets_no_seed(here: Site) -> None:
    netboot = here.service.netboot
    assert boot_iso(netboot, origin(), 0, everything).revision == "refusal"
    here.window()
    with pytest.raises(Gone):
        boot_iso(netboot, origin(), 4096, everything)
    assert used(here) == 0


SECOND_NIC = "52:54:00:00:00:21"
TWO_NICS = INVENTORY.replace(
    "addressing: static, ipv4: 10.0.0.11}\n",
    f'addressing: static, ipv4: 10.0.0.11}}\n      spare: {{mac: "{SECOND_NIC}"}}\n',
)


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


def test_each_nic_may_read_its_own_boot_again(tmp_path: Path) -> None:
    with site(tmp_path, TWO_NICS) as here:
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
