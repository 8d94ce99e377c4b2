"""The audit log: nothing is written over, lost or changed without being seen."""

from __future__ import annotations

import hashlib
import hmac
import json
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
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from provision.boot import Medium
from provision.errors import Unavailable
from provision.secret import Secret
from provision.store import audit as audits
from provision.store import chain
from provision.store.audit import Audit, verify
from provision.store.chain import Head
from provision.store.journal import Journal
from provision.store.keys import MasterKey, Purpose

KEY = MasterKey(Secret(bytes(range(32))))
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
DENIAL = {"event": "decision", "host": "n1", "medium": "pxe", "answer": "denied", "rule": "window-closed"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


def opened(path: Path) -> Audit:
    return Audit(path, KEY, clock=lambda: NOW, journal=Journal(path.with_name("no-journal")))


def fill(path: Path, count: int = 5) -> None:
    log = opened(path)
    for number in range(count):
        log.record({"event": "window-opened", "host": f"n{number}", "time": NOW}, durable=True)
    log.close()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


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
    for number in range(audits._MAX_REPEATS + 50):
        for _ in range(2):
            log.record({"host": f"n{number}", "time": NOW})
    assert len(log._repeats) <= audits._MAX_REPEATS + 1
    log.close()
    assert sum(line.get("count", 1) for line in lines(path)) == 2 * (audits._MAX_REPEATS + 50)


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


# Tampering


def edit(content: bytes) -> bytes:
    return content.replace(b'"n2"', b'"n7"')


def remove(content: bytes) -> bytes:
    return b"".join(line for line in content.splitlines(True) if b'"n2"' not in line)


def swap(content: bytes) -> bytes:
    first, second, *rest = content.splitlines(True)
    return b"".join([second, first, *rest])


def insert(content: bytes) -> bytes:
    first, *rest = content.splitlines(True)
    return b"".join([first, first, *rest])


def junk(content: bytes) -> bytes:
    first, *rest = content.splitlines(True)
    return b"".join([first, b'{"seq":2}\n', *rest])


def behead(content: bytes) -> bytes:
    return b"".join(content.splitlines(True)[1:])


def rechain(content: bytes) -> bytes:
    """What an attacker with a key of his own would write."""
    key, head, result = Secret(bytes(32)), chain.START, b""
    for line in content.splitlines():
        fields = json.loads(line)
        fields.pop("chain")
        new, head = chain.encode(key, head, fields.pop("seq"), fields)
        result += new
    return result


@pytest.mark.parametrize("change", [edit, remove, swap, insert, junk, behead, rechain])
def test_changed_lines_are_seen(path: Path, change: Callable[[bytes], bytes]) -> None:
    fill(path)
    assert verify(path, KEY).ok and verify(path, KEY).problem is None
    changed = change(path.read_bytes())
    assert changed != path.read_bytes()
    path.write_bytes(changed)
    result = verify(path, KEY)
    assert not result.ok and result.problem is not None and "line" in result.problem


@pytest.mark.parametrize("kept", range(5))
def test_a_cut_tail_is_seen(path: Path, kept: int) -> None:
    fill(path)
    whole = path.read_bytes()
    path.write_bytes(b"".join(whole.splitlines(True)[:kept]))
    result = verify(path, KEY)
    assert result.problems == (f"the log was cut at its end: entries {kept + 1} to 5 are missing",)


def test_a_cut_tail_is_seen_after_a_restart_too(path: Path) -> None:
    fill(path)
    path.write_bytes(b"".join(path.read_bytes().splitlines(True)[:3]))
    log = opened(path)
    log.record({"event": "after"}, durable=True)
    assert not log.verify().ok
    log.close()
    assert [line["seq"] for line in lines(path)] == [1, 2, 3, 6, 7]
    assert lines(path)[3]["reason"] == "entries 4 to 5 were missing at the end of the log"
    assert verify(path, KEY).problems == ("line 4: the log was cut here: entries 4 to 5 are missing",)


def test_a_missing_or_forged_head_is_seen(path: Path) -> None:
    fill(path)
    head = path.with_suffix(".head")
    honest = head.read_bytes()
    for forged in (b"", honest.replace(b"05 ", b"03 "), b"x" * len(honest)):
        head.write_bytes(forged)
        assert "head file" in str(verify(path, KEY).problem)
    head.unlink()
    assert "head file" in str(verify(path, KEY).problem)
    opened(path).close()
    assert lines(path)[-1]["event"] == "recovered" and not verify(path, KEY).ok


def test_a_rolled_back_log_is_seen_by_the_journals_witness(path: Path) -> None:
    fill(path, 3)
    old = path.read_bytes(), path.with_suffix(".head").read_bytes()
    fill(path, 3)
    witness = Head(6, lines(path)[-1]["chain"])
    assert verify(path, KEY, [witness]).ok
    path.write_bytes(old[0])
    path.with_suffix(".head").write_bytes(old[1])
    assert verify(path, KEY).ok, "nobody but the journal knows"
    assert not verify(path, KEY, [witness]).ok
    log = opened(path)
    for _ in range(3):
        log.record({"event": "forged"}, durable=True)
    log.close()
    assert "entry 6 is another than was written" in str(verify(path, KEY, [witness]).problem)


def test_a_log_that_ends_wrong_is_not_continued(path: Path) -> None:
    fill(path)
    content = path.read_bytes()
    for broken in (content.replace(b'"n4"', b'"n5"'), content + b"{}\n", b"x" * 200_000):
        path.write_bytes(broken)
        with pytest.raises(Unavailable, match="audit log does not end"):
            opened(path)
        assert path.read_bytes() == broken


def test_another_key(path: Path) -> None:
    fill(path)
    assert len(verify(path, MasterKey(Secret(bytes(32)))).problems) > 1
    with pytest.raises(Unavailable):
        Audit(path, MasterKey(Secret(bytes(32))))


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
    from tests.test_audit import KEY
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
        process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent)
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


@pytest.mark.integration
def test_appending_is_cheap(path: Path) -> None:
    log = opened(path)
    best = 1.0
    for round_ in range(5):
        began = time.process_time()
        for number in range(2000):
            log.record(DENIAL | {"count": number, "boot": round_, "reason": "x" * 100})
        best = min(best, (time.process_time() - began) / 2000)
    log.close()
    assert best < 50e-6, f"{best * 1e6:.0f} µs"


def test_the_head_goes_to_the_journal(path: Path) -> None:
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(str(path.with_name("socket")))
    receiver.settimeout(5)
    log = Audit(path, KEY, journal=Journal(path.with_name("socket")))
    log.record({"event": "quiet"})
    log.record({"event": "loud"}, durable=True)
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
    assert time.monotonic() - began < 20
    log.close()
    receiver.close()
    assert verify(path, KEY).entries == 600


def test_no_journal_goes_to_the_log(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "provision.audit"):
        fill(path, 1)
    assert f"entry 1 has chain {lines(path)[0]['chain']}" in caplog.text
