"""What a person at a terminal sees while something takes its time."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress

from provision.cli import output
from tests.helpers.cli_runner import cli
from tests.helpers.site_fixture import MAC1, STRANGER, origin, site


def test_a_stage_that_is_done_shows_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    bars: list[Progress] = []

    class Kept(Progress):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            bars.append(self)

    monkeypatch.setattr(output, "Progress", Kept)
    with output.stages(quiet=True) as progress:
        (task,) = bars[0].tasks
        assert not task.visible
        for stage, part, shown in (("reading", 0.5, True), ("reading", 1.0, False), ("writing", 0.0, True)):
            progress(stage, part)
            assert (task.description, task.visible) == (stage, shown)


def test_watching_shows_what_status_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with site(tmp_path) as here:
        here.window()
        here.service.netboot.pxelinux_config(origin(MAC1), MAC1)
        here.service.netboot.pxelinux_config(origin(STRANGER), STRANGER)
    (here.state / "provision.toml").write_text("")
    plain = cli(here.state, "status").out
    assert STRANGER in plain
    screen = io.StringIO()

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(output, "out", Console(file=screen, force_terminal=True, width=160, height=60))
    monkeypatch.setattr("provision.cli.operate.time.sleep", interrupt)
    ran = cli(here.state, "status", "--watch")
    assert (ran.code, ran.err) == (130, "interrupted; nothing is left half-done\n")
    assert [word for word in plain.split() if word not in screen.getvalue()] == []
