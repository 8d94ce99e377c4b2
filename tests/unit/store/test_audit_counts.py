"""What the audit log counts: each network by itself, bounded by the day, and not lost when the process is killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from provision import writing
from provision.errors import Unavailable
from provision.store.audit import Audit, Bound, verify
from provision.store.repeats import MAX_REPEATS
from tests.helpers.audit_samples import DENIAL, KEY, NOW, SECOND, journal_of, lines, opened
from tests.helpers.paths import ROOT

KEPT = frozenset(("event", "channel", "answer", "rule"))
RELEASE = {"event": "decision", "host": "n1", "medium": "http-boot", "channel": "management:m", "answer": "released"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


# Networks


def test_one_networks_flood_ends_no_count_of_another(path: Path) -> None:
    log = opened(path)
    quiet = DENIAL | {"channel": "management:m", "time": NOW}
    log.record(quiet)
    for number in range(3 * MAX_REPEATS):
        log.record(DENIAL | {"channel": "general:g", "time": NOW, "address": f"10.{number >> 8}.{number & 255}.1"})
    for _ in range(7):
        log.record(quiet)
    assert [line for line in lines(path) if line.get("channel") == "management:m"][1:] == [], "still one and counting"
    log.close()
    told = [line for line in lines(path) if line.get("channel") == "management:m"]
    assert [line.get("count") for line in told] == [None, 7]


# A day's bound


def test_beyond_a_days_bound_entries_are_counted_and_one_says_so(path: Path) -> None:
    log, bound = opened(path), Bound("general:g", 20, KEPT)
    for number in range(500):
        event = DENIAL | {"channel": "general:g", "time": NOW + number * SECOND, "mac": f"m{number}"}
        log.record(event, bound=bound)
    log.record(DENIAL | {"channel": "general:h", "mac": "x", "time": NOW}, bound=Bound("general:h", 20, KEPT))
    log.close()
    found = lines(path)
    assert [line["mac"] for line in found if "mac" in line] == [*(f"m{n}" for n in range(10)), "x"]
    (said,) = [line for line in found if line["event"] == "bounded"]
    assert (said["channel"], said["count"]) == ("general:g", 20)
    coarse = [line for line in found if "beyond" in line.get("reason", "")]
    assert [line.get("count") for line in coarse] == [None, 489] and "mac" not in coarse[0]
    assert verify(path, KEY).ok


def test_the_next_day_begins_anew(path: Path) -> None:
    log, bound = opened(path), Bound("general:g", 2, KEPT)
    for day in range(3):
        for number in range(5):
            moment = NOW + timedelta(days=day, seconds=number)
            log.record(DENIAL | {"channel": "general:g", "time": moment, "mac": f"m{day}{number}"}, bound=bound)
    log.close()
    found = lines(path)
    assert [line["mac"] for line in found if "mac" in line] == ["m00", "m10", "m20"]
    assert len([line for line in found if line["event"] == "bounded"]) == 3


def test_a_release_beyond_the_bound_is_on_disk_before_it_counts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr("os.fdatasync", synced.append)
    log, bound = opened(path), Bound("n1", 4, KEPT | {"host"})
    for number in range(100):
        event = RELEASE | {"time": NOW + number * SECOND, "address": f"10.0.0.{number}"}
        log.record(event, durable=True, counted=False, bound=bound)
    assert len(synced) == 3, "two of their own, and the first beyond the bound"
    log.close()
    assert [line.get("count") for line in lines(path) if line["event"] == "decision"] == [None, None, None, 97]


# Transfers


def test_ranges_of_a_transfer_are_one_entry(path: Path) -> None:
    log = opened(path)
    for second in range(600):
        event = RELEASE | {"time": NOW + second * SECOND}
        log.record(event, durable=True, counted=True)
        log.extend(event, range(100 + second, 101 + second))
    log.record({"event": "other", "time": NOW + 605 * SECOND})
    log.flush(NOW + 700 * SECOND)
    first, other, told = lines(path)
    assert "count" not in first and other["event"] == "other"
    assert (told["count"], told["bytes"], told["from"], told["to"]) == (599, 600, 100, 699)
    assert (told["since"], told["time"]) == ("2026-03-01T12:00:00.000000Z", "2026-03-01T12:09:59.000000Z")
    log.close()


def test_a_transfer_ends_when_it_is_idle_and_when_it_is_long(path: Path) -> None:
    log = opened(path)
    for second in (0, 1, 50, 100, 161, 162):  # idle after 100
        log.record(RELEASE | {"time": NOW + second * SECOND}, durable=True, counted=True)
    assert [line.get("count") for line in lines(path)] == [None, 3, None]
    for second in range(190, 2000, 30):
        log.record(RELEASE | {"time": NOW + second * SECOND}, durable=True, counted=True)
    log.close()
    begun = [line["time"] for line in lines(path) if "count" not in line]
    assert len(begun) == 5, "a transfer has ten minutes at most"


# Killed


LOOP = """
    import sys, time
    from pathlib import Path
    from provision.store.audit import Audit
    from tests.helpers.audit_samples import DENIAL, KEY
    log = Audit(Path(sys.argv[1]), KEY)
    for _ in range(60):
        log.record(DENIAL)
    end = time.monotonic() + 60
    while '"count":59' not in (path.read_text() if (path := Path(sys.argv[2])).exists() else ""):
        assert time.monotonic() < end
        log.flush(log._clock())
        time.sleep(0.05)
    for _ in range(5):
        log.record(DENIAL)
    print("counted", flush=True)
    sys.stdin.read()
