"""A NIC that was exchanged, in the service: an apply of that one change, with all of its rules; what an apply ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from provision.errors import Conflict, Denied, Gone, NotFound, Problems
from provision.principal import Authentication, Principal, PrincipalRole
from provision.service.inventory import replaced
from provision.slots import HostSlots
from provision.store import hosts
from tests.helpers.links import make, take
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import CANARY, INVENTORY, MAC1, MAC2, STRANGER, Site, charged, origin, seed_url, sources

NIC = "52:54:00:00:00:42"


def exchange(here: Site, old: str = "mgmt", new: str = NIC, name: str = "node1") -> list[str]:
    made = here.service.inventories.replace_mac(name, old, new, ROOT)
    return list(replaced(made, applied=True, tag=here.service.inventories.tag()).changes.lines)


def test_a_nic_is_exchanged(here: Site) -> None:
    here.window(boots=9)
    taken = take(here, make(here))
    delivery = here.service.netboot.seed(origin(), seed_url(here))
    assert exchange(here) == [f"~ node1: interfaces.mgmt.macs: {MAC1} -> {NIC}"]
    for check in (taken.check, delivery.check):
        with pytest.raises(Gone):
            check()
    window = here.service.core.store.windows.of("node1")
    assert window is not None and window.closed
    assert {row.state for row in here.service.links.listing(ROOT)} == {"revoked"}
    assert here.service.core.state_by_mac(MAC1) is None
    here.window()
    asks = replace(origin(), requester=replace(origin().requester, mac=NIC))
    assert CANARY in charged(here.service.netboot.seed(asks, None)).data
    (entry,) = here.audit("mac-replaced")
    assert (entry["host"], entry["mac"], entry["replaced"]) == ("node1", NIC, MAC1)


def test_a_preview_changes_nothing(here: Site) -> None:
    here.window()
    before = here.service.core.store.snapshot
    made = here.service.inventories.replacement("node1", MAC1, NIC.upper().replace(":", "-"), ROOT)
    assert made.new == NIC and here.service.core.store.snapshot is before
    window = here.service.core.store.windows.of("node1")
    assert window is not None and not window.closed
    assert made.changes.notes == (f"no machine with the MAC {NIC} has asked for a boot yet",)


def test_a_machine_that_has_asked_is_named(here: Site) -> None:
    here.service.netboot.pxelinux_config(origin(STRANGER), STRANGER)
    made = here.service.inventories.replacement("node1", "mgmt", STRANGER, ROOT)
    assert made.changes.notes == (f"an unknown machine with the MAC {STRANGER} has asked for a boot on network 'mgmt'",)


def test_what_is_another_hosts_is_refused_by_its_name(here: Site) -> None:
    before = here.service.core.store.snapshot
    with pytest.raises(Conflict, match=f"{MAC2}: is a NIC of node2"):
        exchange(here, new=MAC2)
    with pytest.raises(Conflict, match="has the NIC"):
        exchange(here, new=MAC1)
    for wrong in ("eth9", STRANGER):
        with pytest.raises(NotFound):
            exchange(here, wrong)
    assert here.service.core.store.snapshot is before and here.audit("mac-replaced") == []


def test_who_does_not_see_the_host_does_not_learn_of_it(here: Site) -> None:
    foreign = Principal("token:x", PrincipalRole.ADMIN, Authentication.TOKEN, (("rack", "z"),))
    with pytest.raises(NotFound, match="no host of this name"):
        here.service.inventories.replace_mac("node1", "mgmt", NIC, foreign)
    for mac in (NIC, MAC2):  # whether it is another's is not for who sees some hosts only
        with pytest.raises(Denied, match="the new NIC may be another's"):
            here.service.inventories.replacement("node1", "mgmt", mac, replace(foreign, selector=(("rack", "a"),)))


def test_the_files_of_before_change_it_back_and_say_so(here: Site) -> None:
    exchange(here)
    _, changes, _ = here.service.inventories.preview(sources(INVENTORY), prune=False)
    assert changes.lines() == [f"~ node1: interfaces.mgmt.macs: {NIC} -> {MAC1}"]
    _, changes, _ = here.service.inventories.preview(sources(INVENTORY.replace(MAC1, NIC)), prune=True)
    assert changes.lines() == []
    here.apply(INVENTORY)
    assert here.service.core.state_by_mac(MAC1) is not None


def test_all_rules_hold_also_for_a_site_of_one_host(here: Site) -> None:
    alone = INVENTORY.partition("  node2:")[0]
    alone += '      lan: {mac: "52:54:00:00:00:77", vlan: 7}\n      more: {mac: "52:54:00:00:00:78", vlan: 7}\n'
    here.apply(alone)
    with pytest.raises((Problems, Conflict)):
        exchange(here, "lan", "52:54:00:00:00:78")
    assert exchange(here, "lan", NIC)


def test_slots_are_those_of_the_chain_that_a_host_had(here: Site) -> None:
    slots = here.service.core.store.slots
    said = HostSlots(f"a a {here.base.id} - idle", here.clock())
    for host in ("node1", "node2"):
        slots.put(host, said)
    here.apply(INVENTORY.replace("  node2:\n", "  node2:\n    chain: uki\n"))
    assert (slots.of("node1"), slots.of("node2")) == (said, None)
    slots.put("node2", said)
    here.apply(INVENTORY.replace("  node2:\n", "  node2:\n    chain: uki\n    update: {reboot: now}\n"))
    assert slots.of("node2") == said


def test_slots_are_kept_when_the_other_chain_is_not(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """An apply that fails, or is killed, has not taken from a host what it falls back to."""
    slots = here.service.core.store.slots
    said = HostSlots(f"a a {here.base.id} - idle", here.clock())
    slots.put("node2", said)
    with monkeypatch.context() as patched:
        patched.setattr(hosts, "_write_hosts", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            here.apply(INVENTORY.replace("  node2:\n", "  node2:\n    chain: uki\n"))
    assert slots.of("node2") == said
    # Also in the database, which is read when the service starts again.
    with here.service.core.store.database.engine.connect() as connection:
        slots.load(connection)
    assert slots.of("node2") == said
