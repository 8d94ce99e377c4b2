"""Every entry is read once and in order, over all files, while the log goes on."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from provision.errors import Unavailable
from provision.store import segments
from provision.store.audit import Audit, Limits
from provision.store.following import Following
from tests.helpers.audit_samples import KEY, NOW, journal_of

SMALL = Limits(size=1500, kept=100)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


def opened(path: Path, limits: Limits = SMALL) -> Audit:
    return Audit(path, KEY, clock=lambda: NOW, journal=journal_of(path), limits=limits)


def fill(log: Audit, count: int) -> None:
    for number in range(count):
        log.record({"event": "window-opened", "host": f"n{number}", "time": NOW}, durable=True)


def numbers(following: Following, log: Audit, most: int = 1000) -> list[int]:
    return [entry["seq"] for entry in following.read(log.sequence, most)]


def test_every_entry_comes_once_over_all_files(path: Path) -> None:
    log = opened(path)
    fill(log, 40)
    assert len(segments.older(path)) > 3
    following = Following(path, 0)
    assert numbers(following, log) == list(range(1, log.sequence + 1))
    assert numbers(following, log) == []


@pytest.mark.parametrize("most", [1, 3, 1000])
def test_reading_goes_on_while_files_turn(path: Path, most: int) -> None:
    log, found = opened(path), list[int]()
    following = Following(path, 0)
    for _ in range(30):
        fill(log, 3)
        found += numbers(following, log, most)
    while more := numbers(following, log, most):
        found += more
    assert found == list(range(1, log.sequence + 1))


@pytest.mark.parametrize("after", [0, 1, 7, 8, 9, 20, 39, 40, 41])
def test_it_begins_anywhere(path: Path, after: int) -> None:
    log = opened(path)
    fill(log, 40)
    assert numbers(Following(path, after), log) == list(range(after + 1, log.sequence + 1))


def test_what_may_be_taken_back_is_not_read(path: Path) -> None:
    log = opened(path, Limits())
    fill(log, 5)
    following = Following(path, 0)
    assert [entry["seq"] for entry in following.read(3, 1000)] == [1, 2, 3]
    assert numbers(following, log) == [4, 5]


def test_half_a_line_is_read_when_it_is_whole(path: Path) -> None:
    log = opened(path, Limits())
    fill(log, 2)
    whole = path.read_bytes()
    copy = path.with_name("copy.log")
    copy.write_bytes(whole[:-10])
    following = Following(copy, 0)
    assert numbers(following, log) == [1]
    copy.open("ab").write(whole[-10:])
    assert numbers(following, log) == [2]


def test_entries_that_are_kept_no_longer_are_left_out(path: Path) -> None:
    log = opened(path, Limits(size=1500, kept=2))
    following = Following(path, 0)
    fill(log, 60)
    found = numbers(following, log)
    assert found[0] > 1 and found == list(range(found[0], log.sequence + 1))


def test_a_file_that_is_removed_while_it_is_read_is_read_to_its_end(path: Path) -> None:
    log = opened(path, Limits(size=1500, kept=1))
    fill(log, 3)
    following = Following(path, 0)
    assert numbers(following, log, 1) == [1]
    fill(log, 60)
    found = numbers(following, log)
    assert found[:2] == [2, 3] and found[-1] == log.sequence


@pytest.mark.parametrize("last", [b"damaged\n", b"x" * 100_000 + b"\n", b"torn", b""])
def test_a_damaged_end_of_a_file_that_was_left_is_left_behind(path: Path, last: bytes) -> None:
    log = opened(path)
    fill(log, 40)
    number, whole = segments.older(path)[1]
    lines = whole.read_bytes().splitlines(keepends=True)
    whole.write_bytes(b"".join(lines[:-1]) + last)
    lost = number + len(lines) - 1
    following, found = Following(path, 0), list[int]()
    for _ in range(100):
        found += numbers(following, log, 7)
    assert found == [seq for seq in range(1, log.sequence + 1) if seq != lost]
    fill(log, 1)
    assert numbers(following, log) == [log.sequence]


def test_what_was_taken_back_is_never_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = opened(path, Limits())
    fill(log, 4)
    following = Following(path, 0)
    assert numbers(following, log) == [1, 2, 3, 4]
    seen: list[str | None] = []

    def full(_: int) -> None:
        seen.extend(entry.get("host") for entry in following.read(4, 1000))
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as broken, pytest.raises(Unavailable):
        broken.setattr(os, "fdatasync", full)
        log.record({"event": "window-opened", "host": "taken-back", "time": NOW}, durable=True)
    log.record({"event": "window-closed", "host": "another-name", "time": NOW}, durable=True)
    seen.extend(entry.get("host") for entry in following.read(log.sequence, 1000))
    assert seen == ["another-name"]


def test_what_was_read_in_advance_and_taken_back_is_never_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = opened(path, Limits())
    fill(log, 5)
    following, seen = Following(path, 0), list[str | None]()

    def full(_: int) -> None:
        seen.extend(entry.get("host") for entry in following.read(5, 1000))
        raise OSError(errno.ENOSPC, "no space")

    assert [entry["seq"] for entry in following.read(4, 1000)] == [1, 2, 3, 4]
    with monkeypatch.context() as broken, pytest.raises(Unavailable):
        broken.setattr(os, "fdatasync", full)
        log.record({"event": "window-opened", "host": "taken-back", "time": NOW}, durable=True)
    log.record({"event": "window-closed", "host": "another-name", "time": NOW}, durable=True)
    seen.extend(entry.get("host") for entry in following.read(log.sequence, 1000))
    assert seen == ["n4", "another-name"]
