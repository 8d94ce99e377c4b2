"""A disk that fills up is told before it is full."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path

import pytest

from provision.api.status import Status
from provision.cli.operate import _show
from provision.service import complaints, space
from provision.service.complaints import Complaints
from provision.service.space import LEAST, Foresight, Space
from tests.helpers.cli_runner import cli
from tests.helpers.principals import ROOT
from tests.helpers.site_fixture import NOW, closed_site, site

BIG = 1 << 40


def test_little_space_is_told() -> None:
    assert Space(LEAST, BIG).warning is None
    assert Space(LEAST - 1, BIG).warning == "has 511 MiB left of 1048576; once it is full, nothing is released"
    assert Space(200 << 20, 1 << 30).warning is None, "a small disk has a smaller bound"
    assert Space(100 << 20, 1 << 30).warning


def test_growth_is_told() -> None:
    day = 1 << 30
    assert Space(14 * day, BIG, day).warning is None
    warning = Space(5 * day, BIG, day).warning
    assert warning == "is full in 5 days at the audit log's present growth of 1024 MiB a day"


def test_growth_is_of_the_last_day_and_needs_an_hour(tmp_path: Path) -> None:
    seen = Foresight(tmp_path)
    assert seen.look().growth is None
    seen.note(NOW, 0)
    seen.note(NOW + timedelta(minutes=30), 1 << 20)
    assert seen.look().growth is None
    seen.note(NOW + timedelta(minutes=60), 2 << 20)
    assert seen.look().growth == 48 << 20
    for hour in range(2, 60):
        seen.note(NOW + timedelta(hours=hour), 2 << 20)
    assert seen.look().growth == 0 and seen.look().free > 0
    for second in range(100_000):
        seen.note(NOW + timedelta(hours=60, seconds=second), second)
    assert len(seen._grown) <= 24 * 60 + 2
    seen.note(NOW, 5)
    assert len(seen._grown) == 1, "a clock that was set back begins anew"


def test_status_and_check_and_the_log_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with site(tmp_path) as here:
        assert here.service.reports.status(ROOT).warnings == ()
        monkeypatch.setattr(space, "LEAST", 1 << 60)
        monkeypatch.setattr(Foresight, "look", lambda _: Space(1 << 20, 1 << 40))
        (warning,) = here.service.reports.status(ROOT).warnings
        assert warning.startswith(f"{here.state}: has 1 MiB left") and "make room" in warning
        monkeypatch.setattr("provision.netcheck.check", lambda *_: [])
        assert [found.subject for found in here.service.inventories.check(None, ROOT)] == [str(here.state)]
        for _ in range(3):
            here.service.core.tick()
        assert caplog.text.count("has 1 MiB left") == 1, "once, and not every second"


def test_a_status_with_a_warning_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = closed_site(tmp_path)
    assert "WARNING" not in cli(state, "status").out
    monkeypatch.setattr(Foresight, "look", lambda _: Space(1 << 20, 1 << 40))
    ran = cli(state, "status")
    assert ran.code == 0 and "WARNING: " in ran.out and "MiB left" in ran.out
    assert cli(state, "status", "--json").json["warnings"]


def test_complaints_are_few_and_of_each_network(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    moment = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: moment[0])
    said = Complaints(logging.getLogger("provision.test"))
    for _ in range(50):
        said.error("guest", ValueError("broken"))
    said.error("mgmt", ValueError("broken"))
    assert [record.getMessage() for record in caplog.records] == ["broken", "broken"]
    moment[0] += complaints.EVERY
    said.error("guest", ValueError("still"))
    assert caplog.records[-1].getMessage() == "still (and 49 times more on network 'guest')"


def test_what_the_service_says_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    problems, warnings = ("[/bold] [red]a[/red]",), ("[/bold] [red]b[/red]",)
    said = Status(hosts=(), unknown=(), problems=problems, warnings=warnings)
    _show(said, as_json=False)
    shown = capsys.readouterr().out
    assert "ATTENTION: [/bold] [red]a[/red]" in shown and "WARNING: [/bold] [red]b[/red]" in shown
