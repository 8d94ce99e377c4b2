"""Who read a boot's seed how often, by what was sent: a machine with another's MAC may be among them.

What can be seen is that a seed was read again, from another address or by another medium than before. What cannot be
seen is who was first: of a copied MAC with a copied address that reads once before the host, the host's own read is
the second. Source ports say nothing: every loader takes a new one for each transfer.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from threading import Lock

from provision.boot import SAME_BOOT, Medium
from provision.errors import ProvisionError
from provision.service.core import Core
from provision.site import Reread

_KEPT = 20_000
"""Readings remembered; of more, the oldest goes."""
_KINDS = 8
"""Different things that are told of one boot: a machine that makes addresses up must not fill the log."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Read:
    """A part of a seed of `size` bytes that was sent: from `first` up to but not including `last`."""

    host: str
    mac: str
    address: str
    medium: Medium
    identity: str
    first: int
    last: int
    size: int


@dataclass
class _Reading:
    """What one boot has read since `since`. `covered` has disjoint ranges, sorted, of the present pass over it."""

    since: datetime
    identity: str
    address: str
    medium: Medium
    covered: list[tuple[int, int]] = field(default_factory=list)
    passes: int = 0
    told: set[str] = field(default_factory=set)

    def take(self, read: Read) -> str | None:
        """Add a read; what is wrong with it, in words."""
        if read.address != self.address:
            return f"was read from {self.address} and from {read.address}"
        if read.medium is not self.medium:
            return f"was read by {self.medium} and by {read.medium}"
        self.covered = _joined([*self.covered, (read.first, read.last)])
        have = sum(last - first for first, last in self.covered)
        # A client that takes a medium in pieces may take some of them twice; a loader that has its seed asks no more.
        if self.passes and (have * 16 >= read.size * 15 or read.medium is Medium.PXE):
            return "was read again after it had been read whole"
        if have >= read.size:
            self.passes, self.covered = 1, []
        return None


class Reads:
    """The readings of the boots under way, by host and MAC. In memory, bounded, pure of everything else.

    A transfer that broke counts as far as it came, and one that begins anew does not count that part twice. A boot ends
    when the host is up, when it has changed, or SAME_BOOT after its first byte.
    """

    def __init__(self) -> None:
        self._readings: OrderedDict[tuple[str, str], _Reading] = OrderedDict()
        self._lock = Lock()

    def note(self, read: Read, now: datetime) -> str | None:
        """Add a read; says what is wrong with it, once for each kind in one boot, or None."""
        if read.last <= read.first:
            return None
        place = read.host, read.mac
        with self._lock:
            known = self._readings.get(place)
            if known is None or known.identity != read.identity or abs(now - known.since) >= SAME_BOOT:
                known = _Reading(now, read.identity, read.address, read.medium)
                self._readings[place] = known
                self._readings.move_to_end(place)
                if len(self._readings) > _KEPT:
                    self._readings.popitem(last=False)
            found = known.take(read)
            if found is None or found in known.told or len(known.told) >= _KINDS:
                return None
            known.told.add(found)
            return found

    def forget(self, host: str) -> None:
        """The host is up: what is read from now on belongs to its next boot."""
        with self._lock:
            for place in [place for place in self._readings if place[0] == host]:
                del self._readings[place]


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same bytes as disjoint ranges in their order."""
    result: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if result and first <= result[-1][1]:
            result[-1] = (result[-1][0], max(last, result[-1][1]))
        else:
            result.append((first, last))
    return result


class Rereads:
    """Takes what was read, and does what the site wants done about a seed that is read again."""

    def __init__(self, core: Core) -> None:
        self._core, self.reads = core, Reads()
        self._under_way: set[asyncio.Future[None]] = set()

    def read(self, read: Read) -> None:
        """Note a read; never raises. What has to be written then is written in another thread than the event loop's."""
        found = self.reads.note(read, self._core.clock())
        if found is None:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._raise(read, found)
            return
        task = loop.run_in_executor(None, partial(self._raise, read, found))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    def _raise(self, read: Read, found: str) -> None:
        core = self._core
        closes = core.site.policy.seed_read_again is Reread.CLOSE
        text = f"The seed of {read.host} {found}, in one boot of {read.mac}"
        core.alerts.raise_(read.host, "seed-read-again", text, core.clock())
        try:
            # Closed first: what cannot be recorded is to cost the reader, not the host.
            window = core.store.windows.close(read.host) if closes else None
            fields = {"mac": read.mac, "address": read.address, "medium": str(read.medium), "reason": text}
            core.note("seed-read-again", None, host=read.host, **fields)
            if window is not None:
                core.charged.forget(read.host)
        except ProvisionError as error:
            _log.error("seed-read-again: %s", error)
