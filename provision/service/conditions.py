"""How every host of a site is, found out no more often than it is worth: of ten thousand hosts that takes seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from threading import Lock

from provision.service.grouping import Condition

_SHARE = 20
"""It is kept for so many times as long as a processor took for it, so that those who follow it cost a twentieth."""
_QUICK = 0.05
"""Seconds of a processor; what takes less is never kept."""

Find = Callable[[], Mapping[str, Condition]]


class Conditions:
    """The condition of each host by its name, shared by all who look. Thread-safe."""

    def __init__(self, find: Find) -> None:
        self._find, self._lock = find, Lock()
        self._known: Mapping[str, Condition] = {}
        self._good_until = 0.0

    def all(self) -> Mapping[str, Condition]:
        """Every host's, as old as it took long; a host that is new since may be missing."""
        if time.monotonic() < self._good_until:
            return self._known
        with self._lock:
            if time.monotonic() < self._good_until:
                return self._known  # somebody else has just found out
            began = time.thread_time()
            self._known = self._find()
            took = time.thread_time() - began
            self._good_until = time.monotonic() + _SHARE * took if took >= _QUICK else 0.0
            return self._known
