"""What credentials were before, sealed as it was, as long as their hosts still have that on their disks."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import Connection, bindparam, delete, insert, select

from provision.store.compromises import Content
from provision.store.database import Database, Transaction
from provision.store.dialect import Statement
from provision.store.keys import MasterKey, Purpose
from provision.store.ledger import Row
from provision.store.schema import as_time, earlier_credentials
from provision.store.seal import Place, Sealed, unseal
from provision.store.snapshot import Picture

_c = earlier_credentials.c
_OF_HOST = Statement(select(*_c).where(_c.host_id == bindparam("host")))
_PLACE = _c.name, _c.version, _c.kind, _c.path, _c.mode
_SEALED = _c.nonce, _c.ciphertext


class EarlierCredentials:
    """The part of the store that keeps them: of each credential one at most. Their versions are in memory, too."""

    def __init__(self, database: Database, picture: Picture, key: MasterKey) -> None:
        self._database, self._picture, self._key = database, picture, key
        self._versions: dict[str, dict[str, int]] = {}

    def of(self, host: str) -> Mapping[str, int]:
        """The version of each, by the credential's name."""
        return self._versions.get(self._picture.snapshot.ids.get(host, ""), {})

    def keep(self, tx: Transaction, row: Row) -> Callable[[], None]:
        """Keep a credential's row, which is replaced in this transaction; what this returns shows it in memory."""
        host_id, name, version = row[0], row[1], row[2]
        self._drop(tx, host_id, (name,))
        typed = (*row[:-2], *map(as_time, row[-2:]))
        tx.connection.execute(insert(earlier_credentials).values(dict(zip(_c.keys(), typed, strict=True))))
        tx.posting.add(earlier_credentials, row)

        def show() -> None:
            self._versions.setdefault(host_id, {})[name] = version

        return show

    def open(self, host: str) -> list[Content]:
        """All of a host's, in clear. Raises NotFound, and Unavailable when one does not open."""
        host_id, key = self._picture.host_id(host), self._key.subkey(Purpose.SEALING)
        self._database.require_trust()
        if not self.of(host):
            return []
        with self._database.lock, self._database.read() as tx:
            rows = tx.owned(_OF_HOST, earlier_credentials, host_id)
        found = []
        for row in rows:
            values = dict(zip(_c.keys(), row, strict=True))
            name, version, kind, path, mode = (values[column.name] for column in _PLACE)
            place = Place(host_id, host, name, version, kind, path, mode)
            found.append(Content(name, version, unseal(key, place, Sealed(*(values[c.name] for c in _SEALED)))))
        return found

    def forget_all_but(self, host: str, held: Mapping[str, int]) -> dict[str, int]:
        """Forget all that are not of the versions that the host still holds; returns what is gone. Raises NotFound, and
        Unavailable."""
        gone = {name: version for name, version in self.of(host).items() if held.get(name) != version}
        if gone:
            with self._database.lock:
                with self._database.write() as tx:
                    show = self.removing(tx, host, tuple(gone))
                show()
            self._database.forget_deleted()
        return gone

    def removing(self, tx: Transaction, host: str, names: tuple[str, ...]) -> Callable[[], None]:
        """Forget these as part of a transaction; what this returns shows it in memory, once that is committed."""
        host_id = self._picture.host_id(host)
        self._drop(tx, host_id, names)

        def show() -> None:
            for name in names:
                self._versions.get(host_id, {}).pop(name, None)

        return show

    def load(self, connection: Connection) -> None:
        """Read what is kept in memory."""
        self._versions = {}
        for host_id, name, version in connection.execute(select(_c.host_id, _c.name, _c.version)):
            self._versions.setdefault(host_id, {})[name] = version

    def forget(self) -> None:
        """Keep nothing in memory of hosts that are gone."""
        kept = set(self._picture.snapshot.ids.values())
        self._versions = {key: one for key, one in self._versions.items() if key in kept}

    def _drop(self, tx: Transaction, host_id: str, names: tuple[str, ...]) -> None:
        gone = [row for row in tx.owned(_OF_HOST, earlier_credentials, host_id) if row[1] in names]
        tx.connection.execute(delete(earlier_credentials).where((_c.host_id == host_id) & _c.name.in_(names)))
        for row in gone:
            tx.posting.remove(earlier_credentials, row)
