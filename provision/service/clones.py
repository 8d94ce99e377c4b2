"""One identity on two machines: a disk that was copied. Both say that they are up, with the same key, each in a start
of its own.

A host that was started again speaks in its new start from then on. When the earlier one is heard once more, both run.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from provision.boot import Channel
from provision.service.core import Core
from provision.service.denial_limiter import reporting

_AGAIN = timedelta(hours=1)


class Clones:
    """Tells of them: an alert each time, and an entry in the audit log once an hour. Hosts are as many as there are in
    the inventory."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._told: dict[str, datetime] = {}

    def look(self, host: str, channel: Channel | None, now: datetime) -> None:
        """Look whether what the host has just said makes it two. Raises Unavailable."""
        core = self._core
        if core.alive.twice(host) != now:
            return
        fact = (
            f"two machines are up as {host}: its disk or seed was copied. Find the other one, and set new credentials"
        )
        core.alerts.raise_(host, "duplicate-identity", fact, now)
        told = self._told.get(host)
        if told is not None and abs(now - told) < _AGAIN:
            return
        self._told[host] = now
        network = channel.network if channel is not None else None
        event = {"time": now, "event": "duplicate-identity", "host": host, "network": network}
        event |= {"reason": "two starts of it speak by turns, with one key"}
        core.audit.record(event, counted=False, bound=reporting(network))
