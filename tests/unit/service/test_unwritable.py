"""A service whose audit log or store cannot be written gives nothing away, and says so where a console shows it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from provision.boot import Medium
from provision.errors import Unavailable
from provision.media.reader import Reader
from provision.secret import Secret
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import (
    CANARY,
    INVENTORY,
    MAC1,
    Site,
    boot_iso,
    charged,
    everything,
    origin,
    seed_url,
    site,
    uncharged,
    used,
)

CHANGED = INVENTORY.replace("domain: example.test", "domain: changed.test")


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        opened.window()
        yield opened


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
    part, _, method = broken.rpartition(".")
    monkeypatch.setattr(attrgetter(part)(here.service.core), method, full)
    for text in refusals(here):
        assert b"Not booting from the network" in text and b"(rule: unavailable)" in text
        assert CANARY not in text and b"/state" not in text and b"seed.cpio" not in text
    assert used(here) == 0


def test_without_an_audit_log_the_answer_is_no(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
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
