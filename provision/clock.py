"""The one door to the clock, so that tests and reproducible output can choose the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]

TOLERANCE = timedelta(seconds=10)
"""How far a clock may go back unnoticed, all together: what a time service corrects while it runs, and leap seconds."""

_TOLERATED, _NOTHING = TOLERANCE.total_seconds(), timedelta(0)


def now() -> datetime:
    """The present moment, aware, in UTC."""
    return datetime.now(UTC)


def running() -> float:
    """Seconds since the machine was started, suspended ones too; setting the clock does not change them
    (clock_gettime(2), CLOCK_BOOTTIME)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _still() -> float:
    return 0.0


class HighWater:
    """The latest time that it ever was, which goes on with the machine: a clock that is set back is behind it.

    Thread-safe. Small steps add up, so that a clock that is set back again and again cannot make time stand still.
    """

    def __init__(self, clock: Clock = now, ticks: Callable[[], float] | None = None) -> None:
        """`ticks` counts the seconds that pass whatever the clock says; a clock that is not the machine's has none."""
        self._clock, self._ticks = clock, ticks or (running if clock is now else _still)
        # In seconds, and replaced as one: every decision asks, so none waits for another.
        self._mark = clock().timestamp(), self._ticks()

    @property
    def mark(self) -> datetime:
        """The time that it must be by now."""
        return datetime.fromtimestamp(self._due(self._ticks()), UTC)

    def raise_to(self, mark: datetime) -> None:
        """Learn that it was `mark` once."""
        ticks = self._ticks()
        if mark.timestamp() > self._due(ticks):
            self._mark = mark.timestamp(), ticks

    def behind(self) -> timedelta:
        """How much too early the clock is; nothing when that is no more than TOLERANCE."""
        ticks, now = self._ticks(), self._clock().timestamp()
        late = self._due(ticks) - now
        if late <= 0:
            self._mark = now, ticks
        return timedelta(seconds=late) if late > _TOLERATED else _NOTHING

    def reset(self) -> None:
        """Take the clock as it is: what it said before was wrong."""
        self._mark = self._clock().timestamp(), self._ticks()

    def _due(self, ticks: float) -> float:
        mark, at = self._mark
        return mark + (ticks - at)
