"""How many entries a day one cause may make: a request costs an outsider nothing, and the disk is everybody's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import Enum
from typing import Any

OVER = timedelta(hours=1)
"""Events beyond a bound that differ in nothing but what it no longer tells apart are one entry and a count an hour."""


_NOTICED = frozenset(("host", "channel", "answer"))


@dataclass(frozen=True)
class Bound:
    """So many `entries` a day (UTC) for what is counted under `name`; beyond them an event keeps its fields `kept`
    only, so that what it can still differ in is finite."""

    name: str
    entries: int
    kept: frozenset[str]

    def coarse(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """An event beyond the bound."""
        reason = f"beyond the {self.entries} entries a day of {self.name}; counted only"
        return {name: value for name, value in fields.items() if name in self.kept} | {"reason": reason}

    def notice(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The one entry that says that the bound is reached, by the first event beyond it."""
        about = {name: value for name, value in fields.items() if name in _NOTICED & self.kept}
        reason = f"until midnight (UTC) more of {self.name} is counted hour by hour only"
        return {"event": "bounded", **about, "count": self.entries, "reason": reason}


class Spent(Enum):
    """Whether an entry is within its bound."""

    WITHIN = "within"
    FIRST_OVER = "first-over"
    OVER = "over"


class Days:
    """What every bound has been used for on the present day."""

    def __init__(self) -> None:
        self._day = date.min
        self._spent: dict[str, int] = {}

    def spend(self, bound: Bound, now: datetime) -> Spent:
        """Count one event: its entry, and the entry with the count of its repeats."""
        if now.date() != self._day:
            self._day, self._spent = now.date(), {}
        spent = self._spent.get(bound.name, 0)
        if spent + 2 <= bound.entries:
            self._spent[bound.name] = spent + 2
            return Spent.WITHIN
        self._spent[bound.name] = bound.entries + 1
        return Spent.OVER if spent > bound.entries else Spent.FIRST_OVER
