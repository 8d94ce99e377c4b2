"""A host that moves to new hardware: what it is goes along, and nothing of the old machine is believed."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from provision.errors import Conflict, Denied, Gone, NotFound
from provision.media.initrd import ALIVE, IDENTITY
from provision.principal import Authentication, Principal, PrincipalRole
from provision.slots import HostSlots
from tests.helpers.agent import TOKEN2, Agent, stored
from tests.helpers.links import make, take
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import MAC1, MAC2, Site, charged, origin
from tests.helpers.tpm_samples import tpm

NEW = "52:54:00:00:00:42"
MACHINE = UUID("4c4c4544-0042-3510-8054-b4c04f4d3107")


@pytest.fixture
def here(here: Site) -> Site:
    here.can(ALIVE, IDENTITY)
    return here


@pytest.fixture
def agent(here: Site) -> Agent:
    """The old machine: node2 is up, and has its identity on its disk."""
    return stored(here)


def test_the_old_machine_is_believed_no_longer(here: Site, agent: Agent) -> None:
    store = here.service.core.store
    store.tpms.put(tpm("node2"))
    here.secret("node2", b"another token")
    said = f"a a {here.base.id} - failed {here.base.id} 1 it did not prove itself"
    store.slots.put("node2", HostSlots(said, here.clock()))
    link = take(here, make(here, "node2"))
    made = here.service.moves.move("node2", (NEW,), MACHINE, ROOT)
    assert (made.host.primary.macs, made.host.uuid) == ((NEW,), MACHINE)
    assert f"~ node2: interfaces.mgmt.macs: {MAC2} -> {NEW}" in made.changes.lines()
    assert (store.identities.of("node2"), store.tpms.get("node2")) == (None, None)
    assert store.earlier_credentials.of("node2") == {}
    assert store.slots.of("node2") is None, "the new machine has a disk of its own, or none"
    with pytest.raises(Gone):
        link.check()
    # With its old disk it may come up where it was; what it says from there counts for nothing.
    with pytest.raises(Denied, match="not signed with the key of that boot"):
        agent.says(identity=agent.stored)
    assert store.identities.of("node2") is None and here.service.core.state_by_mac(MAC2) is None
    (entry,) = here.audit("host-moved")
    assert (entry["host"], entry["mac"], entry["replaced"]) == ("node2", NEW, MAC2)


def test_the_new_machine_gets_what_the_host_is(here: Site, agent: Agent) -> None:
    here.service.moves.move("node2", (NEW,), None, ROOT)
    here.clock.advance(seconds=60)
    asks = replace(origin(), requester=replace(origin(MAC2).requester, mac=NEW))
    assert TOKEN2 in charged(here.service.netboot.seed(asks, None)).data
    with pytest.raises((Denied, NotFound)):
        here.service.netboot.seed(origin(MAC2), None)


def test_a_host_with_windows_is_asked_for_one(here: Site) -> None:
    here.window()
    here.service.moves.move("node1", (NEW,), None, ROOT)
    asks = replace(origin(), requester=replace(origin(MAC1).requester, mac=NEW))
    with pytest.raises(Denied) as denied:
        here.service.netboot.seed(asks, None)
    assert "provision window node1" in denied.value.remedy


def test_a_look_changes_nothing_and_says_what_is_left_to_do(here: Site, agent: Agent) -> None:
    here.service.core.store.tpms.put(tpm("node2"))
    before = here.service.core.store.snapshot
    made = here.service.moves.look("node2", (NEW,), None, ROOT)
    assert here.service.core.store.snapshot is before and here.audit("host-moved") == []
    assert made.changes.notes == (
        "its TPM is no longer enrolled; enrol the new machine's TPM: 'provision enroll node2'",
        "the old machine still has its identity on its disk: wipe that disk",
    )


@pytest.mark.parametrize("macs", [(NEW, NEW[:-2] + "43"), (MAC1,), ()])
def test_its_nics_are_as_many_and_nobodys(here: Site, macs: tuple[str, ...]) -> None:
    before = here.service.core.store.snapshot
    with pytest.raises(Conflict):
        here.service.moves.move("node2", macs, None, ROOT)
    assert here.service.core.store.snapshot is before and here.audit("host-moved") == []


def test_who_sees_some_hosts_only_moves_none(here: Site) -> None:
    narrow = Principal("token:x", PrincipalRole.ADMIN, Authentication.TOKEN, (("rack", "a"),))
    with pytest.raises((Denied, NotFound)):
        here.service.moves.move("node1", (NEW,), None, narrow)
