"""The audit log: nothing is written over, lost or changed without being seen."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from provision.boot import Medium
from provision.errors import Unavailable
from provision.secret import Secret
from provision.store import audit as audits
from provision.store.audit import Audit, verify
from provision.store.journal import Journal
from provision.store.keys import Purpose
from provision.store.repeats import MAX_REPEATS
from tests.helpers.audit_samples import DENIAL, KEY, NOW, SECOND, fill, lines, opened
from tests.helpers.paths import ROOT


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


def test_a_line(path: Path) -> None:
    log = opened(path)
    log.record(
        DENIAL | {"time": NOW, "medium": Medium.PXE, "operator": None, "count": 3, "reason": 'a "b"\nc'}, durable=True
    )
    log.close()
    (line,) = lines(path)
    assert re.fullmatch("[0-9a-f]{64}", line.pop("chain"))
    assert line == {
        "seq": 1,
        "time": "2026-03-01T12:00:00.000000Z",
        "event": "decision",
        "host": "n1",
        "medium": "pxe",
        "answer": "denied",
        "rule": "window-closed",
        "count": 3,
        "reason": 'a "b"\nc',
    }
    assert {stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()} == {0o600}
    assert len(list(path.parent.iterdir())) == 2


def test_the_chain_is_what_the_format_says(path: Path) -> None:
    fill(path)
    previous = bytes(32)
    for line in path.read_bytes().splitlines():
        body, mark, last = line.rpartition(b',"chain":"')
        expected = hmac.new(KEY.subkey(Purpose.AUDIT).reveal(), previous + body + b"}", hashlib.sha256)
        assert mark and last == expected.hexdigest().encode() + b'"}'
        previous = expected.digest()


def test_entries(path: Path) -> None:
    fill(path)
    log = opened(path)
    assert [e["host"] for e in log.entries(limit=2)] == ["n3", "n4"]
    assert [e["seq"] for e in log.entries("n2")] == [3]
    assert "chain" not in log.entries()[0]
    log.close()


@pytest.mark.parametrize("event", [{"password": "x"}, {"host": Secret(b"x")}, {"host": b"x"}, {"reason": ["x"]}])
def test_only_known_fields(path: Path, event: dict[str, Any]) -> None:
    log = opened(path)
    with pytest.raises(ValueError, match="the audit log"):
        log.record(event)
    log.close()
    assert path.read_bytes() == b""


def test_long_text_is_cut(path: Path) -> None:
    log = opened(path)
    log.record({"reason": "x" * 100_000})
    with pytest.raises(Unavailable, match="takes no entry of"):
        log.record(dict.fromkeys(sorted(audits.FIELDS - {"time"}), "\0" * 500))
    log.record({"event": "after"})
    log.close()
    assert len(lines(path)[0]["reason"]) == 513 and verify(path, KEY).entries == 2 and verify(path, KEY).ok


def test_repeats_are_counted(path: Path) -> None:
    log = opened(path)
    for second in range(50):
        log.record(DENIAL | {"time": NOW + second * SECOND})
    assert len(lines(path)) == 1, "the first is written at once"
    log.record(DENIAL | {"time": NOW, "host": "n2"})
    assert [line["host"] for line in lines(path)] == ["n1", "n2"], "another one is no repeat"
    log.flush(NOW + 59 * SECOND)
    assert len(lines(path)) == 2
    log.flush(NOW + 60 * SECOND)
    counted = lines(path)[2]
    assert (counted["host"], counted["count"], counted["since"]) == ("n1", 49, "2026-03-01T12:00:00.000000Z")
    assert len(lines(path)) == 3, "n2 was not repeated"
    log.record(DENIAL | {"time": NOW + 61 * SECOND})
    assert len(lines(path)) == 4, "a new minute begins with a line"
    log.record(DENIAL | {"time": NOW + 62 * SECOND})
    log.close()
    assert lines(path)[4]["count"] == 1 and verify(path, KEY).ok


def test_a_later_event_ends_a_minute_too(path: Path) -> None:
    log = opened(path)
    for second in (0, 1, 70):
        log.record(DENIAL | {"time": NOW + second * SECOND})
    assert [line.get("count") for line in lines(path)] == [None, 1, None]
    log.close()


def test_durable_events_are_never_counted(path: Path) -> None:
    log = opened(path)
    for _ in range(3):
        log.record(DENIAL | {"time": NOW}, durable=True)
    assert len(lines(path)) == 3
    log.close()


def test_repeats_are_bounded(path: Path) -> None:
    log = opened(path)
    for number in range(MAX_REPEATS + 50):
        for _ in range(2):
            log.record({"host": f"n{number}", "time": NOW})
    assert len(log._repeats.rows()) <= MAX_REPEATS + 1
    log.close()
    assert sum(line.get("count", 1) for line in lines(path)) == 2 * (MAX_REPEATS + 50)


def test_durable_is_on_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fdatasync

    def sync(descriptor: int) -> None:
        real(descriptor)
        synced.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, "fdatasync", sync)
    log = opened(path)
    log.record({"event": "a"})
    assert synced == []
    log.record({"event": "b"}, durable=True)
    assert synced == [path.stat().st_size]
    log.close()


def test_what_is_durable_later_is_on_disk_once_it_is_settled(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    log = opened(path)
    log.record({"event": "a"}, durable=True, later=True)
    log.record({"event": "b"}, durable=True, later=True)
    assert synced == []
    log.settle()
    assert synced == [path.stat().st_size]
    # What is counted rests on an entry that is on disk, so that one waits itself.
    log.record(DENIAL | {"time": NOW}, durable=True, counted=True, later=True)
    assert synced == [*synced[:1], path.stat().st_size]

    def broken(_fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)
    log.record({"event": "c"}, durable=True, later=True)
    with pytest.raises(Unavailable, match="Input/output error"):
        log.settle()
    monkeypatch.undo()
    log.close()
    assert verify(path, KEY).ok


def test_what_is_begun_meanwhile_comes_between_file_and_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    log = opened(path)
    before = path.stat().st_size

    def written() -> None:
        steps.append("written" if path.stat().st_size > before else "too early")

    monkeypatch.setattr(os, "fdatasync", lambda _: steps.append("synced"))
    for _ in range(3):
        log.record(DENIAL | {"time": NOW}, durable=True, counted=True, written=written)
    assert steps == ["written", "synced"], "what is counted only begins nothing"
    monkeypatch.setattr(os, "write", lambda fd, data: 0)
    with pytest.raises(Unavailable):
        log.record({"event": "b", "time": NOW}, durable=True, written=written)
    assert steps == ["written", "synced"], "what was not written begins nothing"
    monkeypatch.undo()
    log.close()


# Faults


def test_a_torn_line_is_moved_aside(path: Path) -> None:
    fill(path, 2)
    for number, torn in enumerate((b'{"seq":3,"time":"2026', b"\0" * 300), 1):
        with path.open("ab") as file:
            file.write(torn)
        opened(path).close()
        aside = path.with_name(f"audit.log.torn-{number}")
        assert aside.read_bytes() == torn and stat.S_IMODE(aside.stat().st_mode) == 0o600
    assert [line["event"] for line in lines(path)] == ["window-opened"] * 2 + ["recovered"] * 2
    assert verify(path, KEY).ok, "a crash is no tampering"


def test_the_first_line_torn(path: Path) -> None:
    path.write_bytes(b'{"seq":1')
    opened(path).close()
    assert [line["event"] for line in lines(path)] == ["recovered"] and verify(path, KEY).ok


def replaced(path: Path) -> None:
    path.with_name("new").write_bytes(path.read_bytes())
    path.with_name("new").rename(path)


@pytest.mark.parametrize(
    "interfere",
    [replaced, Path.unlink, lambda p: os.truncate(p, 10), lambda p: os.truncate(p, 10**6)],
    ids=["replaced", "removed", "cut", "grown"],
)
@pytest.mark.parametrize("durable", [True, False])
def test_interference_means_no(path: Path, interfere: Callable[[Path], None], durable: bool) -> None:
    log = opened(path)
    log.record(DENIAL)
    interfere(path)
    content = path.read_bytes() if path.exists() else b""
    for event in (DENIAL, {"event": "other"}):
        with pytest.raises(Unavailable, match=r"audit\.log: the audit log (was|is|has)"):
            log.record(event, durable=durable)
    assert (path.read_bytes() if path.exists() else b"") == content


def test_a_closed_log_means_no(path: Path) -> None:
    log = opened(path)
    log.close()
    log.close()
    with pytest.raises(Unavailable, match="is closed"):
        log.record(DENIAL)


def test_a_failed_write_leaves_no_half_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = opened(path)
    log.record({"event": "a"})
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[: len(data) // 2]))
    with pytest.raises(Unavailable, match="No space left"):
        log.record({"event": "b"})
    monkeypatch.undo()

    def broken(_fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(Unavailable, match="Input/output error"):
        log.record({"event": "c"}, durable=True)
    monkeypatch.undo()
    log.record({"event": "d"})
    log.close()
    assert [line["event"] for line in lines(path)] == ["a", "d"] and verify(path, KEY).ok


def test_no_directory(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="No such file"):
        opened(tmp_path / "missing" / "audit.log")
    assert list(tmp_path.iterdir()) == []


LOOP = """
    import sys
    from pathlib import Path
    from tests.unit.store.test_audit import KEY
    from provision.store.audit import Audit
    log = Audit(Path(sys.argv[1]), KEY)
    number = 0
    while True:
        log.record({"event": "x", "count": number}, durable=number % 50 == 0)
        if number % 50 == 0:
            print(number, flush=True)
        number += 1
