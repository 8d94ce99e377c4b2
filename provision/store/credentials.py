"""Credentials at rest: sealed when they are set, opened only for a seed that policy has released."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from provision.errors import NotFound
from provision.secret import Secret
from provision.site import CredentialKind, CredentialSpec
from provision.store.compromises import Content, Exposures, Show
from provision.store.database import Database, Transaction
from provision.store.dialect import Statement
from provision.store.earlier_credentials import EarlierCredentials
from provision.store.keys import MasterKey, Purpose
from provision.store.schema import as_text, credential_versions, credentials
from provision.store.seal import Place, Sealed, seal, unseal
from provision.store.snapshot import Picture

# A hash of a short token would let anyone who reads the database guess it.
_FINGERPRINTED = frozenset({CredentialKind.KEYTAB, CredentialKind.CERTIFICATE, CredentialKind.KEY})

_c = credentials.c
_COLUMNS = _c.name, _c.version, _c.kind, _c.path, _c.mode, _c.nonce, _c.ciphertext
_AT = [credentials.c.keys().index(column.name) for column in _COLUMNS]
_PLACES = select(_c.host_id, _c.name, _c.kind, _c.path, _c.mode)
_AGES = select(_c.host_id, _c.name, _c.kind, _c.not_after, _c.created)
_OF_HOST = Statement(select(*_c).where(_c.host_id == bindparam("host")))
_v = credential_versions.c
_VERSIONS = Statement(select(*_v).where(_v.host_id == bindparam("host")))

_Rows = Sequence[tuple[Any, ...]]  # of one host, with _COLUMNS
_IN_MEMORY = 16 * 1024
"""Bytes of sealed credentials of one host that are kept in memory; what a host has beyond is read when it is opened."""


@dataclass(frozen=True)
class CredentialInput:
    """A credential to seal: its name and kind, where it is to stand on the host, and when it ends (if it does).

    `held` is the version that the host has on its disk, which is kept when this replaces it.
    """

    name: str
    kind: CredentialKind
    path: str
    mode: str
    data: Secret
    not_after: datetime | None = None
    held: int | None = None


@dataclass(frozen=True)
class CredentialInfo:
    """What may be shown of a sealed credential. `size` is in bytes.

    `fingerprint` is the hex SHA-256 of a keytab, certificate or key, and empty for what might be guessed from it.
    """

    host: str
    name: str
    version: int
    kind: CredentialKind
    path: str
    mode: str
    fingerprint: str
    size: int
    not_after: datetime | None
    created: datetime


@dataclass(frozen=True)
class OpenCredential:
    """A credential in clear, on its way into a seed."""

    name: str
    version: int
    kind: CredentialKind
    path: str
    mode: str
    secret: Secret


class Credentials:
    """The part of the store that holds credentials."""

    def __init__(
        self, database: Database, picture: Picture, key: MasterKey, exposures: Exposures, earlier: EarlierCredentials
    ) -> None:
        self._database, self._picture, self._key, self._exposures = database, picture, key, exposures
        self._earlier = earlier
        # By host id, and still sealed: no boot waits for the database to read what every seed of the host has.
        self._sealed: dict[str, _Rows] = {}

    def set(self, host: str, value: CredentialInput, now: datetime) -> int:
        """Seal a credential of a host and return its version, which is higher than any before; raises NotFound."""
        return self.set_all([(host, value)], now)[0]

    def set_all(self, values: Sequence[tuple[str, CredentialInput]], now: datetime) -> list[int]:
        """Seal many credentials (host, value) in one transaction: all of them or none."""
        with self._database.lock:
            known = self._picture.snapshot.credentials
            changed = {host: dict(known.get(host, {})) for host, _ in values}
            latest: list[int] = []
            shows: list[Show] = []
            with self._database.write() as tx:
                for host, value in values:
                    shows += self._keep_held(tx, host, value)
                    changed[host][value.name] = self._set(tx, host, value, now)
                    latest.append(changed[host][value.name])
                    content = Content(value.name, latest[-1], value.data)
                    shows.append(self._exposures.follow(tx, self._picture.host_id(host), content))
                rows = {host: self._rows(tx, host) for host in changed}
            self._keep(rows)
            for show in shows:
                show()
            self._picture.show_credentials(changed)
        self._database.forget_deleted()
        return latest

    def require(self, host: str, name: str) -> None:
        """Raise NotFound when the host has no such credential."""
        self._picture.host_id(host)
        if name not in self._picture.snapshot.credentials.get(host, {}):
            raise _missing(host, name)

    def remove(self, host: str, name: str) -> None:
        """Forget a credential; raises NotFound."""
        host_id = self._picture.host_id(host)
        with self._database.lock:
            with self._database.write() as tx:
                if not self._delete(tx, host_id, name):
                    raise _missing(host, name)
                show = self._earlier.removing(tx, host, (name,))
                rows = {host: self._rows(tx, host)}
            self._keep(rows)
            show()
            known = self._picture.snapshot.credentials[host]
            self._picture.show_credentials({host: {n: v for n, v in known.items() if n != name}})
        self._database.forget_deleted()

    def infos(self, host: str | None = None) -> list[CredentialInfo]:
        """What is sealed, of one host or of all, sorted by host and name; opens nothing. Raises NotFound."""
        query = select(credentials).order_by(credentials.c.name)
        if host is not None:
            query = query.where(credentials.c.host_id == self._picture.host_id(host))
        names = self._picture.names()
        with self._database.read() as tx:
            rows = [row for row in tx.connection.execute(query).mappings() if row["host_id"] in names]
        infos = [
            CredentialInfo(
                host=names[row["host_id"]],
                kind=CredentialKind(row["kind"]),
                **{
                    k: row[k]
                    for k in ("name", "version", "path", "mode", "fingerprint", "size", "not_after", "created")
                },
            )
            for row in rows
        ]
        return sorted(infos, key=lambda info: (info.host, info.name))

    def ages(self) -> tuple[list[tuple[str, str, datetime]], datetime | None]:
        """When each certificate ends, as (host, name, end), and when the oldest keytab was sealed. Raises Unavailable,
        also for rows that are not as they were written."""
        self._database.require_trust()
        names, ends, keytabs = self._picture.names(), [], list[datetime]()
        try:
            with self._database.read() as tx:
                rows = tx.connection.execute(_AGES).all()
        except (ValueError, TypeError):
            raise self._database.lost_trust() from None
        for host_id, name, kind, not_after, created in rows:
            if host_id in names and not_after is not None:
                ends.append((names[host_id], name, not_after))
            if host_id in names and kind == CredentialKind.KEYTAB:
                keytabs.append(created)
        return ends, min(keytabs, default=None)

    def places(self) -> dict[str, dict[str, CredentialSpec]]:
        """Of what kind every credential is sealed, and where it is to stand, by host and name."""
        names = self._picture.names()
        found: dict[str, dict[str, CredentialSpec]] = {}
        with self._database.read() as tx:
            for host_id, name, kind, path, mode in tx.connection.execute(_PLACES):
                if host_id in names:
                    spec = CredentialSpec.model_construct(kind=CredentialKind(kind), path=path, mode=mode)
                    found.setdefault(names[host_id], {})[name] = spec
        return found

    def open(self, host: str, names: Sequence[str]) -> list[OpenCredential]:
        """The named credentials in clear, in the order asked for.

        Raises NotFound naming one that was never set, and Unavailable when one does not open.
        """
        host_id = self._picture.host_id(host)
        self._database.require_trust()
        with self._database.lock:
            sealed, newest = self._sealed.get(host_id), self._picture.snapshot.credentials.get(host, {})
            if sealed is None:
                with self._database.read() as tx:
                    sealed = self._rows(tx, host)
        rows = {row[0]: row for row in sealed}
        key, opened = self._key.subkey(Purpose.SEALING), []
        for wanted in names:
            if wanted not in rows:
                raise _missing(host, wanted)
            name, version, kind, path, mode, nonce, ciphertext = rows[wanted]
            if version != newest.get(name):
                raise self._database.lost_trust()
            secret = unseal(key, Place(host_id, host, name, version, kind, path, mode), Sealed(nonce, ciphertext))
            opened.append(OpenCredential(name, version, CredentialKind(kind), path, mode, secret))
        return opened

    def load(self, connection: Connection) -> None:
        """Read what is kept in memory."""
        found: dict[str, list[tuple[Any, ...]]] = {}
        for host_id, *row in connection.execute(select(_c.host_id, *_COLUMNS)):
            found.setdefault(host_id, []).append(tuple(row))
        self._sealed = {host_id: rows for host_id, rows in found.items() if _is_small(rows)}

    def _rows(self, tx: Transaction, host: str) -> _Rows:
        """The host's sealed credentials; raises Unavailable when they are not what was written last."""
        rows = tx.owned(_OF_HOST, credentials, self._picture.host_id(host))
        return [tuple(row[at] for at in _AT) for row in rows]

    def _keep(self, changed: Mapping[str, _Rows]) -> None:
        for host, rows in changed.items():
            host_id = self._picture.host_id(host)
            self._sealed.pop(host_id, None)
            if _is_small(rows):
                self._sealed[host_id] = rows

    def forget(self) -> None:
        """Keep nothing in memory of hosts that are gone."""
        kept = set(self._picture.snapshot.ids.values())
        self._sealed = {host_id: rows for host_id, rows in self._sealed.items() if host_id in kept}

    def _set(self, tx: Transaction, host: str, value: CredentialInput, now: datetime) -> int:
        host_id, name = self._picture.host_id(host), value.name
        version = self._next_version(tx, host_id, name)
        place = Place(host_id, host, name, version, value.kind.value, value.path, value.mode)
        sealed = seal(self._key.subkey(Purpose.SEALING), place, value.data)
        known = value.kind in _FINGERPRINTED
        self._delete(tx, host_id, name)
        row = {
            "host_id": host_id,
            "name": name,
            "version": version,
            "kind": value.kind.value,
            "path": value.path,
            "mode": value.mode,
            "fingerprint": hashlib.sha256(value.data.reveal()).hexdigest() if known else "",
            "size": len(value.data),
            "nonce": sealed.nonce,
            "ciphertext": sealed.ciphertext,
            "not_after": value.not_after,
            "created": now,
        }
        tx.connection.execute(insert(credentials).values(row))
        stored = row | {"not_after": as_text(value.not_after), "created": as_text(now)}
        tx.posting.add(credentials, tuple(stored.values()))
        return version

    def _keep_held(self, tx: Transaction, host: str, value: CredentialInput) -> list[Show]:
        """Keep what is about to be replaced, when the host has it on its disk."""
        rows = tx.owned(_OF_HOST, credentials, self._picture.host_id(host))
        return [self._earlier.keep(tx, row) for row in rows if (row[1], row[2]) == (value.name, value.held)]

    def _delete(self, tx: Transaction, host_id: str, name: str) -> bool:
        """Take a credential out; False when there is none."""
        rows = tx.owned(_OF_HOST, credentials, host_id)
        tx.connection.execute(delete(credentials).where((_c.host_id == host_id) & (_c.name == name)))
        gone = [row for row in rows if row[1] == name]
        for row in gone:
            tx.posting.remove(credentials, row)
        return bool(gone)

    def _next_version(self, tx: Transaction, host_id: str, name: str) -> int:
        rows = tx.owned(_VERSIONS, credential_versions, host_id)
        latest = next((row[2] for row in rows if row[1] == name), 0)
        if latest:
            row = (_v.host_id == host_id) & (_v.name == name)
            tx.connection.execute(update(credential_versions).where(row).values(latest=latest + 1))
            tx.posting.remove(credential_versions, (host_id, name, latest))
        else:
            tx.connection.execute(insert(credential_versions).values(host_id=host_id, name=name, latest=1))
        tx.posting.add(credential_versions, (host_id, name, latest + 1))
        return int(latest) + 1


def _is_small(rows: _Rows) -> bool:
    return sum(len(row[-1]) for row in rows) <= _IN_MEMORY


def _missing(host: str, name: str) -> NotFound:
    remedy = f"set it: 'provision credential set {host} {name} --file FILE'"
    return NotFound(f"credential '{name}' of {host}", "has not been set", remedy)
