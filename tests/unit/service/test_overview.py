"""Hosts page by page, and a word for how each is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from provision.api.status import HostStatus
from provision.boot import Medium
from provision.errors import NotFound
from provision.principal import PrincipalRole
from provision.service import overview
from provision.service.grouping import Condition
from provision.service.overview import Wanted, judge
from tests.helpers.principals import ROOT, with_role
from tests.helpers.site_fixture import INVENTORY, NOW, Site, charged, origin, seed_url, site

SOME = replace(with_role(PrincipalRole.ADMIN), selector=(("rack", "a"),))


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as opened:
        yield opened


def names(here: Site, **wanted: Any) -> list[str]:
    return [line.name for line in here.service.overview.hosts(ROOT, Wanted(**wanted)).lines]


def test_hosts_are_found(here: Site) -> None:
    assert names(here) == ["node1", "node2", "node3"]
    assert names(here, text=" NODE2 ") == ["node2"]
    assert names(here, text="00:00:03") == ["node3"]
    assert names(here, label="rack") == names(here, label="rack", value="a") == ["node1", "node2"]
    assert names(here, label="rack", value="b") == names(here, label="row") == names(here, text="x") == []


def test_only_those_that_are_seen(here: Site) -> None:
    found = here.service.overview.hosts(SOME)
    assert [line.name for line in found.lines] == ["node1", "node2"] and found.total == 2
    for ask in (here.service.overview.host, here.service.overview.contents):
        with pytest.raises(NotFound):
            ask("node3", SOME)


def test_pages(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "PAGE", 2)
    first = here.service.overview.hosts(ROOT)
    assert (len(first.lines), first.previous, first.next, first.total) == (2, None, 2, 3)
    last = here.service.overview.hosts(ROOT, first=2)
    assert (len(last.lines), last.previous, last.next) == (1, 0, None)
    beyond = here.service.overview.hosts(ROOT, first=900)
    assert [line.name for line in beyond.lines] == ["node3"]


def test_a_page_asks_for_its_own_hosts_only(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    of_hosts = here.service.reports.of_hosts

    def noted(them: Iterable[str]) -> tuple[HostStatus, ...]:
        asked.extend(them)
        return of_hosts(asked)

    monkeypatch.setattr(overview, "PAGE", 1)
    monkeypatch.setattr(here.service.reports, "of_hosts", noted)
    here.service.overview.hosts(ROOT)
    assert asked == ["node1"]


def test_a_boot_that_goes_on_and_one_that_stopped(here: Site) -> None:
    here.window()
    assert here.service.overview.host("node1", ROOT).condition is Condition.READY
    here.service.netboot.seed(origin(), seed_url(here)).end()
    assert here.service.overview.host("node1", ROOT).condition is Condition.BOOTING
    here.clock.advance(minutes=11)
    here.service.windows.close("node1", ROOT)
    line = here.service.overview.host("node1", ROOT)
    assert line.condition is Condition.STUCK
    assert line.stuck is not None and line.stuck.rule == "window-closed"
    assert "'provision window node1'" in line.stuck.remedy


def test_a_boot_that_asks_no_more(here: Site) -> None:
    here.window(boots=2)
    charged(here.service.netboot.seed(origin(), seed_url(here)))
    here.clock.advance(minutes=11)
    stuck = here.service.overview.host("node1", ROOT).stuck
    assert stuck is not None and stuck.rule == "" and "console" in stuck.remedy


def test_hosts_in_a_condition(here: Site) -> None:
    here.window()
    assert names(here, condition=Condition.READY) == ["node1"]
    assert names(here, condition=Condition.IDLE, label="rack") == ["node2"]
    assert here.service.overview.names(SOME, Wanted(condition=Condition.IDLE)) == ("node2",)


def test_a_site_is_counted_as_far_as_it_is_seen(here: Site) -> None:
    here.window()
    found = here.service.overview.groups(ROOT, "")
    assert (found.label, found.labels, found.all.total) == ("rack", ("rack",), 3)
    assert [(group.value, dict(group.counts)) for group in found.groups] == [
        ("a", {Condition.READY: 1, Condition.IDLE: 1}),
        (None, {Condition.IDLE: 1}),
    ]
    assert here.service.overview.groups(SOME, "row").all.total == 2


@pytest.mark.parametrize(
    ("stage", "seen", "condition"),
    [
        ("up", None, Condition.UP),
        ("nothing", None, Condition.IDLE),
        ("seed", NOW.isoformat(), Condition.BOOTING),
        ("kernel", "2026-03-01T11:50:00+00:00", Condition.STUCK),
        ("kernel", "2026-03-01T12:30:00+00:00", Condition.STUCK),
        ("configuration", None, Condition.BOOTING),
    ],
)
def test_judging(stage: str, seen: str | None, condition: Condition) -> None:
    status = HostStatus(
        host="node1",
        stage=stage,
        parts={},
        medium=Medium.PXE,
        mac=None,
        network=None,
        started="2026-03-01T10:00:00+00:00",
        seen=seen,
        up=None,
        window=None,
        heard=None,
        alerts=(),
    )
    assert judge(status, NOW, timedelta(minutes=10)) is condition


def test_what_goes_on_slowly_is_not_stuck_and_the_settings_say_when_it_is(here: Site) -> None:
    here.window()
    here.service.netboot.seed(origin(), seed_url(here)).end()
    for _ in range(3):
        here.clock.advance(minutes=9)
        here.service.netboot.sent(origin(), "kernel", 0.5)
    assert here.service.overview.host("node1", ROOT).condition is Condition.BOOTING
    here.service.core.settings = here.service.core.settings.model_copy(update={"stuck_minutes": 20})
    here.clock.advance(minutes=19)
    assert here.service.overview.host("node1", ROOT).condition is Condition.BOOTING
    here.clock.advance(minutes=1)
    assert here.service.overview.host("node1", ROOT).condition is Condition.STUCK


def test_what_a_seed_contains_is_named(here: Site) -> None:
    found = here.service.overview.contents("node1", ROOT)
    assert {"/etc/hostname", "/etc/systemd/network/10-mgmt.network", "/etc/provision/host.json"} < set(found)
    assert "/etc/token" not in found


def test_networks(here: Site) -> None:
    assert here.service.overview.networks() == [
        ("mgmt", "management", "10.0.0.0/24"),
        ("office", "general", "10.1.0.0/24"),
    ]
    here.apply(INVENTORY.replace("    office: {role: general, prefix: 10.1.0.0/24, gateway: 10.1.0.1}\n", ""))
    assert len(here.service.overview.networks()) == 1
