"""Seeds and media of one revision only, and nothing without a release and a record of it."""

from __future__ import annotations

import errno
import os
from ipaddress import IPv4Address
from typing import Any

import pytest

from provision.boot import OPERATOR, Copy, Medium, Requester
from provision.errors import Denied, Gone, Invalid, Unavailable
from provision.media.layout import SEED
from provision.media.reader import Reader
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import (
    CANARY,
    INVENTORY,
    MAC1,
    MAC2,
    MAC3,
    STRANGER,
    Site,
    boot_iso,
    charged,
    deny_all,
    everything,
    origin,
    seed_url,
    used,
)

# Pinned revisions

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


def test_a_seed_is_never_made_of_two_states(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    here.window()
    credentials = here.service.core.store.credentials
    opened = credentials.open

    def changing(host: str, names: Any) -> Any:
        monkeypatch.setattr(credentials, "open", opened)
        here.apply(CHANGED)
        return opened(host, names)

    revision = seed_url(here)
    monkeypatch.setattr(credentials, "open", changing)
    with pytest.raises(Gone, match="changed in this moment"):
        charged(here.service.netboot.seed(origin(), revision))
    assert used(here) == 0


def test_the_same_input_gives_the_same_bytes(here: Site) -> None:
    here.window()
    netboot = here.service.netboot
    one, two = (boot_iso(netboot, origin(), 0, everything) for _ in range(2))
    with Reader(one) as a, Reader(two) as b:
        assert a.digest() == b.digest()
    assert one.etag == two.etag


# Nothing is opened, and nothing is given, without a release and a record


def test_no_credential_is_opened_without_a_release(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    credentials = here.service.core.store.credentials
    really = credentials.open

    def spy(host: str, names: Any) -> Any:
        opened.append(host)
        return really(host, names)

    monkeypatch.setattr(credentials, "open", spy)
    netboot, media, reports = here.service.netboot, here.service.media, here.service.reports
    here.window()
    with deny_all():
        netboot.pxelinux_config(origin(), MAC1)
        netboot.grub_config(origin())
        boot_iso(netboot, origin(), 0, everything)
        for call in (
            lambda: charged(netboot.seed(origin(), None)),
            lambda: media.plan("node1", Medium.ISO, ROOT),
            lambda: media.plan("node1", Medium.DISK, ROOT),
        ):
            with pytest.raises(Denied):
                call()
    netboot.pxelinux_config(origin(), MAC1)
    reports.explain("node1", ROOT)
    reports.status(ROOT)
    list(here.service.exports.tree())
    assert opened == []
    charged(netboot.seed(origin(), None))
    assert opened == ["node1"]


def test_a_release_for_another_host_makes_nothing(here: Site) -> None:
    builder, core = here.service.netboot._builder, here.service.core
    one, two = core.state("node1"), core.state("node2")
    release = core.decide(two, Medium.PXE, origin(MAC2).channel, origin(MAC2).requester)
    boot = core.store.boots.begin("node1", MAC1, Medium.PXE, "mgmt", here.clock.now, one.identity)
    revision = builder.revision(one, origin().channel, boot)
    for forged in (release, None, object()):
        with pytest.raises(Denied):
            builder.seed(forged, one, boot, revision)  # type: ignore[arg-type]


def test_a_plan_in_memory_still_needs_a_release(here: Site) -> None:
    builder, core = here.service.media._builder, here.service.core
    here.service.media.plan("node1", Medium.ISO, ROOT)
    state = core.state("node1")
    boot = Copy("node1", Medium.ISO, state.identity[:32])
    release = core.decide(state, Medium.ISO, OPERATOR, Requester(principal=ROOT))
    plan = builder.plan(release, state, boot)  # type: ignore[arg-type]
    assert any(CANARY in patch.data for patch in plan.patches)
    here.clock.advance(hours=1)
    with pytest.raises(Denied, match="expired"):
        builder.plan(release, state, boot)  # type: ignore[arg-type]


def test_a_seed_that_cannot_be_made_costs_no_boot(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    here.window()

    def broken(*args: Any) -> Any:
        raise Invalid("node1", "cannot be rendered")

    monkeypatch.setattr("provision.seed.build", broken)
    for call in (
        lambda: charged(here.service.netboot.seed(origin(), None)),
        lambda: boot_iso(here.service.netboot, origin(), 0, everything),
    ):
        with pytest.raises(Invalid):
            call()
    assert used(here) == 0


def test_every_decision_is_recorded(here: Site) -> None:
    here.window()
    netboot = here.service.netboot
    revision = seed_url(here)
    charged(netboot.seed(origin(), revision))
    boot_iso(netboot, origin(STRANGER), 0, everything)
    netboot.grub_config(origin(MAC3))
    rows = [
        (e["answer"], e.get("host"), e["medium"], e["channel"], e["mac"], e.get("rule")) for e in here.audit("decision")
    ]
    assert rows == [
        ("released", "node1", "pxe", "management:mgmt", MAC1, None),
        ("released", "node1", "pxe", "management:mgmt", MAC1, None),
        ("denied", None, "http-boot", "management:mgmt", STRANGER, "unknown-host"),
        ("denied", "node3", "pxe", "management:mgmt", MAC3, "netboot-never"),
    ]
    assert here.service.auditing.verify(ROOT).ok


def test_repeated_denials_do_not_fill_the_log(here: Site) -> None:
    log = here.state / "audit.log"
    for _ in range(3):
        for call in (
            lambda: charged(here.service.netboot.seed(origin(STRANGER), None)),
            lambda: here.service.media.plan("node3", Medium.PXE, ROOT),
        ):
            with pytest.raises(Denied):
                call()
        boot_iso(here.service.netboot, origin(STRANGER), 0, everything)
    size = log.stat().st_size
    for _ in range(100):
        boot_iso(here.service.netboot, origin(STRANGER), 0, everything)
        with pytest.raises(Denied):
            charged(here.service.netboot.seed(origin(STRANGER), None))
    assert log.stat().st_size == size
    here.clock.advance(minutes=2)
    here.service.core.audit.flush(here.clock.now)
    assert {e.get("count") for e in here.audit("decision")} == {None, 2, 102}


def test_one_machine_that_claims_to_be_every_host_is_one_of_the_crowd(
    here: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provision.service.denial_limiter.MACHINES_A_MINUTE", 2)
    for mac in (MAC1, MAC2, MAC3):
        assert b"foreign-mac" in here.service.netboot.pxelinux_config(origin(STRANGER), mac)
    assert [entry.get("host") for entry in here.audit("decision")] == ["node1", "node2", None]


def test_who_floods_for_configurations_does_not_use_up_what_a_seed_leaves_behind(
    here: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provision.service.denial_limiter.HOST_A_DAY", 20)
    here.window()
    for number in range(50):
        here.service.netboot.grub_config(origin(address=IPv4Address(f"10.0.0.{100 + number}")))
    entries = len(here.audit())
    charged(here.service.netboot.seed(origin(), None))
    (told,) = here.audit()[entries:]
    assert (told["answer"], told["mac"], told["address"]) == ("released", MAC1, "10.0.0.11")
    for number in range(50):
        charged(here.service.netboot.seed(origin(address=IPv4Address(f"10.0.0.{100 + number}")), None))
    found = here.audit("decision")
    coarse = [entry for entry in found if "address" not in entry]
    assert [entry["event"] for entry in here.audit("bounded")] == ["bounded"] * 2
    assert all(entry["host"] == "node1" and entry["mac"] == MAC1 for entry in coarse)
    assert sum(entry.get("count", 1) for entry in found if "released to" in entry.get("reason", "")) == 51 - 10


def test_ranges_are_counted(here: Site) -> None:
    here.window()
    boot_iso(here.service.netboot, origin(), 0, everything)
    boot_iso(here.service.netboot, origin(), 4096, everything)
    size = (here.state / "audit.log").stat().st_size
    for start in range(8192, 8292):
        boot_iso(here.service.netboot, origin(), start, everything)
    assert (here.state / "audit.log").stat().st_size == size


def test_a_range_that_comes_first_is_on_disk_before_its_bytes(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    here.window()
    netboot, log = here.service.netboot, here.service.core.audit
    boot_iso(netboot, origin(), 0, None)  # HEAD gives nothing away
    written, synced = os.write, list[int]()

    def full(descriptor: int, data: bytes) -> int:
        if descriptor == log._file.descriptor:
            raise OSError(errno.ENOSPC, "No space left on device")
        return written(descriptor, data)

    def note(descriptor: int) -> None:
        synced.append(descriptor)

    with monkeypatch.context() as broken:
        broken.setattr(os, "write", full)
        with pytest.raises(Unavailable):
            boot_iso(netboot, origin(), 1, lambda plan: range(1, plan.size))
        with pytest.raises(Unavailable):
            here.service.media.plan("node1", Medium.ISO, ROOT, first=False)
    assert used(here) == 0
    monkeypatch.setattr(os, "fdatasync", note)
    boot_iso(netboot, origin(), 1, lambda plan: range(1, plan.size))
    here.service.media.plan("node1", Medium.ISO, ROOT, first=False)
    assert synced == [log._file.descriptor] * 2
    assert used(here) == 1
