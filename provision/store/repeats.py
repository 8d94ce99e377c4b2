"""Events that repeat: one entry at once, and one more with how many there were, when their time has ended.

Each network has tables of its own with bounds of their own: what one LAN sends never ends what is counted of another.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from provision.store.bounds import OVER

REPEAT = timedelta(minutes=1)
"""Identical events within this time are written once at once, and once more with their `count`."""

TRANSFER = timedelta(minutes=10)
"""Releases that follow each other within REPEAT are one transfer, of at most this time."""

MAX_REPEATS = 1024
"""Different events of one network that are counted at a time; of more, the oldest is written early."""

_NEVER = datetime.max.replace(tzinfo=UTC)

Signature = tuple[tuple[str, Any], ...]


@dataclass
class Repeat:
    """Repeats of an event that is in the log: when it was first and last seen, whether it is on disk, how often since.

    `count` is of the events after the first; `size` and `span` are of the bytes of all of them, where they have any.
    It is over at `until`, and at `idle` when that is earlier.
    """

    first: datetime
    last: datetime
    fields: dict[str, Any]
    durable: bool
    count: int = 0
    size: int = 0
    span: tuple[int, int] | None = None
    until: datetime = _NEVER
    idle: datetime = _NEVER

    def runs(self, now: datetime) -> bool:
        """Whether it still counts. A clock that was set back ends what it finds in its future."""
        return self.first <= now < self.until and now < self.idle

    def add(self, sent: range) -> None:
        """Note which bytes one of the events is about."""
        if sent:
            low, high = self.span or (sent[0], sent[-1])
            self.size, self.span = self.size + len(sent), (min(low, sent[0]), max(high, sent[-1]))

    @property
    def unwritten(self) -> bool:
        """Whether there is more to say than the entry of the first event has said."""
        return bool(self.count or self.size)

    def entry(self) -> dict[str, Any]:
        """The entry with the count, as of the last of the events."""
        found = {"time": iso(self.last), **self.fields, "count": self.count, "since": iso(self.first)}
        if self.span:
            found |= {"bytes": self.size, "from": self.span[0], "to": self.span[1]}
        return found


class _Table:
    """What is counted of one kind: each repeat for `length` from its first event on, and until `idle` after its last.

    The repeat that ends first stands first.
    """

    def __init__(self, length: timedelta, idle: timedelta | None = None) -> None:
        self._length, self._idle = length, idle
        self._rows: OrderedDict[Signature, Repeat] = OrderedDict()

    def find(self, signature: Signature, now: datetime) -> Repeat | None:
        repeat = self._rows.get(signature)
        return repeat if repeat is not None and repeat.runs(now) else None

    def add(self, signature: Signature, repeat: Repeat) -> Repeat | None:
        """Count by `repeat` from now on; returns the one that it replaces, whose time is over."""
        ended = self._rows.pop(signature, None)
        repeat.until = repeat.first + self._length
        if self._idle:
            repeat.idle = repeat.last + self._idle
        self._rows[signature] = repeat
        return ended

    def again(self, signature: Signature, repeat: Repeat, now: datetime) -> None:
        repeat.count, repeat.last = repeat.count + 1, now
        if self._idle:
            repeat.idle = now + self._idle
            self._rows.move_to_end(signature)

    def ended(self, now: datetime, everything: bool = False) -> Iterator[Repeat]:
        """The repeats whose time is over, and those that are too many; each is forgotten once it has been taken."""
        while self._rows:
            signature, repeat = next(iter(self._rows.items()))
            if not everything and repeat.runs(now) and len(self._rows) <= MAX_REPEATS:
                return
            yield repeat
            del self._rows[signature]

    def rows(self) -> Iterator[Repeat]:
        return iter(self._rows.values())


class Repeats:
    """Everything that is counted, by network and kind."""

    def __init__(self) -> None:
        self._tables: dict[tuple[Any, ...], _Table] = {}

    def table(self, fields: Mapping[str, Any], over: bool = False) -> _Table:
        """Where an event with these fields is counted; `over` when it is beyond its bound."""
        place = fields.get("channel") or fields.get("network") or "", fields.get("answer"), over
        table = self._tables.get(place)
        if table is None:
            released = fields.get("answer") == "released"
            table = _Table(OVER) if over else _Table(TRANSFER, REPEAT) if released else _Table(REPEAT)
            self._tables[place] = table
        return table

    def ended(self, now: datetime, everything: bool) -> Iterator[Repeat]:
        """The repeats of every table whose time is over."""
        for table in self._tables.values():
            yield from table.ended(now, everything)

    def rows(self) -> list[Repeat]:
        """All that is counted now."""
        return [repeat for table in self._tables.values() for repeat in table.rows()]


def iso(moment: datetime) -> str:
    """A moment as the log has it: UTC, microseconds, lengths that never differ."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"
