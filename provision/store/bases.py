"""The names of base images: what an inventory calls a base, and which one that is."""

from __future__ import annotations

from sqlalchemy import delete, insert

from provision.errors import Conflict, NotFound
from provision.store import schema
from provision.store.database import Database
from provision.store.snapshot import Picture


class Bases:
    """The part of the store that holds the names of base images; the snapshot shows them."""

    def __init__(self, database: Database, picture: Picture) -> None:
        self._database, self._picture = database, picture

    def name(self, name: str, base_id: str) -> None:
        """Let `name` stand for the base image `base_id`; a name that is taken moves to it."""
        with self._database.lock:
            with self._database.write() as tx:
                tx.connection.execute(delete(schema.bases).where(schema.bases.c.name == name))
                tx.connection.execute(insert(schema.bases).values(name=name, base_id=base_id))
                tx.posting.drop(schema.bases, name)
                tx.posting.add(schema.bases, (name, base_id))
            self._picture.show_bases({**self._picture.snapshot.bases, name: base_id})

    def id_of(self, name: str) -> str:
        """The id of the base image that `name` stands for; raises NotFound."""
        base_id = self._picture.snapshot.bases.get(name)
        if base_id is None:
            raise NotFound(f"base image '{name}'", "is not imported", "see 'provision image list'")
        return base_id

    def require_unused(self, name: str) -> None:
        """Raise what `forget` would, and change nothing."""
        self.id_of(name)
        snapshot = self._picture.snapshot
        moved = snapshot.moved
        users = [h.name for h in snapshot.hosts.values() if name in (h.base, moved.get(h.name))]
        if snapshot.site is not None and snapshot.site.base == name:
            users.insert(0, "the site")
        if users:
            more = f" and {len(users) - 3} more" if len(users) > 3 else ""
            fact = f"is used by {', '.join(users[:3])}{more}"
            raise Conflict(f"base image '{name}'", fact, "give them another base and run 'provision apply'")

    def forget(self, name: str) -> None:
        """Drop a base image's name; raises NotFound, and Conflict while the site or a host boots from it."""
        with self._database.lock:
            self.require_unused(name)
            with self._database.write() as tx:
                tx.connection.execute(delete(schema.bases).where(schema.bases.c.name == name))
                tx.posting.drop(schema.bases, name)
            self._picture.show_bases({n: i for n, i in self._picture.snapshot.bases.items() if n != name})
