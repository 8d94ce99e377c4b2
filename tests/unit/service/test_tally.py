"""Numbers that any thread adds to."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from provision.service.tally import BUCKETS, Tally


def test_nothing_is_lost_between_threads() -> None:
    tally = Tally()

    def add(_: int) -> None:
        for _ in range(5000):
            tally.refused("off-prefix", "management:mgmt")
            tally.gave("operator", 2)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(4)))
    assert tally.refusals() == {("off-prefix", "management:mgmt"): 20_000}
    assert tally.secrets() == {("operator",): 40_000}


def test_what_nobody_asks_for_takes_no_more_room() -> None:
    tally = Tally()
    for _ in range(100_000):
        tally.released("pxe", "management:mgmt")
    assert len(tally._added) < 5000
    assert tally.releases() == {("pxe", "management:mgmt"): 100_000}


def test_a_bucket_has_its_bound_and_all_before_it() -> None:
    tally = Tally()
    for seconds in (0.0, BUCKETS[0], BUCKETS[0] + 1, BUCKETS[-1] + 1):
        tally.came_up(seconds)
    counts, total = tally.ups()
    assert counts == [2] + [3] * (len(BUCKETS) - 1) + [4]
    assert total == 2 * BUCKETS[0] + BUCKETS[-1] + 2
