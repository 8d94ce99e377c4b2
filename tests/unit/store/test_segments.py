"""The files of the audit log: it turns to new ones, lets the oldest go, and meddling with them is seen."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from provision.store import chain, segments
from provision.store.audit import Audit, Limits, verify
from provision.store.chain import Head
from provision.store.keys import Purpose
from tests.helpers.audit_samples import KEY, NOW, journal_of, lines

SMALL = Limits(size=1500, kept=100)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


def opened(path: Path, limits: Limits = SMALL) -> Audit:
    return Audit(path, KEY, clock=lambda: NOW, journal=journal_of(path), limits=limits)


def fill(path: Path, count: int = 40, limits: Limits = SMALL) -> None:
    log = opened(path, limits)
    for number in range(count):
        log.record({"event": "window-opened", "host": f"n{number}", "time": NOW}, durable=True)
    log.close()


def files(path: Path) -> list[Path]:
    return [one for _, one in segments.older(path)]


def everything(path: Path) -> list[dict[str, Any]]:
    return [line for one in [*files(path), path] for line in lines(one)]


def test_a_full_file_is_followed_by_one_that_goes_on(path: Path) -> None:
    fill(path)
    assert len(files(path)) >= 4 and all(1400 < one.stat().st_size < 2000 for one in files(path))
    found = everything(path)
    assert [line["seq"] for line in found] == list(range(1, len(found) + 1))
    for one in [*files(path), path][1:]:
        first = lines(one)[0]
        before = found[first["seq"] - 2]
        assert (first["event"], first["after"], first["previous"]) == ("segment", before["seq"], before["chain"])
    result = verify(path, KEY)
    assert result.ok and result.entries == len(found) and result.starts == 1
    log = opened(path)
    hosts = [f"n{n}" for n in range(40)]
    shown = [entry["host"] for entry in log.entries(limit=1000) if "host" in entry]
    assert shown == hosts
    assert [entry["seq"] for entry in log.entries(limit=15)] == [line["seq"] for line in found[-15:]]
    assert [entry["seq"] for entry in log.entries("n3")] == [4]
    for before in (1, 2, 5, 20, len(found), len(found) + 1):
        older = [line["seq"] for line in found if line["seq"] < before]
        assert [entry["seq"] for entry in log.entries(limit=3, before=before)] == older[-3:]
    assert log.entries("n3", before=4) == []
    assert log.verify().ok
    log.close()


def test_an_old_file_is_full_too(path: Path) -> None:
    now = NOW
    log = Audit(path, KEY, clock=lambda: now, journal=journal_of(path), limits=Limits(age=timedelta(days=2)))
    log.record({"event": "first"}, durable=True)
    log.flush(now + timedelta(days=1))
    assert not files(path)
    log.flush(now + timedelta(days=2))
    assert len(files(path)) == 1
    log.close()
    assert verify(path, KEY).ok


def test_a_log_of_one_file_without_a_header_is_taken_up(path: Path) -> None:
    """What an earlier version wrote: no header, no file of what is pending."""
    fill(path, 5, Limits())
    fill(path, 20)
    assert lines(files(path)[0])[0]["event"] == "window-opened"
    assert verify(path, KEY).ok and verify(path, KEY).entries == len(everything(path))


def test_the_oldest_go_and_the_log_says_so(path: Path) -> None:
    fill(path, 60, Limits(size=1500, kept=3))
    assert len(files(path)) == 3
    first = lines(files(path)[0])[0]["seq"]
    result = verify(path, KEY)
    assert result.ok and result.starts == first > 1
    removed = [line["last"] for line in everything(path) if line["event"] == "segment-removed"]
    assert removed[-1] == first - 1
    witness = Head(first - 1, lines(files(path)[0])[0]["previous"])
    assert verify(path, KEY, [witness]).ok, "the chain before is known from the header"
    assert verify(path, KEY, [Head(1, "0" * 64)]).ok, "and what is before it nobody can tell any more"
    assert not verify(path, KEY, [Head(first - 1, "0" * 64)]).ok
    last = lines(path)[-1]
    assert verify(path, KEY, [Head(last["seq"], last["chain"])]).ok


def swap(found: list[Path]) -> None:
    a, b = found[1].read_bytes(), found[2].read_bytes()
    found[1].write_bytes(b)
    found[2].write_bytes(a)


def rename(found: list[Path]) -> None:
    aside = found[0].with_name("aside")
    found[1].rename(aside)
    found[2].rename(found[1])
    aside.rename(found[2])


def remove(found: list[Path]) -> None:
    found[1].unlink()


def behead(found: list[Path]) -> None:
    found[0].unlink()


def truncate(found: list[Path]) -> None:
    found[1].write_bytes(b"".join(found[1].read_bytes().splitlines(True)[:-1]))


def empty(found: list[Path]) -> None:
    found[1].write_bytes(b"")


def replay(found: list[Path]) -> None:
    shutil.copy(found[0], found[0].with_name("audit.log.000000000999"))


def replay_over(found: list[Path]) -> None:
    shutil.copy(found[0], found[1])


def edit(found: list[Path]) -> None:
    content = found[1].read_bytes()
    found[1].write_bytes(content.replace(b'"minutes":60', b'"minutes":61').replace(b'"host":"n', b'"host":"m'))


def forge_header(found: list[Path]) -> None:
    """Remove the oldest, and let the header of the next say that it is the very first."""
    first, *rest = found[1].read_bytes().splitlines(True)
    fields = json.loads(first) | {"after": 0, "previous": "0" * 64}
    found[1].write_bytes(json.dumps(fields, separators=(",", ":")).encode() + b"\n" + b"".join(rest))
    found[0].unlink()


def cut_newest(found: list[Path]) -> None:
    newest = found[0].with_name("audit.log")
    newest.write_bytes(b"".join(newest.read_bytes().splitlines(True)[:1]))


def drop_newest(found: list[Path]) -> None:
    """The newest file is gone, and the one before it takes its place."""
    found[-1].rename(found[0].with_name("audit.log"))


@pytest.mark.parametrize(
    "change",
    [swap, rename, remove, behead, truncate, empty, replay, replay_over, edit, forge_header, cut_newest, drop_newest],
)
def test_meddling_with_files_is_seen(path: Path, change: Callable[[list[Path]], None]) -> None:
    fill(path, 43)
    assert verify(path, KEY).ok
    change(files(path))
    result = verify(path, KEY)
    assert not result.ok, change.__name__
    if change is behead:
        assert "the log starts at entry" in str(result.problem)


def test_a_removal_that_is_recorded_covers_no_other(path: Path) -> None:
    fill(path, 60, Limits(size=1500, kept=3))
    files(path)[0].unlink()
    assert "nothing says that they were removed" in str(verify(path, KEY).problem)


@pytest.mark.parametrize("step", ["link", "replace", "fsync", "write"])
def test_a_file_that_cannot_be_made_is_tried_again(path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    log = opened(path)

    def broken(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if step == "replace":
            patch.setattr(Path, "replace", broken)
        elif step == "write":
            patch.setattr(os, "open", broken)
        else:
            patch.setattr(os, step, broken)
        for number in range(20):
            log.record({"event": "x", "host": f"n{number}", "time": NOW}, durable=True)
    assert not files(path) and not path.with_name(".audit.log.new").exists()
    log.record({"event": "later", "time": NOW + timedelta(minutes=2)}, durable=True)
    log.close()
    assert len(files(path)) == 1 and verify(path, KEY).ok


def test_what_a_crash_leaves_of_a_turn_is_mended(path: Path) -> None:
    fill(path, 3)
    os.link(path, path.with_name("audit.log.000000000001"))
    path.with_name(".audit.log.new").write_bytes(b"half")
    log = opened(path)
    assert not files(path) and not path.with_name(".audit.log.new").exists()
    log.close()
    assert verify(path, KEY).ok
    fill(path, 20)
    first = lines(path)[0]
    before = Head(first["after"], first["previous"])
    path.with_suffix(".head").write_bytes(chain.encode_head(KEY.subkey(Purpose.AUDIT), before))
    opened(path).close()
    assert verify(path, KEY).ok, "the head file is one entry behind after a crash at the end of a turn"


def test_a_newest_file_that_is_gone_is_seen_after_a_restart(path: Path) -> None:
    fill(path, 40)
    path.unlink()
    opened(path).close()
    assert lines(path)[0]["event"] == "segment" and lines(path)[1]["rule"] == "cut"
    assert "the log was cut here" in str(verify(path, KEY).problem)


def test_verify_and_reading_go_on_while_files_turn_and_go(path: Path) -> None:
    log = opened(path, Limits(size=1500, kept=2))
    for number in range(60):
        log.record({"event": "x", "host": f"n{number}"}, durable=True)
        assert log.verify().ok
        assert log.entries(limit=1)[0]["seq"] >= number
    log.close()
