"""Made-up addresses cost the audit log a bounded number of entries."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from provision.service.crowd import CROWD, Crowd

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def test_the_first_ones_are_told_apart_and_the_rest_counted() -> None:
    crowd = Crowd()
    admitted = [crowd.admit((str(n), ""), NOW) for n in range(2 * CROWD)]
    assert admitted == [True] * CROWD + [False] * CROWD
    assert crowd.admit(("0", ""), NOW + timedelta(seconds=59))


def test_each_minute_begins_anew_also_when_the_clock_is_set_back() -> None:
    crowd = Crowd()
    for n in range(CROWD):
        crowd.admit((str(n), ""), NOW)
    assert not crowd.admit(("new", ""), NOW)
    assert crowd.admit(("new", ""), NOW + timedelta(minutes=1))
    assert crowd.admit(("newer", ""), NOW - timedelta(hours=1))
