"""MACs that asked for a boot and belong to no host: a convenience for the operator, so it may never hurt serving."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, RowMapping, bindparam, delete, insert, select

from provision.errors import Unavailable
from provision.store.database import Database
from provision.store.schema import unknown_macs
from provision.store.snapshot import Picture

LIMIT = 4096
"""Sightings kept of one network; the one seen longest ago goes first."""

_WRITE_EVERY = 5.0
"""Seconds between two writes: a machine that sends many MACs must not make the disk wait for each."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sighting:
    """A MAC of no host, with the SMBIOS UUID it claimed, where and when it was seen, and how often."""

    mac: str
    uuid: str | None
    network: str
    first: datetime
    last: datetime
    count: int


_Place = tuple[str, str]  # network and MAC


class Sightings:
    """The part of the store that remembers unknown MACs: in memory at once, on disk a little later.

    Every network has its own bound, and a MAC that two of them have seen is remembered of each. The disk has one row
    for a MAC, of the network that saw it first: a machine that claims an address later, on another LAN, changes
    nothing.
    """

    def __init__(self, database: Database, picture: Picture) -> None:
        self._database, self._picture = database, picture
        self._seen: dict[str, OrderedDict[_Place, Sighting]] = {}
        self._unwritten: set[_Place] = set()
        self._dropped: set[str] = set()
        self._written = 0.0

    def seen(self, mac: str, uuid: str | None, network: str, now: datetime) -> None:
        """Note a MAC; never raises for want of a disk."""
        place = network, mac
        with self._database.lock:
            there = self._seen.setdefault(network, OrderedDict())
            known = there.pop(place, None)
            if known is None:
                there[place] = Sighting(mac, uuid, network, now, now, 1)
            else:
                there[place] = replace(known, uuid=uuid or known.uuid, last=now, count=known.count + 1)
            self._unwritten.add(place)
            if len(there) > LIMIT:
                oldest, _ = there.popitem(last=False)
                self._unwritten.discard(oldest)
                self._dropped.add(oldest[1])
            if time.monotonic() - self._written >= _WRITE_EVERY:
                self.flush()

    def all(self) -> list[Sighting]:
        """The unknown MACs, the one seen last first; those that meanwhile belong to a host are left out."""
        with self._database.lock:
            found = [seen for there in self._seen.values() for seen in reversed(there.values())]
            return [
                seen for seen in sorted(found, key=_last, reverse=True) if seen.mac not in self._picture.snapshot.by_mac
            ]

    def flush(self) -> None:
        """Write what is in memory only; a failure is logged and tried again later."""
        with self._database.lock:
            self._written = time.monotonic()
            if not self._unwritten:
                return
            changed = {mac for _, mac in self._unwritten} | self._dropped
            rows = [_row(seen) for seen in self._first_seen(changed)]
            try:
                with self._database.write(durable=False) as tx:
                    known = delete(unknown_macs).where(unknown_macs.c.mac == bindparam("key"))
                    tx.connection.execute(known, [{"key": mac} for mac in changed])
                    tx.connection.execute(insert(unknown_macs), rows)
            except Unavailable as error:
                _log.warning("unknown MACs are kept in memory only: %s", error)
                return
            self._unwritten.clear()
            self._dropped.clear()

    def _first_seen(self, macs: set[str]) -> list[Sighting]:
        """What is remembered of each of the MACs, of the network that saw it first."""
        seen = ((there.get((network, mac))) for mac in macs for network, there in self._seen.items())
        found: dict[str, Sighting] = {}
        for one in seen:
            if one is not None and (one.mac not in found or one.first < found[one.mac].first):
                found[one.mac] = one
        return list(found.values())

    def load(self, connection: Connection) -> None:
        """Read what is kept in memory."""
        query = select(unknown_macs).order_by(unknown_macs.c.last_seen, unknown_macs.c.mac)
        self._seen, self._unwritten, self._dropped = {}, set(), set()
        for row in connection.execute(query).mappings():
            self._seen.setdefault(row["network"], OrderedDict())[row["network"], row["mac"]] = _sighting(row)
        self._written = 0.0


def _last(seen: Sighting) -> datetime:
    return seen.last


def _sighting(row: RowMapping) -> Sighting:
    return Sighting(row["mac"], row["uuid"], row["network"], row["first_seen"], row["last_seen"], row["count"])


def _row(seen: Sighting) -> dict[str, object]:
    return {
        "mac": seen.mac,
        "uuid": seen.uuid,
        "network": seen.network,
        "first_seen": seen.first,
        "last_seen": seen.last,
        "count": seen.count,
    }
