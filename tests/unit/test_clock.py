"""The clock's high-water mark: time goes on, whatever the clock is set to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from provision import clock
from provision.clock import TOLERANCE, HighWater

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
NONE = timedelta(0)


class Machine:
    """A machine's two clocks: the one that can be set, and the one that counts."""

    def __init__(self) -> None:
        self.now, self.ticks = NOW, 100.0
        self.water = HighWater(lambda: self.now, lambda: self.ticks)

    def passes(self, seconds: float, clock: float | None = None) -> timedelta:
        """Let `seconds` pass, of which the clock shows `clock`; returns how far it is behind."""
        self.ticks += seconds
        self.now += timedelta(seconds=seconds if clock is None else clock)
        return self.water.behind()


def test_time_goes_on() -> None:
    machine = Machine()
    assert [machine.passes(n) for n in (0, 1, 3600, 0.5)] == [NONE] * 4
    assert machine.water.mark == machine.now


def test_a_step_back_is_seen_until_the_time_has_come_again() -> None:
    machine = Machine()
    assert machine.passes(1, -3600) == timedelta(seconds=3601)
    assert machine.passes(1800) == timedelta(seconds=3601), "it is behind for good: the machine counts on"
    assert machine.passes(0, 3601) == NONE


def test_small_steps_are_nothing_but_they_add_up() -> None:
    machine = Machine()
    limit = TOLERANCE.total_seconds()
    assert machine.passes(0, -limit) == NONE
    assert machine.passes(0, -0.001) > TOLERANCE
    machine = Machine()
    stopped = [machine.passes(2, 0) for _ in range(6)]
    assert stopped == [NONE] * 5 + [timedelta(seconds=12)], "a clock that stands still has gone back, too"


def test_a_step_forward_counts_and_can_be_taken_back_by_an_operator_only() -> None:
    machine = Machine()
    assert machine.passes(0, 86400 * 3650) == NONE
    assert machine.passes(0, -86400 * 3650) == timedelta(days=3650)
    machine.water.reset()
    assert machine.water.behind() == NONE and machine.water.mark == machine.now


def test_what_was_known_before_the_start() -> None:
    machine = Machine()
    machine.water.raise_to(NOW - SECOND)
    assert machine.water.mark == NOW
    machine.water.raise_to(NOW + timedelta(days=1))
    assert machine.water.behind() == timedelta(days=1)
    assert machine.passes(60) == timedelta(days=1)


def test_the_machines_own_clocks() -> None:
    before = clock.running()
    water = HighWater()
    assert water.behind() == NONE and clock.running() >= before > 0
    assert abs(water.mark - clock.now()) < 5 * SECOND
