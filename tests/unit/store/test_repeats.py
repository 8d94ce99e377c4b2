"""Repeats are counted, each network's by themselves, and ranges of a transfer are one entry."""

from __future__ import annotations

from pathlib import Path

import pytest

from provision.store.repeats import MAX_REPEATS
from tests.helpers.audit_samples import DENIAL, NOW, SECOND, lines, opened

RELEASE = {"event": "decision", "host": "n1", "medium": "http-boot", "channel": "management:m", "answer": "released"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


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
