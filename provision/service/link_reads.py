"""How much of its medium was read by each link: for whoever watches a boot, so in memory and bounded."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from provision.boot import Link, Medium
from provision.errors import Unavailable
from provision.media.layout import SEED, MediumLayout

_LINKS = 1000
"""Links that are followed; the one that was read longest ago is forgotten."""
_PIECES = 1000
"""Separate pieces of one medium; of a reader with more, only what joins others is noted."""

Piece = tuple[int, int]


class LinkReads:
    """Bytes that were sent by links. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pieces: OrderedDict[str, list[Piece]] = OrderedDict()

    def note(self, link: str, sent: range) -> None:
        """These bytes of the medium were sent by the link with that id."""
        if not sent:
            return
        with self._lock:
            pieces = joined(self._pieces.get(link, []), (sent.start, sent.stop))
            if len(pieces) <= _PIECES:
                self._pieces[link] = pieces
            if link in self._pieces:
                self._pieces.move_to_end(link)
            if len(self._pieces) > _LINKS:
                self._pieces.popitem(last=False)

    def of(self, link: str, within: range) -> int:
        """How many of the bytes `within` were sent by that link."""
        with self._lock:
            pieces = self._pieces.get(link, [])
        return sum(max(0, min(stop, within.stop) - max(start, within.start)) for start, stop in pieces)


def boot_files(medium: MediumLayout) -> Mapping[str, Sequence[range]]:
    """Where on an ISO is what a machine boots; of one that cannot be looked into, only its seed."""
    try:
        return _boot_files(medium.path)
    except Unavailable:
        slot = medium.slots.get(SEED)
        return {SEED: (range(slot.offset, slot.offset + slot.size),)} if slot is not None else {}


@lru_cache(maxsize=16)
def _boot_files(image: Path) -> Mapping[str, Sequence[range]]:
    """Looked into once: a base's ISO never changes, and its path has its hash in it."""
    # Imported here: only boots from CDs have a use for it.
    from provision.media import iso

    return iso.boot_files(image)


@dataclass(frozen=True)
class Read:
    """How much of a host's medium was read by a link, and of each of its `parts` that a machine boots; in percent."""

    link: str
    medium: str
    made: datetime
    percent: int
    parts: Mapping[str, int]


def read(reads: LinkReads, link: Link, medium: MediumLayout) -> Read | None:
    """What was read by a link; None while that is nothing."""
    whole = range(medium.size)
    if not reads.of(link.id, whole):
        return None
    files = boot_files(medium) if link.medium is Medium.ISO else {}
    parts = {name: percent(reads, link.id, places) for name, places in files.items()}
    return Read(link.id, str(link.medium), link.made, percent(reads, link.id, [whole]), parts)


def percent(reads: LinkReads, link: str, places: Sequence[range]) -> int:
    """How much of these places was read; rounded down."""
    done, whole = sum(reads.of(link, place) for place in places), sum(map(len, places))
    return 100 * done // max(whole, 1)


def told(reads: LinkReads, link: str, size: int, parts: Mapping[str, Sequence[range]]) -> str:
    """How much of a medium of `size` bytes, and of each of its parts, was sent by a link; "" while that is nothing."""
    if not reads.of(link, range(size)):
        return ""
    shares = (f"{name} {_tenths(reads, link, places)} %" for name, places in parts.items())
    return f"the BMC has read {_tenths(reads, link, [range(size)])} % of its medium ({', '.join(shares)})"


def _tenths(reads: LinkReads, link: str, places: Sequence[range]) -> int:
    """Percent, rounded down to tens: a line for each would be too many."""
    return percent(reads, link, places) // 10 * 10


def joined(pieces: Sequence[Piece], new: Piece) -> list[Piece]:
    """Sorted, disjoint pieces with another one, as sorted, disjoint pieces."""
    start, stop = new
    apart = [piece for piece in pieces if piece[1] < start or piece[0] > stop]
    touched = [piece for piece in pieces if not (piece[1] < start or piece[0] > stop)]
    whole = min([start, *(one for one, _ in touched)]), max([stop, *(other for _, other in touched)])
    return sorted([*apart, whole])
