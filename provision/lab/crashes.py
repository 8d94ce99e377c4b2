"""What can be on a disk when the power goes: the states that a log of writes allows, and a disk in one of them.

A disk with a write cache has kept what was written before the last flush that was done. Of what came after it, it may
have kept anything, in any order, and of a write any of its sectors; a sector is old or new, never half.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from provision.lab.write_log import SECTOR, Entry, Flush, Write, content


class How(StrEnum):
    """What became of the writes that were not flushed."""

    KEPT = "kept"
    """All are there."""
    CUT = "cut"
    """All are there, and of the last one only its beginning."""
    LAST = "last"
    """Only the last one is there."""
    SOME = "some"
    """Some are there, written in another order."""
    TORN = "torn"
    """Of them some sectors are there; of more than `_TORN`, the others are whole."""


_TORN = 8
T = TypeVar("T")


@dataclass(frozen=True)
class Piece:
    """Those sectors of entry `entry` that are on the disk, counted from its own beginning; None: all."""

    entry: int
    sectors: tuple[int, ...] | None = None


@dataclass(frozen=True)
class State:
    """One state, when the power goes after `point` entries of the log: the first `durable` ones are whole on the disk,
    and on top of them there are `pieces`."""

    point: int
    how: How
    durable: int
    pieces: tuple[Piece, ...]


def states(entries: Sequence[Entry], variants: int, seed: int) -> Iterator[State]:
    """States at every point, the earliest first: where it makes a difference, `variants` of each kind that is drawn by
    lot. The same for the same `seed`, and none twice in a row."""
    durable, last = 0, None
    for point in range(len(entries) + 1):
        if point and isinstance(entries[point - 1], Flush):
            durable = point
        for state in _at(entries, point, durable, variants, random.Random(f"{seed} {point}")):
            if (state.durable, state.pieces) != last:
                yield state
            last = state.durable, state.pieces


def spread(found: Sequence[T], count: int, seed: int) -> list[T]:
    """`count` of the states, spread evenly over them and drawn by lot where there is a choice; all when there are no
    more."""
    if count >= len(found):
        return list(found)
    chance = random.Random(seed)
    bounds = [number * len(found) // count for number in range(count + 1)]
    return [found[chance.randrange(low, high)] for low, high in pairwise(bounds)]


def _at(entries: Sequence[Entry], point: int, durable: int, variants: int, chance: random.Random) -> Iterator[State]:
    pending = [n for n in range(durable, point) if isinstance(entries[n], Write)]
    yield State(point, How.KEPT, durable, tuple(map(Piece, pending)))
    if not pending:
        return
    # What was forced to the medium is there, unless the power goes just then.
    forced = [n for n in pending[:-1] if _write(entries, n).forced]
    loose = [n for n in pending if n not in forced]
    if len(loose) > 1:
        yield State(point, How.LAST, durable, tuple(map(Piece, sorted([*forced, loose[-1]]))))
    for _ in range(variants):
        size = _write(entries, pending[-1]).size // SECTOR
        if size > 1:
            kept = tuple(range(chance.randrange(1, size)))
            yield State(point, How.CUT, durable, (*map(Piece, pending[:-1]), Piece(pending[-1], kept)))
        if len(loose) > 1:
            some = chance.sample(loose, chance.randrange(1, len(loose)))
            yield State(point, How.SOME, durable, tuple(map(Piece, [*forced, *some])))
        if size > 1 or len(loose) > 1:
            torn = set(chance.sample(loose, min(len(loose), _TORN)))
            pieces = (Piece(n, _some_sectors(_write(entries, n), chance) if n in torn else None) for n in loose)
            yield State(point, How.TORN, durable, (*map(Piece, forced), *pieces))


def _some_sectors(write: Write, chance: random.Random) -> tuple[int, ...]:
    share = chance.choice((0.1, 0.5, 0.9))
    return tuple(n for n in range(write.size // SECTOR) if chance.random() < share)


def _write(entries: Sequence[Entry], number: int) -> Write:
    found = entries[number]
    assert isinstance(found, Write)  # noqa: S101 - callers look only at writes
    return found


class Crashed:
    """A disk that is put into one state after another, the earliest first, in the file `disk`, which is before the
    first entry of `log`."""

    def __init__(self, disk: Path, log: Path, entries: Sequence[Entry]) -> None:
        self._entries, self._done = entries, 0
        self._undo: list[tuple[int, bytes]] = []
        with ExitStack() as files:
            self._disk = files.enter_context(disk.open("r+b", buffering=0))
            self._log = files.enter_context(log.open("rb"))
            self._files = files.pop_all()

    def __enter__(self) -> Crashed:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._files.close()

    def put(self, state: State) -> None:
        """Put the disk into the state; `durable` never goes back from one to the next."""
        for offset, old in reversed(self._undo):
            self._lay(offset, old)
        self._undo.clear()
        self.advance(state.durable)
        for piece in state.pieces:
            for offset, data in self._parts(piece):
                self._disk.seek(offset)
                self._undo.append((offset, self._disk.read(len(data))))
                self._lay(offset, data)

    def advance(self, durable: int) -> None:
        """Have the first `durable` entries be whole on a disk that was put into no state beyond them."""
        for entry in self._entries[self._done : durable]:
            if isinstance(entry, Write):
                self._lay(entry.offset, content(entry, self._log))
        self._done = max(self._done, durable)

    def _parts(self, piece: Piece) -> Iterator[tuple[int, bytes]]:
        write = _write(self._entries, piece.entry)
        data = content(write, self._log)
        if piece.sectors is None:
            yield write.offset, data
            return
        for number in piece.sectors:
            at = number * SECTOR
            yield write.offset + at, data[at : at + SECTOR]

    def _lay(self, offset: int, data: bytes) -> None:
        self._disk.seek(offset)
        self._disk.write(data)
