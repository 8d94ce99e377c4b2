"""The systemd units of the daily build: systemd takes them, and their commands are real and in the right order."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.helpers.cli_runner import cli
from tests.helpers.paths import ROOT
from tests.helpers.sandbox import directives
from tests.integration.server.test_service_unit import EXPOSURE, PROGRAM, analyze

TEMPLATES = ROOT / "templates" / "systemd"
SERVICE = TEMPLATES / "provision-image.service"
TIMER = TEMPLATES / "provision-image.timer"


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """The units with programs that exist here, so that only the units themselves can be wrong."""
    for unit in (SERVICE, TIMER):
        text = unit.read_text().replace(PROGRAM, "/bin/true").replace("/usr/bin/apt-get", "/bin/true")
        (tmp_path / unit.name).write_text(text)
    return [tmp_path / SERVICE.name, tmp_path / TIMER.name]


def test_systemd_takes_them(units: list[Path]) -> None:
    done = analyze("verify", *units)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    units[1].write_text(units[1].read_text().replace("03:00", "25:00"))
    assert analyze("verify", *units).stderr


def test_what_builds_is_hardened(units: list[Path]) -> None:
    done = analyze("security", "--offline=true", f"--threshold={EXPOSURE}", units[0])
    assert done.returncode == 0, done.stdout[-200:]
    said = directives(SERVICE)
    assert (said["CapabilityBoundingSet"], said["User"], said["Type"]) == ([""], ["provision-image"], ["oneshot"])


def test_the_steps_are_in_order_and_only_what_must_be_is_root() -> None:
    said = directives(SERVICE)
    steps = [*said["ExecStartPre"], *said["ExecStart"]]
    assert [step.startswith("+") for step in steps] == [True, False, True, False]
    words = [shlex.split(step.lstrip("+")) for step in said["ExecStart"]]
    assert [(w[0], w[1], w[2]) for w in words] == [(PROGRAM, "image", w) for w in ("build", "probe", "publish")]
    candidate = "%S/provision-image/candidate"
    assert all(candidate in step for step in words)
    assert not [step for step in steps if step.startswith("-")], "a step that fails ends it"
    assert not {"Restart", "SuccessExitStatus"} & said.keys()


def test_every_step_is_a_command_line_that_is_taken(tmp_path: Path) -> None:
    """With a file in the place of every directory each fails for that reason, not for its words."""
    (tmp_path / "provision-image").write_text("")
    for step in directives(SERVICE)["ExecStart"]:
        words = shlex.split(step.lstrip("+").replace("%S", str(tmp_path)))[1:]
        ran = cli(tmp_path / "state", *words)
        assert ran.code in (5, 7) and "provision-image" in ran.err, (words, ran)
