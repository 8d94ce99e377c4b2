"""Every decision is on record before it is acted on, and outsiders cannot fill the record."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from ipaddress import IPv4Address
from operator import attrgetter
from typing import Any

import pytest

from provision.boot import Medium
from provision.errors import Denied, Unavailable
from provision.media.reader import Reader
from provision.secret import Secret
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
    everything,
    origin,
    seed_url,
    uncharged,
    used,
)


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


CHANGED = INVENTORY.replace("domain: example.test", "domain: changed.test")


def full(*args: Any, **kwargs: Any) -> None:
    raise Unavailable("/state/file", "cannot be written (No space left on device)")


def refusals(here: Site) -> list[bytes]:
    """What a machine gets that asks for a configuration, or for the medium of HTTP Boot from its start."""
    netboot = here.service.netboot
    plan = boot_iso(netboot, origin(), 0, everything)
    with Reader(plan) as reader:
        medium = reader.pread(0, plan.size)
    of_many = asyncio.run(netboot.pxelinux_config_of_many(origin(), MAC1))
    return [netboot.pxelinux_config(origin(), MAC1), of_many, netboot.grub_config(origin()), medium]


@pytest.mark.parametrize("broken", ["audit.record", "store.boots.begin_all"])
def test_a_machine_is_sent_to_its_disk(here: Site, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    here.window()
    part, _, method = broken.rpartition(".")
    monkeypatch.setattr(attrgetter(part)(here.service.core), method, full)
    for text in refusals(here):
        assert b"Not booting from the network" in text and b"(rule: unavailable)" in text
        assert CANARY not in text and b"/state" not in text and b"seed.cpio" not in text
    assert used(here) == 0


def test_without_an_audit_log_the_answer_is_no(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    here.window()
    revision = seed_url(here)
    monkeypatch.setattr(here.service.core.audit, "record", full)
    netboot = here.service.netboot
    calls: list[Callable[[], Any]] = [
        lambda: charged(netboot.seed(origin(), revision)),
        lambda: uncharged(netboot.seed(origin(), revision)),
        lambda: boot_iso(netboot, origin(), 4096, everything),
        lambda: here.service.media.plan("node1", Medium.ISO, ROOT),
        lambda: here.service.media.plan("node1", Medium.ISO, ROOT, first=False),
        lambda: here.service.windows.open("node1", 5, 5, ROOT),
        lambda: here.service.credentials.put("node1", "token", Secret(b"x"), None, None, ROOT),
        lambda: here.apply(CHANGED),
    ]
    for call in calls:
        with pytest.raises(Unavailable):
            call()
    assert used(here) == 0
    assert here.service.core.site.domain == "example.test"