"""


@pytest.mark.integration
def test_killed_while_writing(path: Path) -> None:
    for round_ in range(4):
        command = [sys.executable, "-c", textwrap.dedent(LOOP), str(path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
        assert process.stdout is not None and process.stdout.readline()
        time.sleep(0.01 * round_)
        process.send_signal(signal.SIGKILL)
        last = int((process.stdout.read().split() or [b"0"])[-1])
        process.wait()
        opened(path).close()
        assert verify(path, KEY).ok
        assert any(line.get("count", -1) >= last for line in lines(path)[-200:]), "what was durable is there"


def test_threads(path: Path) -> None:
    log = opened(path)

    def work(number: int) -> None:
        for count in range(50):
            log.record({"event": "x", "host": f"n{number}", "count": count})
            log.record(DENIAL)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.verify().ok
    log.close()
    result = verify(path, KEY)
    assert result.ok and result.entries == 1002
    assert lines(path)[-1]["count"] == 999


def test_the_head_goes_to_the_journal(path: Path) -> None:
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(str(path.with_name("socket")))
    receiver.settimeout(5)
    log = Audit(path, KEY, journal=Journal(path.with_name("socket")))
    log.record({"event": "quiet"})
    log.flush(NOW)
    log.record({"event": "loud"}, durable=True)
    log.flush(NOW)
    log.flush(NOW)
    fields = dict(line.split("=", 1) for line in receiver.recv(65536).decode().splitlines())
    assert fields["PROVISION_AUDIT_SEQ"] == "2" and fields["PROVISION_AUDIT_CHAIN"] == lines(path)[1]["chain"]
    assert fields["SYSLOG_IDENTIFIER"] == "provision" and "entry 2" in fields["MESSAGE"]
    log.record({"event": "quiet again"})
    log.close()
    assert b"PROVISION_AUDIT_SEQ=3\n" in receiver.recv(65536)
    receiver.close()


def test_a_deaf_journal_does_not_block(path: Path) -> None:
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(str(path.with_name("socket")))
    log = Audit(path, KEY, journal=Journal(path.with_name("socket")))
    began = time.monotonic()
    for _ in range(600):
        log.record(DENIAL, durable=True)
        log.flush(NOW)
    assert time.monotonic() - began < 20
    log.close()
    receiver.close()
    assert verify(path, KEY).entries == 600


def test_no_journal_goes_to_the_log(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "provision.audit"):
        fill(path, 1)
    assert f"entry 1 has chain {lines(path)[0]['chain']}" in caplog.text
