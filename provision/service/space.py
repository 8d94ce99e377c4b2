"""How long the disk under the state directory will last: without the audit log nothing boots, so it is told before."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

LEAST = 512 << 20
"""Bytes that should be free, or a tenth of the disk when that is less."""

SOON = timedelta(days=14)
"""A disk that will be full earlier than this, at the audit log's present growth, is told."""

_DAY = timedelta(days=1)
_MEASURED = timedelta(hours=1)  # less than this says nothing of a day


@dataclass(frozen=True)
class Space:
    """Bytes free for this process and in all, and bytes a day by which the audit log grows (None: not known yet)."""

    free: int
    total: int
    growth: int | None = None

    @property
    def warning(self) -> str | None:
        """What is so when it is time to make room, or None."""
        if self.free < min(LEAST, self.total // 10):
            return f"has {self.free >> 20} MiB left of {self.total >> 20}; once it is full, nothing is released"
        if self.growth and self.free < self.growth * SOON.days:
            days = self.free // self.growth
            return f"is full in {days} days at the audit log's present growth of {self.growth >> 20} MiB a day"
        return None


class Foresight:
    """Looks at the file system of `state` now and then, and knows how the audit log grew in the last day."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._grown: deque[tuple[datetime, int]] = deque()

    def note(self, now: datetime, written: int) -> None:
        """Remember how many bytes of the audit log this process has `written` until `now`; one in a minute is kept."""
        if self._grown and timedelta() <= now - self._grown[-1][0] < timedelta(minutes=1):
            return
        if self._grown and now < self._grown[-1][0]:
            self._grown.clear()
        self._grown.append((now, written))
        while now - self._grown[0][0] > _DAY:
            self._grown.popleft()

    def look(self) -> Space:
        """The space that there is now; raises OSError."""
        found = os.statvfs(self._state)
        return Space(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize, self._growth())

    def _growth(self) -> int | None:
        if not self._grown:
            return None
        (since, before), (now, written) = self._grown[0], self._grown[-1]
        if now - since < _MEASURED:
            return None
        return int((written - before) * (_DAY / (now - since)))
