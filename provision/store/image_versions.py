"""The versions under which boots of base images are approved, and the lowest that hosts are to take.

A TPM compares one number with the one in its memory, so versions are one line: who revokes an image revokes all that
were approved before it.
"""

from __future__ import annotations

from sqlalchemy import Connection, insert, select, update

from provision.store.database import Database
from provision.store.schema import image_versions

_v = image_versions.c


class ImageVersions:
    """The part of the store that numbers base images. All numbers are in memory, too."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, tuple[int, bool]] = {}

    @property
    def least(self) -> int:
        """The lowest version that is not revoked."""
        return 1 + max((version for version, revoked in self._known.values() if revoked), default=0)

    def known(self, base_id: str) -> int | None:
        """The version of a base image; None when no boot of it was ever approved."""
        found = self._known.get(base_id)
        return found[0] if found else None

    def is_revoked(self, base_id: str) -> bool:
        """Whether no boot of a base image is approved any more."""
        version = self.known(base_id)
        return version is not None and version < self.least

    def version(self, base_id: str) -> int:
        """The same, and the next one when it has none. Raises Unavailable."""
        with self._database.lock:
            if base_id not in self._known:
                number = 1 + max((version for version, _ in self._known.values()), default=0)
                with self._database.write() as tx:
                    tx.connection.execute(insert(image_versions).values(base_id=base_id, version=number, revoked=False))
                    tx.posting.add(image_versions, (base_id, number, 0))
                self._known[base_id] = number, False
            return self._known[base_id][0]

    def revoke(self, base_id: str) -> int:
        """Take back the approvals of a base image, and of all that have lower versions; returns the lowest version that
        is left. Raises Unavailable."""
        with self._database.lock:
            number = self.version(base_id)
            with self._database.write() as tx:
                tx.connection.execute(update(image_versions).where(_v.base_id == base_id).values(revoked=True))
                tx.posting.drop(image_versions, base_id)
                tx.posting.add(image_versions, (base_id, number, 1))
            self._known[base_id] = number, True
            return self.least

    def load(self, connection: Connection) -> None:
        """Read what is kept in memory."""
        self._known = {row[0]: (row[1], bool(row[2])) for row in connection.execute(select(image_versions))}
