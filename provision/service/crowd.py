"""Denials of machines that nobody knows cost a bounded number of audit entries."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

CROWD = 256
"""Different machines a minute whose denials are recorded one by one."""


class Crowd:
    """Tells the first CROWD different askers of each minute from the rest: whoever makes addresses up must not be able
    to fill the disk with an audit entry for each."""

    def __init__(self) -> None:
        self._since = datetime.min.replace(tzinfo=UTC)
        self._seen: set[tuple[str, ...]] = set()

    def admit(self, asker: tuple[str, ...], now: datetime) -> bool:
        """Whether `asker` (address, MAC, and the host it asks for) gets an entry of its own."""
        if not timedelta() <= now - self._since < timedelta(minutes=1):
            self._since, self._seen = now, set()
        if len(self._seen) < CROWD:
            self._seen.add(asker)
        return asker in self._seen
