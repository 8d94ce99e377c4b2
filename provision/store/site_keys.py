"""The keys of the site: public halves for everybody, private ones sealed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from provision.errors import Conflict, NotFound, Unavailable
from provision.secret import Secret
from provision.site_key import KeyUse, SiteKey
from provision.store.database import Database
from provision.store.keys import MasterKey, Purpose
from provision.store.rows import raw
from provision.store.schema import site_keys
from provision.store.seal import Sealed, seal, unseal

MOST = 8
"""Keys of one use that there may be: hosts know all of them."""
_c = site_keys.c


@dataclass(frozen=True)
class _Place:
    """A private half's row: it opens beside its public half only, and for its use."""

    use: KeyUse
    public: bytes

    def associated_data(self) -> bytes:
        """Canonical JSON, in which no two keys read the same."""
        parts = ["provision site key", 1, self.use.value, hashlib.sha256(self.public).hexdigest()]
        return json.dumps(parts, separators=(",", ":")).encode()

    def damaged(self) -> Unavailable:
        """The error for a private half that does not open."""
        fact = "does not open: its row was altered"
        return Unavailable(f"{self.use} key of the site", fact, "restore the database from a backup")


class SiteKeys:
    """The part of the store that knows the site's keys: all of them are in memory, too, the private halves sealed."""

    def __init__(self, database: Database, key: MasterKey) -> None:
        self._database, self._key = database, key.subkey(Purpose.SITE_KEYS)
        self._keys: dict[int, tuple[SiteKey, Sealed | None]] = {}

    def all(self) -> list[SiteKey]:
        """Every key by its use, the oldest first."""
        with self._database.lock:
            found = [key for key, _ in self._keys.values()]
        return sorted(found, key=lambda key: (list(KeyUse).index(key.use), key.number))

    def of(self, use: KeyUse) -> list[SiteKey]:
        """The keys of one use, the oldest first: that is the one which is used."""
        return [key for key in self.all() if key.use is use]

    def get(self, number: int) -> SiteKey:
        """The key with this number; raises NotFound."""
        if number not in self._keys:
            raise NotFound(f"site key {number}", "there is none with this number", "see 'provision site-key list'")
        return self._keys[number][0]

    def add(self, use: KeyUse, public: bytes, private: Secret | None, now: datetime, actor: str) -> SiteKey:
        """Seal a new key; without a private half it is used elsewhere. Raises Conflict when there are too many."""
        sealed = seal(self._key, _Place(use, public), private) if private is not None else None
        values: dict[str, Any] = {
            "use": use.value,
            "public": public,
            "nonce": sealed.nonce if sealed else None,
            "ciphertext": sealed.ciphertext if sealed else None,
            "created": now,
            "actor": actor,
        }
        with self._database.lock:
            if len(self.of(use)) >= MOST:
                fact = f"there are {MOST} already for the use '{use}'"
                raise Conflict("site keys", fact, "retire one: 'provision site-key retire NUMBER'")
            with self._database.write() as tx:
                (number,) = tx.connection.execute(insert(site_keys), values).inserted_primary_key or (0,)
                row = (number, *map(raw, values.values()))
                tx.posting.add(site_keys, row)
            key = SiteKey(int(number), use, public, sealed is not None, now, actor)
            self._keys[key.number] = key, sealed
        return key

    def remove(self, number: int) -> None:
        """Forget a key, private half and all; raises NotFound."""
        with self._database.lock:
            self.get(number)
            with self._database.write() as tx:
                tx.connection.execute(delete(site_keys).where(_c.id == number))
                tx.posting.drop(site_keys, str(number))
            del self._keys[number]
        self._database.forget_deleted()

    def open(self, key: SiteKey) -> Secret:
        """The private half; raises Unavailable when it does not open, Conflict when it is not on this server."""
        self._database.require_trust()
        known, sealed = self._keys.get(key.number, (None, None))
        if known != key:
            raise NotFound(f"site key {key.number}", "there is none with this number", "see 'provision site-key list'")
        if sealed is None:
            fact = "its private half is not on this server"
            raise Conflict(f"{key.use} key of the site", fact, "sign where it is, and give the server what was signed")
        return unseal(self._key, _Place(key.use, key.public), sealed)

    def load(self, connection: Connection) -> None:
        """Read what is kept in memory.

        A key that signs or approves and does not open is not this store's, whatever an operator has accepted.
        """
        self._keys = {}
        for row in connection.execute(select(site_keys)):
            sealed = Sealed(row.nonce, row.ciphertext) if row.ciphertext is not None else None
            key = SiteKey(row.id, KeyUse(row.use), row.public, sealed is not None, row.created, row.actor)
            if key.use is KeyUse.SECURE_BOOT or self._opens(key, sealed):
                self._keys[key.number] = key, sealed

    def _opens(self, key: SiteKey, sealed: Sealed | None) -> bool:
        try:
            return sealed is not None and bool(unseal(self._key, _Place(key.use, key.public), sealed))
        except Unavailable:
            return False
