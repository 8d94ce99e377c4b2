"""Errors that every request can bring about anew: in the service's log now and then, and of each network by itself."""

from __future__ import annotations

import logging
import time

EVERY = 10.0
"""Seconds between two lines of one network; a client that asks in a loop must not push the others' lines out of the
log."""


class Complaints:
    """What could not be answered because something does not work here."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._last: dict[str, tuple[float, int]] = {}

    def error(self, network: str | None, error: Exception) -> None:
        """Say it, with how many were not said since the last time, or count it."""
        now, place = time.monotonic(), network or ""
        last, unsaid = self._last.get(place, (now - EVERY, 0))
        if now - last < EVERY:
            self._last[place] = last, unsaid + 1
            return
        self._last[place] = now, 0
        more = f" (and {unsaid} times more on network '{place}')" if unsaid else ""
        self._log.error("%s%s", error, more)
