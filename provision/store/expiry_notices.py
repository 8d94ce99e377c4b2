"""What was said of what ends: how many days ahead, so that a restart says nothing again. No decision rests on it."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import delete, insert, select

from provision.store.database import Database
from provision.store.schema import expiry_notices

_c = expiry_notices.c


class ExpiryNotices:
    """The part of the store that remembers it, by names of the caller's."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> dict[str, int]:
        """The fewest days ahead at which something was said of each. Raises Unavailable."""
        with self._database.read() as tx:
            return {row.name: row.days for row in tx.connection.execute(select(_c.name, _c.days))}

    def keep(self, notices: Mapping[str, int]) -> None:
        """Remember these, and no others. Raises Unavailable."""
        rows = [{"name": name, "days": days} for name, days in sorted(notices.items())]
        with self._database.write() as tx:
            tx.connection.execute(delete(expiry_notices))
            if rows:
                tx.connection.execute(insert(expiry_notices), rows)
