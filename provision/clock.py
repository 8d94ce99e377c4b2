"""The one door to the clock, so that tests and reproducible output can choose the time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]

TOLERANCE = timedelta(seconds=10)
"""How far a clock may go back unnoticed, all together: what a time service corrects while it runs, and leap seconds."""


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
        self._lock = threading.Lock()
        self._mark, self._at = clock(), self._ticks()

    @property
    def mark(self) -> datetime:
        """The time that it must be by now."""
        with self._lock:
            return self._due()

    def raise_to(self, mark: datetime) -> None:
        """Learn that it was `mark` once."""
        with self._lock:
            if mark > self._due():
                self._mark, self._at = mark, self._ticks()

    def behind(self) -> timedelta:
        """How much too early the clock is; nothing when that is no more than TOLERANCE."""
        with self._lock:
            now, due = self._clock(), self._due()
            if now >= due:
                self._mark, self._at = now, self._ticks()
            return due - now if due - now > TOLERANCE else timedelta(0)

    def reset(self) -> None:
        """Take the clock as it is: what it said before was wrong."""
        with self._lock:
            self._mark, self._at = self._clock(), self._ticks()

    def _due(self) -> datetime:
        return self._mark + timedelta(seconds=self._ticks() - self._at)
