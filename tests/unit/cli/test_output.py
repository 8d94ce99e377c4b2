"""What a person at a terminal sees while something takes its time."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
from rich import progress
from rich.console import Console, ConsoleDimensions

from provision.cli import output
from tests.helpers.cli_runner import Terminal, cli
from tests.helpers.site_fixture import MAC1, STRANGER, closed_site, origin, site


def test_a_stage_that_is_done_shows_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    bars: list[progress.Progress] = []

    class Kept(progress.Progress):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            bars.append(self)

    monkeypatch.setattr(progress, "Progress", Kept)
    monkeypatch.setattr("sys.stderr", Terminal())
    with output.stages(quiet=False) as advance:
        (task,) = bars[0].tasks
        assert not task.visible
        for stage, part, shown in (("reading", 0.5, True), ("reading", 1.0, False), ("writing", 0.0, True)):
            advance(stage, part)
            assert (task.description, task.visible) == (stage, shown)


def test_a_log_gets_a_line_for_each_stage_where_that_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    seen = (("reading", 0.0), ("reading", 0.5), ("writing", 0.9), ("writing", 1.0), ("done", 1.0))
    for quiet, lines in ((False, True), (False, False), (True, True)):
        with output.stages(quiet, lines=lines) as advance:
            for stage, part in seen:
                advance(stage, part)
    assert capsys.readouterr() == ("", "reading\nwriting\n")


def test_watching_shows_what_status_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with site(tmp_path) as here:
        here.window()
        here.service.netboot.pxelinux_config(origin(MAC1), MAC1)
        here.service.netboot.pxelinux_config(origin(STRANGER), STRANGER)
    (here.state / "provision.toml").write_text("")
    plain = cli(here.state, "status").out
    assert STRANGER in plain
    told = {words[0]: line for line in plain.splitlines() if (words := line.split())}
    assert "has begun to boot" in told["node1"]
    assert "has not asked for anything yet" in told["node2"]

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("provision.cli.operate.time.sleep", interrupt)
    monkeypatch.setattr(Console, "size", ConsoleDimensions(160, 60))
    ran = cli(here.state, "status", "--watch", terminal=True)
    assert (ran.code, ran.err) == (130, "interrupted; nothing is left half-done\n")
    assert [word for word in plain.split() if word not in ran.out] == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2027-02-27T11:40:19.740718+00:00", "2027-02-27T11:40:19Z"),
        ("2027-02-27T11:40:19.740Z", "2027-02-27T11:40:19Z"),
        ("2027-02-27T11:40:19+00:00", "2027-02-27T11:40:19Z"),
        ("2027-02-27T11:40:19+02:00", "2027-02-27T11:40:19+02:00"),
        ("1.5", "1.5"),
    ],
)
def test_a_moment_is_shown_to_the_second(text: str, shown: str) -> None:
    assert output.moment(text) == shown


def test_how_often_is_said_in_words() -> None:
    assert (output.times(1), output.times(2)) == ("once", "2 times")


@pytest.mark.parametrize(("option", "kept"), [((), ""), (("--resume",), ", except what --resume keeps")])
def test_an_interrupted_download_says_what_it_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: tuple[str, ...], kept: str
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("provision.cli.download._fetch", interrupt)
    ran = cli(closed_site(tmp_path), "iso", "node1", "-o", tmp_path / "node1.iso", *option)
    assert (ran.code, ran.err) == (130, f"interrupted; nothing is left half-done{kept}\n")


def test_a_pipe_gets_each_line_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(raw)))
    output.say("the machine is on")
    assert raw.getvalue() == b"the machine is on\n"
    output.text("a table")
    output.data([1])
    assert raw.getvalue().endswith(b"a table\n[\n  1\n]\n")
