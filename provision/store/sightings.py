"""MACs that asked for a boot and belong to no host: a convenience for the operator, so it may never hurt serving."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, RowMapping, bindparam, delete, insert, select

from provision.errors import Unavailable
from provision.store.hosts import Hosts
from provision.store.schema import unknown_macs

LIMIT = 4096
"""Sightings kept; the one seen longest ago goes first."""

_WRITE_EVERY = 5.0
"""Seconds between two writes: whoever sends many MACs must not make the disk wait for each."""

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


class Sightings(Hosts):
    """The part of the store that remembers unknown MACs: in memory at once, on disk a little later."""

    _seen: dict[str, Sighting]
    _unwritten: set[str]
    _written: float

    def seen_unknown(self, mac: str, uuid: str | None, network: str, now: datetime) -> None:
        """Note a MAC; never raises for want of a disk."""
        with self._lock:
            known = self._seen.pop(mac, None)
            if known is None:
                self._seen[mac] = Sighting(mac, uuid, network, now, now, 1)
            else:
                again = replace(known, uuid=uuid or known.uuid, network=network, last=now, count=known.count + 1)
                self._seen[mac] = again
            self._unwritten.add(mac)
            while len(self._seen) > LIMIT:
                oldest = next(iter(self._seen))
                del self._seen[oldest]
                self._unwritten.discard(oldest)
            if time.monotonic() - self._written >= _WRITE_EVERY:
                self.flush_sightings()

    def unknown(self) -> list[Sighting]:
        """The unknown MACs, the one seen last first; those that meanwhile belong to a host are left out."""
        with self._lock:
            return [seen for seen in reversed(self._seen.values()) if seen.mac not in self._snapshot.by_mac]

    def flush_sightings(self) -> None:
        """Write what is in memory only; a failure is logged and tried again later."""
        with self._lock:
            self._written = time.monotonic()
            if not self._unwritten:
                return
            rows = [_row(self._seen[mac]) for mac in self._unwritten]
            newest = (
                select(unknown_macs.c.mac).order_by(unknown_macs.c.last_seen.desc(), unknown_macs.c.mac).limit(LIMIT)
            )
            try:
                with self._write(durable=False) as connection:
                    known = delete(unknown_macs).where(unknown_macs.c.mac == bindparam("key"))
                    connection.execute(known, [{"key": mac} for mac in self._unwritten])
                    connection.execute(insert(unknown_macs), rows)
                    connection.execute(delete(unknown_macs).where(unknown_macs.c.mac.not_in(newest)))
            except Unavailable as error:
                _log.warning("unknown MACs are kept in memory only: %s", error)
                return
            self._unwritten.clear()

    def close(self) -> None:
        """Write what is in memory only, then close every connection."""
        self.flush_sightings()
        super().close()

    def _load(self, connection: Connection) -> None:
        super()._load(connection)
        query = select(unknown_macs).order_by(unknown_macs.c.last_seen, unknown_macs.c.mac)
        self._seen = {row["mac"]: _sighting(row) for row in connection.execute(query).mappings()}
        self._unwritten = set()
        self._written = 0.0


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
