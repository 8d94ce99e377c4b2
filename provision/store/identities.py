"""Identities that hosts keep on their own disks, as they say themselves: at most one of each host."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from provision.store.database import Database, Transaction
from provision.store.rows import raw
from provision.store.schema import identities
from provision.store.snapshot import Picture
from provision.stored import Holds, Ordered, StoredIdentity


class Identities:
    """The part of the store that knows them; all of it is in memory, too."""

    def __init__(self, database: Database, picture: Picture) -> None:
        self._database, self._picture = database, picture
        self._of: dict[str, StoredIdentity] = {}

    def of(self, host: str) -> StoredIdentity | None:
        """What the host holds; None when it holds nothing, or is not there."""
        key = self._picture.snapshot.ids.get(host)
        return self._of.get(key) if key is not None else None

    def put(self, host: str, identity: StoredIdentity) -> None:
        """Remember what the host holds, instead of what it held. Raises NotFound, and Unavailable."""
        key = self._picture.host_id(host)
        with self._database.lock:
            with self._database.write() as tx:
                _drop(tx, key)
                values = _values(key, identity)
                tx.connection.execute(insert(identities).values(values))
                tx.posting.add(identities, tuple(map(raw, values.values())))
            self._of[key] = identity

    def order(self, host: str, ordered: Ordered) -> bool:
        """Note what the host is to do with the identity that it holds; False when it holds none."""
        known = self.of(host)
        if known is None:
            return False
        self.put(host, replace(known, ordered=ordered))
        return True

    def remove(self, host: str) -> None:
        """The host holds nothing any more. Raises NotFound, and Unavailable."""
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
            row.host_id: StoredIdentity(
                row.boot,
                row.network,
                Holds(row.revision, json.loads(row.credentials)),
                row.reported,
                Ordered(row.ordered),
            )
            for row in connection.execute(select(identities))
        }

    def forget(self) -> None:
        """Keep nothing in memory of hosts that are gone."""
        kept = set(self._picture.snapshot.ids.values())
        self._of = {key: one for key, one in self._of.items() if key in kept}


def _drop(tx: Transaction, key: str) -> None:
    tx.connection.execute(delete(identities).where(identities.c.host_id == key))
    tx.posting.drop(identities, key)


def _values(key: str, identity: StoredIdentity) -> dict[str, Any]:
    return {
        "host_id": key,
        "boot": identity.boot,
        "network": identity.network,
        "revision": identity.holds.revision,
        "credentials": json.dumps(dict(sorted(identity.holds.credentials.items())), separators=(",", ":")),
        "reported": identity.reported,
        "ordered": identity.ordered.value,
    }
