"""An audit log that could not be opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from provision.errors import Unavailable
from provision.store.audit import Audit, Bound, verify
from provision.store.chain import Head, Known, VerifyResult
from provision.store.fields import Entry
from provision.store.keys import MasterKey


class ClosedAudit(Audit):
    """A log that could not be opened, for `error`: it takes nothing, so every answer is no, but it can be looked at."""

    def __init__(self, path: Path, key: MasterKey, error: Unavailable) -> None:
        self._path, self._master, self._error = path, key, error

    @property
    def is_busy(self) -> bool:
        """Never."""
        return False

    @property
    def growth(self) -> int:
        """None."""
        return 0

    @property
    def known(self) -> Known | None:
        """Nothing."""
        return None

    @property
    def sequence(self) -> int:
        """None."""
        return 0

    def check(self) -> None:
        """Raises the error."""
        raise self._error

    def _learn(self, change: Callable[[Known], Known]) -> None:
        raise self._error

    def record(self, event: Mapping[str, Any], *_: Any, **__: Any) -> int:
        """Raises the error."""
        raise self._error

    def extend(self, event: Mapping[str, Any], sent: range, bound: Bound | None = None) -> None:
        """Raises the error."""
        raise self._error

    def flush(self, now: datetime | None = None) -> None:
        """Nothing is counted."""

    def close(self) -> None:
        """Nothing is open."""

    def verify(self, witnesses: Sequence[Head] = ()) -> VerifyResult:
        """Check the log as it lies there; raises Unavailable when it cannot be read."""
        return verify(self._path, self._master, witnesses)

    def entries(self, host: str | None = None, limit: int = 100, before: int | None = None) -> list[Entry]:
        """Nothing that can be relied on."""
        raise self._error
