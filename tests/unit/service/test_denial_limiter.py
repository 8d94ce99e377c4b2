"""Made-up addresses cost the audit log a bounded number of entries."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from provision.service.denial_limiter import MACHINES_A_MINUTE, DenialLimiter, MinuteLimiter
from provision.service.recent import Recent

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def test_the_first_ones_are_told_apart_and_the_rest_counted() -> None:
    minute = MinuteLimiter()
    admitted = [minute.admit((str(n), ""), NOW) for n in range(2 * MACHINES_A_MINUTE)]
    assert admitted == [True] * MACHINES_A_MINUTE + [False] * MACHINES_A_MINUTE
    assert minute.admit(("0", ""), NOW + timedelta(seconds=59))


def test_each_minute_begins_anew_also_when_the_clock_is_set_back() -> None:
    minute = MinuteLimiter()
    for n in range(MACHINES_A_MINUTE):
        minute.admit((str(n), ""), NOW)
    assert not minute.admit(("new", ""), NOW)
    assert minute.admit(("new", ""), NOW + timedelta(minutes=1))
    assert minute.admit(("newer", ""), NOW - timedelta(hours=1))


def test_networks_and_known_hosts_have_limits_of_their_own() -> None:
    limiter = DenialLimiter()
    for n in range(2 * MACHINES_A_MINUTE):
        limiter.admit("general:guest", False, (str(n),), NOW)
    assert not limiter.admit("general:guest", False, ("new",), NOW)
    assert limiter.admit("management:mgmt", False, ("new",), NOW)
    assert limiter.admit("general:guest", True, ("new",), NOW)


def test_what_a_stranger_claims_does_not_make_more_entries_beyond_the_bound() -> None:
    limiter = DenialLimiter()
    stranger, host = limiter.bound("general:guest", "", "denied"), limiter.bound("management:mgmt", "n1", "denied")
    assert "host" not in stranger.kept and "mac" not in stranger.kept and "host" in host.kept
    assert stranger.entries > host.entries
    assert {"host", "mac", "revision"} <= limiter.bound("management:mgmt", "n1", "released to").kept
    kinds = ("denied", "configured for", "released to")
    names = {limiter.bound(c, h, kind).name for c in "xy" for h in ("", "n1", "n2") for kind in kinds}
    assert len(names) == 2 * (1 + 2 * 3)


def test_machines_of_one_network_do_not_make_those_of_another_forgotten() -> None:
    recent = Recent[int](limit=3)
    recent.put("mgmt", "a", 1)
    for n in range(10):
        recent.put("guest", f"m{n}", n)
    assert recent.get("mgmt", "a") == 1 and recent.get("guest", "m9") == 9 and recent.get("guest", "m6") is None
    recent.put("guest", "m7", 70)
    recent.put("guest", "new", 1)
    assert recent.get("guest", "m7") == 70 and recent.get("guest", "m8") is None
    recent.forget("mgmt", "a")
    recent.forget("nowhere", "a")
    assert recent.get("mgmt", "a") is None and sorted(recent.values()) == [1, 9, 70]
