"""What one cause may write into the audit log is bounded by the day."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from provision.store.audit import Bound, verify
from tests.helpers.audit_samples import DENIAL, KEY, NOW, SECOND, lines, opened

KEPT = frozenset(("event", "channel", "answer", "rule"))
RELEASE = {"event": "decision", "host": "n1", "medium": "http-boot", "channel": "management:m", "answer": "released"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


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