"""


def killed(path: Path, script: str) -> None:
    """Run a script on the log until it says something, and kill it."""
    argv = [sys.executable, "-c", textwrap.dedent(script), str(path), str(path.with_suffix(".pending"))]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None and process.stdin is not None
    assert process.stdout.readline().strip(), "it came so far"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    process.stdin.close()


@pytest.mark.integration
def test_counts_survive_a_kill_and_what_may_be_missing_is_named(path: Path) -> None:
    killed(path, LOOP)
    assert [line.get("count") for line in lines(path)] == [None], "all that the log itself has"
    log = opened(path)
    told = log.entries()
    assert [entry.get("count") for entry in told] == [None, 59, None]
    assert (told[2]["event"], told[2]["rule"]) == ("recovered", "killed")
    assert "may be missing in the counts" in told[2]["reason"] and told[2]["since"] > told[1]["time"]
    log.close()
    assert verify(path, KEY).ok, "a killed process is no tampering"
    opened(path).close()
    assert len(lines(path)) == 3, "and it is said once"


@pytest.mark.integration
def test_a_kill_with_nothing_counted_says_nothing(path: Path) -> None:
    killed(
        path,
        """
        import sys
        from pathlib import Path
        from provision.store.audit import Audit
        from tests.helpers.audit_samples import DENIAL, KEY, NOW, SECOND
        log = Audit(Path(sys.argv[1]), KEY)
        log.record(DENIAL | {"time": NOW}), log.record(DENIAL | {"time": NOW})
        log.flush(NOW + 61 * SECOND)
        log.record({"event": "durable"}, durable=True)
        print("idle", flush=True)
        sys.stdin.read()
        """,
    )
    opened(path).close()
    assert [line["event"] for line in lines(path)] == ["decision", "decision", "durable"]


def test_counts_that_came_into_the_log_are_not_told_twice(path: Path) -> None:
    log = opened(path)
    for _ in range(5):
        log.record(DENIAL | {"time": NOW})
    log._save(*log._content(), durable=False)
    before = path.with_suffix(".pending").read_bytes()
    log.record(DENIAL | {"time": NOW})
    log.close()
    path.with_suffix(".pending").write_bytes(before)
    opened(path).close()
    assert [line.get("count") for line in lines(path)] == [None, 5, None]


def test_an_altered_file_of_counts_is_seen(path: Path) -> None:
    log = opened(path)
    for _ in range(3):
        log.record(DENIAL | {"time": NOW})
    log._save(*log._content(), durable=False)
    log._file.release()
    beside = path.with_suffix(".pending")
    beside.write_bytes(beside.read_bytes().replace(b'"count":2', b'"count":1'))
    opened(path).close()
    assert lines(path)[-1]["rule"] == "pending"
    assert "had been altered" in str(verify(path, KEY).problem)


def test_what_is_counted_is_written_every_few_seconds_and_not_more_often(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment, written = [100.0], list[bytes]()
    monkeypatch.setattr("time.monotonic", lambda: moment[0])
    real = writing.write

    def write(target: Path, content: bytes, *, durable: bool) -> None:
        assert not durable
        written.append(content)
        real(target, content, durable=durable)

    monkeypatch.setattr(writing, "write", write)
    log = opened(path)
    for second in range(30):
        moment[0] += 1
        for _ in range(100):
            log.record(DENIAL | {"time": NOW + second * SECOND})
        log.flush(NOW + second * SECOND)
    assert 10 <= len(written) <= 18
    assert json.loads(written[-1].splitlines()[0])["counts"][0]["count"] >= 2700
    log.close()


def test_a_disk_that_takes_no_file_of_counts_means_no(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = opened(path)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(writing, "write", full)
        with pytest.raises(Unavailable, match="No space left"):
            log.record(DENIAL)
        log.record({"event": "durable"}, durable=True)
    log.record(DENIAL)
    log.close()
    assert len(lines(path)) == 2


def test_a_growing_log_keeps_its_file_of_counts_small(path: Path) -> None:
    log = Audit(path, KEY, clock=lambda: NOW, journal=journal_of(path))
    for number in range(2 * MAX_REPEATS):
        for _ in range(2):
            log.record(DENIAL | {"mac": f"m{number}", "time": NOW})
    log.flush(NOW)
    log._save(*log._content(), durable=False)
    assert path.with_suffix(".pending").stat().st_size < 300 * (MAX_REPEATS + 2)
    log.close()
