"""Compromised hosts: in one transaction all that gives their media to anybody ends, and what they had is marked.

A credential is exposed when the content of its present version is one that a host had when it was declared compromised.
Contents are known by an HMAC, so that the same one is known again under any later version; nothing takes a mark back.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from provision.principal import Principal
from provision.secret import Secret
from provision.store.database import Database, Transaction
from provision.store.dialect import Statement
from provision.store.keys import MasterKey, Purpose
from provision.store.ledger import Row
from provision.store.rows import raw
from provision.store.schema import compromises, exposures
from provision.store.snapshot import Compromise, Picture

_OF_HOST = Statement(select(compromises).where(compromises.c.host_id == bindparam("host")))
_EXPOSED = Statement(select(exposures).where(exposures.c.host_id == bindparam("host")))
_e = exposures.c

Show = Callable[[], None]
"""Shows in memory what a transaction has written, once it is committed."""
Ending = Callable[[Transaction, str], Show]
"""Ends in a transaction something that a host (its name) has."""


@dataclass(frozen=True)
class Content:
    """A version of a credential, and what it holds."""

    name: str
    version: int
    secret: Secret


class Exposures:
    """Which contents of a host's credentials others may have. Who calls this holds the database's lock."""

    def __init__(self, picture: Picture, key: MasterKey) -> None:
        self._picture, self._key = picture, key.subkey(Purpose.EXPOSURES).reveal()

    def follow(self, tx: Transaction, host_id: str, content: Content) -> Show:
        """Take note of a new version: when its content is a known one of the host, it is exposed from the start."""
        found = tx.owned(_EXPOSED, exposures, host_id)
        if self.digest(content.secret) not in [row[2] for row in found]:
            return lambda: None
        self.put(tx, host_id, content, found)
        return lambda: self._show(host_id, content)

    def put(self, tx: Transaction, host_id: str, content: Content, found: list[Row]) -> None:
        """Mark a content; `found` are the host's rows as they are."""
        digest = self.digest(content.secret)
        row = (host_id, content.name, digest, content.version)
        values = dict(zip(exposures.c.keys(), row, strict=True))
        known = next((one for one in found if (one[1], one[2]) == (content.name, digest)), None)
        if known is None:
            tx.connection.execute(insert(exposures).values(values))
        else:
            of = (_e.host_id == host_id) & (_e.name == content.name) & (_e.digest == digest)
            tx.connection.execute(update(exposures).where(of).values(version=content.version))
            tx.posting.remove(exposures, known)
        tx.posting.add(exposures, row)

    def digest(self, content: Secret) -> str:
        """What a content is known by: without the key nobody can try contents out."""
        return hmac.digest(self._key, content.reveal(), hashlib.sha256).hex()

    def _show(self, host_id: str, content: Content) -> None:
        known = self._picture.compromises[host_id]
        versions = known.versions | {(content.name, content.version)}
        self._picture.compromises[host_id] = replace(known, versions=versions)


class Compromises:
    """The part of the store that knows compromised hosts."""

    def __init__(self, database: Database, picture: Picture, marks: Exposures) -> None:
        self._database, self._picture, self._marks = database, picture, marks

    def declare(
        self,
        host: str,
        contents: list[Content],
        endings: list[Ending],
        now: datetime,
        principal: Principal,
    ) -> None:
        """Mark the `contents` of the host's credentials, withdraw what was made for it, and let each of the `endings`
        end something, all in one transaction. Raises NotFound, and Unavailable: then nothing has been changed."""
        host_id = self._picture.host_id(host)
        with self._database.lock:
            with self._database.write() as tx:
                number = self._count(tx, host_id, now, principal)
                found = tx.owned(_EXPOSED, exposures, host_id)
                for content in contents:
                    self._marks.put(tx, host_id, content, found)
                shows = [ending(tx, host) for ending in endings]
            known = self._picture.compromises.get(host_id)
            versions = (known.versions if known else frozenset()) | {(one.name, one.version) for one in contents}
            self._picture.compromises[host_id] = Compromise(number, now, versions)
            self._picture.show_credentials({host: self._picture.snapshot.credentials.get(host, {})})
            for show in shows:
                show()

    def _count(self, tx: Transaction, host_id: str, now: datetime, principal: Principal) -> int:
        """Write down that the host is compromised once more, and how often that makes."""
        before = tx.owned(_OF_HOST, compromises, host_id)
        number = 1 + sum(int(row[1]) for row in before)
        values: dict[str, Any] = {"number": number, "declared": now, "actor": principal.name}
        if before:
            tx.connection.execute(update(compromises).where(compromises.c.host_id == host_id).values(values))
            tx.posting.drop(compromises, host_id)
        else:
            tx.connection.execute(insert(compromises).values(host_id=host_id, **values))
        tx.posting.add(compromises, (host_id, *map(raw, values.values())))
        return number

    def load(self, connection: Connection) -> None:
        """Read what is kept in memory; the picture shows it when it is read next."""
        versions: dict[str, set[tuple[str, int]]] = {}
        for host_id, name, _, version in connection.execute(select(exposures)):
            versions.setdefault(host_id, set()).add((name, version))
        self._picture.compromises = {
            host_id: Compromise(number, declared, frozenset(versions.get(host_id, ())))
            for host_id, number, declared, _ in connection.execute(select(compromises))
        }

    def forget(self) -> None:
        """Keep nothing in memory of hosts that are gone."""
        kept = set(self._picture.snapshot.ids.values())
        self._picture.compromises = {key: one for key, one in self._picture.compromises.items() if key in kept}
