"""What hosts say of the slots on their own disks: the last word of each host, and which versions failed on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from provision.slots import Failure, HostSlots
from provision.store.database import Database, Transaction
from provision.store.rows import raw
from provision.store.schema import slots
from provision.store.snapshot import Picture


class Slots:
    """The part of the store that knows them; all of it is in memory, too."""

    def __init__(self, database: Database, picture: Picture) -> None:
        self._database, self._picture = database, picture
        self._of: dict[str, HostSlots] = {}

    def of(self, host: str) -> HostSlots | None:
        """What the host said; None when it has said nothing of slots, or is not there."""
        key = self._picture.snapshot.ids.get(host)
        return self._of.get(key) if key is not None else None

    def put(self, host: str, said: HostSlots) -> None:
        """Remember this of the host, instead of what it said before. Raises NotFound, and Unavailable."""
        key = self._picture.host_id(host)
        with self._database.lock:
            with self._database.write() as tx:
                _drop(tx, key)
                values = _values(key, said)
                tx.connection.execute(insert(slots).values(values))
                tx.posting.add(slots, tuple(map(raw, values.values())))
            self._of[key] = said

    def remove(self, host: str) -> None:
        """Nothing is known of the host's slots any more. Raises NotFound, and Unavailable."""
        with self._database.lock:
            with self._database.write() as tx:
                show = self.removing(tx, host)
            show()

    def removing(self, tx: Transaction, host: str) -> Callable[[], None]:
        """The same as part of a transaction; what this returns shows it in memory, once that is committed."""
        key = self._picture.host_id(host)
        _drop(tx, key)

        def show() -> None:
            self._of.pop(key, None)

        return show

    def load(self, connection: Connection) -> None:
        """Read what is kept in memory."""
        self._of = {
            row.host_id: HostSlots(row.said, row.reported, row.attempt, _failures(row.failed))
            for row in connection.execute(select(slots))
        }

    def forget(self) -> None:
        """Keep nothing in memory of hosts that are gone."""
        kept = set(self._picture.snapshot.ids.values())
        self._of = {key: one for key, one in self._of.items() if key in kept}


def _drop(tx: Transaction, key: str) -> None:
    tx.connection.execute(delete(slots).where(slots.c.host_id == key))
    tx.posting.drop(slots, key)


def _values(key: str, said: HostSlots) -> dict[str, Any]:
    failed = {id_: [one.attempt, one.reason, one.at.isoformat()] for id_, one in sorted(said.failed.items())}
    return {
        "host_id": key,
        "said": said.said,
        "reported": said.reported,
        "attempt": said.attempt,
        "failed": json.dumps(failed, separators=(",", ":")),
    }


def _failures(text: str) -> Mapping[str, Failure]:
    return {
        id_: Failure(attempt, reason, datetime.fromisoformat(at))
        for id_, (attempt, reason, at) in json.loads(text).items()
    }
