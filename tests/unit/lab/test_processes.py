"""Waiting for what a program prints: progress counts, and not the clock."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from provision.lab import processes
from provision.lab.lans import Lab
from provision.lab.processes import MOST_SECONDS, Patience, WaitFailed, plain, wait_for, wait_until


class Console:
    """A console that shows a text byte by byte, one each `pace` seconds of a clock that sleeping moves on."""

    def __init__(self, path: Path, text: bytes, pace: float) -> None:
        self.path, self.text, self.pace, self.now = path, text, pace, 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.path.write_bytes(self.text[: int(self.now / self.pace)])


def waited(monkeypatch: pytest.MonkeyPatch, console: Console, pattern: str, silence: float) -> re.Match[str]:
    monkeypatch.setattr(processes, "time", SimpleNamespace(monotonic=lambda: console.now, sleep=console.sleep))
    return wait_for(console.path, pattern, Patience(silence, console.path), "machine", lambda: True)


def test_a_slow_machine_is_waited_for_while_it_shows_something(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    console = Console(tmp_path / "console", b"SeaBIOS\niPXE\nlogin:", pace=9.0)
    assert waited(monkeypatch, console, "login:", silence=10.0)
    assert 160 < console.now < 175


def test_a_silent_machine_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    console = Console(tmp_path / "console", b"SeaBIOS", pace=1.0)
    with pytest.raises(WaitFailed, match="machine: did not print 'login:' and nothing else for 10 s; see ") as failure:
        waited(monkeypatch, console, "login:", silence=10.0)
    assert failure.value.tail == "SeaBIOS"
    assert 17 <= console.now < 18


def test_a_machine_that_starts_over_and_over_is_given_up_at_last(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    console = Console(tmp_path / "console", b"SeaBIOS\n" * 10_000, pace=1.0)
    with pytest.raises(WaitFailed, match=f"did not print 'login:' within {MOST_SECONDS:.0f} s"):
        waited(monkeypatch, console, "login:", silence=10.0)
    assert MOST_SECONDS < console.now < MOST_SECONDS + 1


@pytest.mark.parametrize("ends", [True, False])
def test_what_others_see_is_waited_for_while_the_console_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ends: bool
) -> None:
    console = Console(tmp_path / "console", b"SeaBIOS\niPXE\n", pace=9.0)
    monkeypatch.setattr(processes, "time", SimpleNamespace(monotonic=lambda: console.now, sleep=console.sleep))
    patience = Patience(10.0, console.path)
    up = lambda: ends and console.now >= 110.0  # noqa: E731
    if ends:
        wait_until(up, patience, "machine", "say that it is up", console.path, 1.0)
        return
    with pytest.raises(WaitFailed, match="machine: did not say that it is up, and showed nothing new") as failure:
        wait_until(up, patience, "machine", "say that it is up", console.path, 1.0)
    assert failure.value.tail == "SeaBIOS\niPXE"
    assert 126 < console.now < 130


def test_any_of_the_files_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(processes, "time", SimpleNamespace(monotonic=lambda: clock.now))
    console, report = tmp_path / "console", tmp_path / "report"
    patience = Patience(10.0, console, report)
    for file in (console, report, console):
        clock.now += 9.0
        file.write_bytes(bytes(int(clock.now)))
        assert patience.ended() == ""
    clock.now += 11.0
    assert patience.ended() == "and nothing else for 10 s"


@pytest.mark.integration
def test_a_program_that_computes_is_waited_for_and_one_that_sleeps_is_not(lab: Lab) -> None:
    computes = "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done; echo done"
    assert lab.spawn(None, ["dash", "-c", computes], package="dash").wait_for("done", 0.5)
    sleeper = lab.spawn(None, ["sleep", "60"], package="coreutils")
    with pytest.raises(WaitFailed, match="and nothing else for 0 s"):
        sleeper.wait_for("done", 0.4)


@pytest.mark.integration
def test_what_an_earlier_program_printed_into_its_log_is_not_this_one_s(lab: Lab) -> None:
    for text in ("one", "two", "three"):
        process = lab.spawn(None, ["echo", text], package="coreutils", log="p.log")
        process.wait_for(text)
        assert process.text == f"{text}\n"
    assert (lab.directory / "p.log").read_text() == "one\ntwo\nthree\n"


@pytest.mark.integration
def test_waiting_for_a_process_says_what_it_printed_last(lab: Lab) -> None:
    process = lab.spawn(None, ["sh", "-c", "echo one; echo two; exit 3"], package="dash", log="p.log")
    with pytest.raises(WaitFailed, match="ended without printing 'three'") as failure:
        process.wait_for("three", 5)
    assert failure.value.tail == "one\ntwo"
    assert "\n" not in str(failure.value)


def test_escape_sequences_are_left_out_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(
        b"\x1bc\x1b[2J\x1b[01;01H\x1b[0m\x1b[37m>>Start PXE\r\n"
        b"\x1b(B\x1b[m\x1b]104\x1b\\\x1b]0;a title\x07\xff done\0\r\nCtrl-B\x08\x08 \x08\r\n"
    )
    assert plain(log) == ">>Start PXE\n\ufffd done\nCtrl-B \n"
    assert plain(tmp_path / "none") == ""
