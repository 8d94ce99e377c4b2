"""Counts outlive a process that is killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from provision import writing
from provision.errors import Unavailable
from provision.store.audit import Audit, verify
from provision.store.repeats import MAX_REPEATS
from tests.helpers.audit_samples import DENIAL, KEY, NOW, SECOND, journal_of, lines, opened
from tests.helpers.paths import ROOT


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


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
