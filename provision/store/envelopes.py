"""The number of each host's newest envelope: a host that remembers one takes none with a lower number."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from provision.store.database import Database
from provision.store.schema import envelopes
from provision.store.snapshot import Picture


class Envelopes:
    """The part of the store that numbers envelopes. All numbers are in memory, too."""

    def __init__(self, database: Database, picture: Picture) -> None:
        self._database, self._picture = database, picture
        self._known: dict[str, tuple[int, str]] = {}

    def number(self, host: str, content: str, now: datetime) -> int:
        """The number of the host's envelope with this content (a hash): the same as before, or one above all before,
        and above those of a store that was lost. Raises NotFound and Unavailable."""
        host_id = self._picture.host_id(host)
        with self._database.lock:
            before, known = self._known.get(host, (0, ""))
            if known == content:
                return before
            number = max(before + 1, int(now.timestamp()))
            with self._database.write() as tx:
                tx.connection.execute(delete(envelopes).where(envelopes.c.host_id == host_id))
                tx.posting.drop(envelopes, host_id)
                tx.connection.execute(insert(envelopes).values(host_id=host_id, number=number, content=content))
                tx.posting.add(envelopes, (host_id, number, content))
            self._known[host] = number, content
            return number

    def newest(self, host: str) -> int:
        """The number of the host's newest envelope; 0 when it was never given one."""
        return self._known.get(host, (0, ""))[0]

    def load(self, connection: Connection) -> None:
        """Read what is kept in memory."""
        names = self._picture.names()
        self._known = {names[row[0]]: (row[1], row[2]) for row in connection.execute(select(envelopes))}

    def forget(self, names: tuple[str, ...]) -> None:
        """Keep nothing in memory of hosts that are gone."""
        for name in names:
            self._known.pop(name, None)
