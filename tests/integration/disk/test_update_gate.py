"""The host's gate: an image on trial is kept when it proves itself, and left when it does not."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provision.slots import Doing, parse
from tests.helpers.host_programs import load
from tests.helpers.slotted_disk import OLD, Disk
from tests.helpers.update_programs import DESCRIPTION, NEW, REPORT, Server, Taking

GATE: Any = load("update-gate")


class Machine:
    """What the gate looks at, and what it did."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.system, self.libvirt, self.did = "running", True, []
        self.heard = tmp_path / "heard"
        monkeypatch.setattr(GATE, "run", self.run)
        monkeypatch.setattr(GATE, "HEARD", str(self.heard))

    did: list[str]

    def run(self, *command: str) -> tuple[str, bool]:
        if command[0] == "virsh":
            return "", self.libvirt
        if "is-system-running" in command:
            return self.system, self.system == "running"
        if "--failed" in command:
            return ("x.service loaded failed failed X" if self.system == "degraded" else ""), True
        self.did.append(" ".join((command[0], *command[-1:])))
        return "", True


@pytest.fixture
def gated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, disk: Disk, take: Taking, consoles: list[str]) -> Machine:
    """The host has started from the slot on trial."""
    take(Server())
    disk.starts()
    return Machine(monkeypatch, tmp_path)


def prove(seconds: float = 0.05) -> list[str]:
    said: list[str] = []
    GATE.prove(REPORT.look(), seconds, lambda _, doing: said.append(doing), 0.01, 0)
    return said


def test_a_slot_that_proves_itself_is_kept(disk: Disk, gated: Machine) -> None:
    gated.heard.touch()
    assert prove() == [f"trying {NEW}", "idle"]
    assert (disk.default, disk.trying) == ("b", None)
    assert gated.did == ["busctl 60000000", "busctl 0"], "the watchdog watches for as long as nothing is proved"


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ({"system": "degraded"}, "systemd is degraded: x.service"),
        ({"system": "starting"}, "systemd is starting"),
        ({"system": ""}, "systemd is silent"),
        ({"libvirt": False}, "libvirt does not answer"),
        ({}, "the server has not answered"),
    ],
)
def test_one_that_does_not_is_left_at_once(
    disk: Disk, gated: Machine, broken: dict[str, Any], why: str, consoles: list[str]
) -> None:
    for name, value in broken.items():
        gated.heard.touch()
        setattr(gated, name, value)
    assert prove() == [f"trying {NEW}", f"failed {NEW} 1 {why}"]
    assert gated.did == ["busctl 60000000", "systemctl reboot"] and why in consoles[-1]
    assert (disk.default, disk.trying) == ("a", "b")
    disk.starts()
    found = REPORT.look()
    assert (found.running, found.is_unproven) == ("a", False)
    report = parse(f"a a {OLD} {NEW} {REPORT.settled(found)}")
    assert report is not None and (report.doing, report.version, report.attempt) == (Doing.FAILED, NEW, 1)


def test_one_that_cannot_be_kept_says_so_and_is_left(
    disk: Disk, gated: Machine, monkeypatch: pytest.MonkeyPatch, consoles: list[str]
) -> None:
    def full(*arguments: str) -> str:
        if arguments == ("commit",):
            disk.done.append("in vain")
            raise OSError("unified-slots: [Errno 28] No space left on device")
        return disk(*arguments)

    gated.heard.touch()
    monkeypatch.setattr(REPORT, "slots", full)
    why = "it cannot be kept: unified-slots: Errno 28 No space left on device"
    *_, last = said = prove()
    assert said[0] == f"trying {NEW}" and re.sub(" +", " ", last) == f"failed {NEW} 1 {why}"
    assert parse(f"b a {OLD} {NEW} {last}") is not None
    assert gated.did == ["busctl 60000000", "systemctl reboot"] and "cannot be kept" in consoles[-1]
    assert "in vain" in disk.done
    disk.starts()
    assert REPORT.look().running == "a"


def test_one_that_can_be_kept_at_last_is_kept(disk: Disk, gated: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = [OSError("slots: the disk is busy")]

    def busy(*arguments: str) -> str:
        if arguments == ("commit",) and errors:
            raise errors.pop()
        return disk(*arguments)

    gated.heard.touch()
    monkeypatch.setattr(REPORT, "slots", busy)
    assert prove(60) == [f"trying {NEW}", "idle"] and disk.default == "b"


def test_an_image_that_cannot_read_its_own_slot_leaves_no_word_that_the_server_would_not_take(
    disk: Disk, tmp_path: Path
) -> None:
    found, said = REPORT.look(), tmp_path / "said"
    REPORT.say(found, "idle", said)
    assert parse(said.read_text()) is not None
    said.unlink()
    REPORT.say(replace(found, versions={"a": REPORT.Version(), "b": REPORT.Version()}), "trying ", said)
    assert not said.exists()


def test_one_that_cannot_even_be_started_has_failed(disk: Disk, take: Taking) -> None:
    take(Server())
    assert REPORT.settled(REPORT.look()) == "idle"
    disk.starts()
    disk.running = "a"
    assert REPORT.settled(REPORT.look()) == f"failed {NEW} 1 it did not prove itself"
    with pytest.raises(DESCRIPTION.Refused, match="has failed on this host"):
        take(Server())


def test_the_watchdog_of_a_signed_image_is_ended_also_where_nothing_is_tried(
    disk: Disk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its arguments, which start it, are the same on trial and not."""
    machine, said = Machine(monkeypatch, tmp_path), list[str]()
    monkeypatch.setattr(REPORT, "say", lambda found, doing: said.append(doing))
    for unified, running, expected in ((False, "a", []), (True, "a", ["busctl 0"]), (True, "none", ["busctl 0"] * 2)):
        monkeypatch.setattr(REPORT, "is_unified", lambda unified=unified: unified)
        disk.running = running
        GATE.main()
        assert machine.did == expected
    assert said == ["idle", "idle"]


def test_the_limit_is_in_the_kernels_arguments(tmp_path: Path) -> None:
    for text, expected in (("quiet", 600), ("quiet provision.gate=90\n", 90), ("xprovision.gate=5", 600)):
        (tmp_path / "cmdline").write_text(text)
        assert GATE.limit(tmp_path / "cmdline") == expected
