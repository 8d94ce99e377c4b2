"""BMCs: where each host's is, and the password that opens it, sealed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, delete, insert, select

from provision.errors import NotFound, Unavailable
from provision.secret import Secret
from provision.store.database import Database
from provision.store.dialect import Statement
from provision.store.keys import MasterKey, Purpose
from provision.store.ledger import Row
from provision.store.schema import as_text, as_time, bmcs
from provision.store.seal import Sealed, seal, unseal
from provision.store.snapshot import Picture

_OF_HOST = Statement(select(bmcs).where(bmcs.c.host_id == bindparam("host")))
_NAMES = bmcs.c.keys()


@dataclass(frozen=True)
class Bmc:
    """How a host's BMC is reached, as `provision.bmc.access` has it, without the password; who set it, and when.

    `ca` is PEM, `fingerprint` hex SHA-256, `system` a Redfish id; each is "" when it was not given.
    """

    url: str
    user: str
    system: str
    ca: str = field(repr=False)
    fingerprint: str
    created: datetime
    actor: str


@dataclass(frozen=True)
class _Place:
    """A password's row. Where it is sent is part of it, so that nobody who can write the database can have it sent to
    themselves."""

    host_id: str
    host: str
    bmc: Bmc

    def associated_data(self) -> bytes:
        """Canonical JSON, in which no two BMCs read the same."""
        bmc = self.bmc
        parts = ["provision bmc", 1, self.host_id, bmc.url, bmc.user, bmc.system, bmc.ca, bmc.fingerprint]
        return json.dumps(parts, separators=(",", ":")).encode()

    def damaged(self) -> Unavailable:
        """The error for a password that does not open."""
        fact = "its password does not open: its row was altered or belongs to another host"
        return Unavailable(f"BMC of {self.host}", fact, f"set it again: 'provision bmc set {self.host}'")


class Bmcs:
    """The part of the store that knows BMCs. They are asked for rarely, so nothing is kept in memory."""

    def __init__(self, database: Database, picture: Picture, key: MasterKey) -> None:
        self._database, self._picture, self._key = database, picture, key.subkey(Purpose.BMCS)

    def set(self, host: str, bmc: Bmc, password: Secret) -> None:
        """Seal the password, and know this BMC as the host's, instead of another one. Raises NotFound."""
        host_id = self._picture.host_id(host)
        sealed = seal(self._key, _Place(host_id, host, bmc), password)
        values = {
            "host_id": host_id,
            "url": bmc.url,
            "user": bmc.user,
            "system": bmc.system,
            "ca": bmc.ca,
            "fingerprint": bmc.fingerprint,
            "nonce": sealed.nonce,
            "ciphertext": sealed.ciphertext,
            "created": bmc.created,
            "actor": bmc.actor,
        }
        with self._database.write() as tx:
            tx.owned(_OF_HOST, bmcs, host_id)
            tx.connection.execute(delete(bmcs).where(bmcs.c.host_id == host_id))
            tx.posting.drop(bmcs, host_id)
            tx.connection.execute(insert(bmcs).values(values))
            tx.posting.add(bmcs, tuple((values | {"created": as_text(bmc.created)}).values()))
        self._database.forget_deleted()

    def get(self, host: str) -> Bmc:
        """The host's BMC; raises NotFound, and Unavailable when its row is not what was written."""
        return _bmc(self._row(host))

    def open(self, host: str) -> tuple[Bmc, Secret]:
        """The host's BMC with its password; raises NotFound, and Unavailable when it does not open."""
        self._database.require_trust()
        row = self._row(host)
        bmc, sealed = _bmc(row), Sealed(*(row[_NAMES.index(name)] for name in ("nonce", "ciphertext")))
        return bmc, unseal(self._key, _Place(self._picture.host_id(host), host, bmc), sealed)

    def remove(self, host: str) -> None:
        """Know the host's BMC no longer; raises NotFound."""
        host_id = self._picture.host_id(host)
        self._row(host)
        with self._database.write() as tx:
            tx.connection.execute(delete(bmcs).where(bmcs.c.host_id == host_id))
            tx.posting.drop(bmcs, host_id)
        self._database.forget_deleted()

    def _row(self, host: str) -> Row:
        host_id = self._picture.host_id(host)
        with self._database.lock, self._database.read() as tx:
            rows = tx.owned(_OF_HOST, bmcs, host_id)
        if not rows:
            remedy = f"set it: 'provision bmc set {host} --url URL --user USER --password-file FILE'"
            raise NotFound(f"BMC of {host}", "has not been set", remedy)
        return rows[0]


def _bmc(row: Row) -> Bmc:
    found: Mapping[str, Any] = dict(zip(_NAMES, row, strict=True))
    created = as_time(found["created"])
    assert created is not None  # noqa: S101  (not null)
    texts = {name: found[name] for name in ("url", "user", "system", "ca", "fingerprint", "actor")}
    return Bmc(created=created, **texts)
