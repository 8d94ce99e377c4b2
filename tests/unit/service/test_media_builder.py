"""Seeds and media are of one revision, and nothing is opened or made without a release."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import Any

import pytest

from provision.boot import OPERATOR, Copy, Medium, Requester
from provision.errors import Conflict, Denied, Gone, Invalid
from provision.media import identity
from provision.media.plan import Plan
from provision.media.reader import Reader
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import (
    CANARY,
    INVENTORY,
    MAC1,
    MAC2,
    Site,
    boot_iso,
    charged,
    deny_all,
    everything,
    origin,
    seed_url,
    used,
)

CHANGED = INVENTORY.replace("domain: example.test", "domain: changed.test")


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
    with pytest.raises(Gone, match="just changed"):
        charged(here.service.netboot.seed(origin(), revision))
    assert used(here) == 0


def test_the_same_input_gives_the_same_bytes(here: Site) -> None:
    here.window()
    netboot = here.service.netboot
    one, two = (boot_iso(netboot, origin(), 0, everything) for _ in range(2))
    with Reader(one) as a, Reader(two) as b:
        assert a.digest() == b.digest()
    assert one.etag == two.etag


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


def on_disk(here: Site, plan: Plan) -> tuple[bytes, bytes]:
    """What a plan puts into the two slots of a disk: the configuration partition's beginning, and GRUB's commands."""
    slots = here.base.disk.slots
    with Reader(plan) as reader:
        return tuple(reader.pread(slots[name].offset, slots[name].size) for name in ("identity", "grub.cfg"))  # type: ignore[return-value]


def test_a_disk_has_its_seed_where_the_host_keeps_it(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = here.service.media.plan("node1", Medium.DISK, ROOT)
    start, commands = on_disk(here, plan)
    copy = identity.newest(start.ljust(2 * len(start), b"\0"))
    assert copy is not None and (copy.place, copy.sequence) == (0, 1) and CANARY in copy.content
    sectors = len(copy.content) // 512
    assert f"if initrd /boot/initrd0.img ($disk,gpt3)8+{sectors}; then".encode() in commands
    assert plan.seed == (here.base.disk.slots["identity"].offset,), "its bytes are counted as secret"
    able = replace(here.base, features=("identity",))
    monkeypatch.setattr(here.service.core, "base_of", lambda host: able)
    monkeypatch.setattr(here.service.media._builder, "_plans", OrderedDict())
    again, commands = on_disk(here, here.service.media.plan("node1", Medium.DISK, ROOT))
    assert again == start and b"if initrd /boot/initrd0.img; then" in commands, "the image finds it by itself"


def test_a_base_of_an_earlier_release_gives_no_disk(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    slots = {("seed" if name == "identity" else name): slot for name, slot in here.base.disk.slots.items()}
    earlier = replace(here.base, disk=replace(here.base.disk, slots=slots))
    monkeypatch.setattr(here.service.core, "base_of", lambda host: earlier)
    with pytest.raises(Conflict, match=r"before disk images had two slots.*import it again"):
        here.service.media.plan("node1", Medium.DISK, ROOT)
    here.service.media.plan("node1", Medium.ISO, ROOT)


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
