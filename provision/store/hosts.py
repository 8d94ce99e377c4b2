"""The inventory at rest, and its picture in memory that serving reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, bindparam, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from provision.errors import Conflict, Invalid, NotFound, Unavailable
from provision.host import Host
from provision.site import Inventory, Site
from provision.store import dialect, schema
from provision.store.database import Database
from provision.store.ledger import OF_HOSTS, Change

_Versions = Mapping[str, int]
_EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Snapshot:
    """The inventory at one moment; immutable, and replaced as a whole by every change.

    `change` counts the changes since the store was opened. `hosts` is by name and sorted by it; `by_mac` has
    the name for every MAC. `ids` are the hosts' stable identities: a host that is removed and added again under its
    name gets another. `credentials` are
    the versions of the sealed credentials by host and name. `revisions` holds for every host the hex SHA-256 of all
    that its seed is made of: the site, the host, and the versions of the credentials that it names.
    """

    change: int
    site: Site | None
    hosts: Mapping[str, Host]
    by_mac: Mapping[str, str]
    ids: Mapping[str, str]
    credentials: Mapping[str, _Versions]
    revisions: Mapping[str, str]
    bases: Mapping[str, str]


@dataclass(frozen=True)
class Applied:
    """What an apply did: names of hosts, sorted, and whether the site itself changed."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    site: bool


@dataclass(frozen=True)
class _Stored:
    """The revisions that the rows have: of the site ("" when there is none) and of every host."""

    site: str
    hosts: Mapping[str, str]


class Hosts(Database):
    """The part of the store that holds the site, its hosts and the names of base images."""

    _snapshot: Snapshot
    _stored: _Stored

    @property
    def snapshot(self) -> Snapshot:
        """The present picture; costs nothing."""
        return self._snapshot

    def inventory(self) -> Inventory | None:
        """What was applied last; None before the first time."""
        snapshot = self._snapshot
        return Inventory(site=snapshot.site, hosts=tuple(snapshot.hosts.values())) if snapshot.site else None

    def apply(self, inventory: Inventory, actor: str) -> Applied:
        """Make the stored inventory exactly this one, in one transaction that writes only what differs.

        A host that is not in it is removed with its credentials, windows and boots. `actor` says who did it. Raises
        Invalid when two hosts share a name or a MAC, Unavailable when the database cannot be written; then nothing
        has been changed.
        """
        new = _Stored(inventory.site.revision, {host.name: host.revision for host in inventory.hosts})
        if len(new.hosts) != len(inventory.hosts):
            raise Invalid("inventory", "two hosts have one name", "give every host a name of its own")
        with self._lock:
            with self._write() as connection:
                try:
                    old = dict(self._snapshot.ids), self._stored
                    applied, ids = _apply(connection, self._change, inventory, old, new, actor)
                except IntegrityError:
                    raise Invalid("inventory", "two hosts share a MAC", "give every NIC to one host") from None
            known = ids.keys() - frozenset(applied.added)
            versions = {name: self._snapshot.credentials.get(name, _EMPTY) for name in sorted(known)}
            self._stored = new
            hosts = tuple(sorted(inventory.hosts, key=lambda host: host.name))
            self._show(inventory.site, hosts, ids, versions, self._snapshot.bases)
            self._removed(applied.removed)
        if applied.removed:
            dialect.forget_deleted(self._engine, self._subject)
        return applied

    def bases(self) -> dict[str, str]:
        """The names of base images and the ids that they stand for."""
        return dict(self._snapshot.bases)

    def name_base(self, name: str, base_id: str) -> None:
        """Let `name` stand for the base image `base_id`; a name that is taken moves to it."""
        with self._lock:
            with self._write() as connection:
                connection.execute(delete(schema.bases).where(schema.bases.c.name == name))
                connection.execute(insert(schema.bases).values(name=name, base_id=base_id))
                self._change.drop(schema.bases, name)
                self._change.add(schema.bases, (name, base_id))
            self._show_bases({**self._snapshot.bases, name: base_id})

    def require_unused(self, name: str) -> None:
        """Raise what `forget_base` would, and change nothing."""
        snapshot = self._snapshot
        if name not in snapshot.bases:
            raise NotFound(f"base image '{name}'", "there is none of this name", "see 'provision image list'")
        users = [host.name for host in snapshot.hosts.values() if host.base == name]
        if snapshot.site is not None and snapshot.site.base == name:
            users.insert(0, "the site")
        if users:
            more = f" and {len(users) - 3} more" if len(users) > 3 else ""
            fact = f"is used by {', '.join(users[:3])}{more}"
            raise Conflict(f"base image '{name}'", fact, "give them another base and run 'provision apply'")

    def forget_base(self, name: str) -> None:
        """Drop a base image's name; raises NotFound, and Conflict while the site or a host boots from it."""
        with self._lock:
            self.require_unused(name)
            with self._write() as connection:
                connection.execute(delete(schema.bases).where(schema.bases.c.name == name))
                self._change.drop(schema.bases, name)
            self._show_bases({n: i for n, i in self._snapshot.bases.items() if n != name})

    def _host_id(self, host: str) -> str:
        try:
            return self._snapshot.ids[host]
        except KeyError:
            raise NotFound(host, "no host of this name is in the inventory", "see 'provision host list'") from None

    def _removed(self, names: tuple[str, ...]) -> None:
        """Forget what is kept in memory of hosts that are gone; parts with something to forget extend it."""

    def _load(self, connection: Connection) -> None:
        super()._load(connection)
        site, hosts, ids, stored, versions = _read(connection, self._subject)
        bases = {
            row.name: row.base_id for row in connection.execute(select(schema.bases).order_by(schema.bases.c.name))
        }
        self._stored = stored
        before = getattr(self, "_snapshot", None)
        self._snapshot = Snapshot(before.change if before else 0, None, _EMPTY, _EMPTY, _EMPTY, _EMPTY, _EMPTY, _EMPTY)
        self._show(site, hosts, ids, versions, bases)

    def _show(
        self,
        site: Site | None,
        hosts: tuple[Host, ...],
        ids: Mapping[str, str],
        versions: Mapping[str, _Versions],
        bases: Mapping[str, str],
    ) -> None:
        revisions = {h.name: self._revision(h, ids[h.name], versions.get(h.name, _EMPTY)) for h in hosts}
        self._snapshot = Snapshot(
            change=self._snapshot.change + 1,
            site=site,
            hosts=MappingProxyType({host.name: host for host in hosts}),
            by_mac=MappingProxyType({mac: host.name for host in hosts for mac in host.macs}),
            ids=MappingProxyType(dict(ids)),
            credentials=MappingProxyType(dict(versions)),
            revisions=MappingProxyType(revisions),
            bases=MappingProxyType(dict(bases)),
        )

    def _show_bases(self, bases: Mapping[str, str]) -> None:
        now = self._snapshot
        self._snapshot = replace(now, change=now.change + 1, bases=MappingProxyType(dict(sorted(bases.items()))))

    def _show_credentials(self, changed: Mapping[str, _Versions]) -> None:
        now = self._snapshot
        revisions = dict(now.revisions)
        for name, versions in changed.items():
            revisions[name] = self._revision(now.hosts[name], now.ids[name], versions)
        self._snapshot = replace(
            now,
            change=now.change + 1,
            credentials=MappingProxyType({**now.credentials, **changed}),
            revisions=MappingProxyType(revisions),
        )

    def _revision(self, host: Host, host_id: str, versions: _Versions) -> str:
        named = [[name, versions.get(name)] for name in host.credentials]
        parts = [self._stored.site, host_id, self._stored.hosts[host.name], named]
        return hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).hexdigest()


def _apply(
    connection: Connection,
    change: Change,
    inventory: Inventory,
    old: tuple[dict[str, str], _Stored],
    new: _Stored,
    actor: str,
) -> tuple[Applied, dict[str, str]]:
    """Write the difference to the `old` ids and revisions, and return it with the ids of all hosts that there are now.

    What is in memory counts: the rows may have been changed by somebody else.
    """
    columns, (ids, before) = schema.hosts.c, old
    added = [host for host in inventory.hosts if host.name not in before.hosts]
    changed = [h for h in inventory.hosts if before.hosts.get(h.name, new.hosts[h.name]) != new.hosts[h.name]]
    removed = sorted(before.hosts.keys() - new.hosts.keys())
    site_changed = before.site != new.site
    if site_changed:
        _write_site(connection, change, inventory.site, new.site, actor)
    # Gone MACs first: a NIC may have moved from one host to another.
    _many(connection, delete(schema.hosts).where(columns.id == bindparam("key")), [{"key": ids[n]} for n in removed])
    for name in removed:
        for table in (schema.hosts.name, *OF_HOSTS):
            change.drop(table, ids[name])
    old_macs = delete(schema.macs).where(schema.macs.c.host_id == bindparam("key"))
    _many(connection, old_macs, [{"key": ids[host.name]} for host in changed])
    ids = {name: key for name, key in ids.items() if name in new.hosts} | {host.name: str(uuid4()) for host in added}
    documents = [
        {"key": ids[h.name], "name": h.name, "document": h.canonical().decode(), "revision": new.hosts[h.name]}
        for h in (*added, *changed)
    ]
    _many(connection, insert(schema.hosts).values(id=bindparam("key")), documents[: len(added)])
    _many(connection, update(schema.hosts).where(columns.id == bindparam("key")), documents[len(added) :])
    for row in documents:
        change.drop(schema.hosts, row["key"])
        change.add(schema.hosts, tuple(row.values()))
        change.drop(schema.macs, row["key"])
    macs = [{"mac": mac, "host_id": ids[host.name]} for host in (*added, *changed) for mac in host.macs]
    _many(connection, insert(schema.macs), macs)
    for nic in macs:
        change.add(schema.macs, tuple(nic.values()))
    names = tuple(sorted(host.name for host in added)), tuple(sorted(host.name for host in changed))
    return Applied(*names, tuple(removed), site_changed), ids


def _write_site(connection: Connection, change: Change, site: Site, revision: str, actor: str) -> None:
    document = site.canonical().decode()
    connection.execute(delete(schema.site))
    connection.execute(insert(schema.site).values(id=1, document=document, revision=revision, actor=actor))
    change.drop(schema.site, "")
    change.add(schema.site, (1, document, revision, actor))


def _many(connection: Connection, statement: Any, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(statement, rows)


def _read(
    connection: Connection, subject: str
) -> tuple[Site | None, tuple[Host, ...], dict[str, str], _Stored, dict[str, _Versions]]:
    """Everything that a snapshot is made of; raises Unavailable when a document is not what was written."""
    site_row = connection.execute(select(schema.site)).one_or_none()
    rows = connection.execute(select(schema.hosts).order_by(schema.hosts.c.name)).all()
    try:
        site = Site.from_canonical(site_row.document, site_row.revision) if site_row else None
        hosts = tuple(Host.from_canonical(row.document, row.revision) for row in rows)
    except ValueError:
        raise Unavailable(subject, "holds a document that is damaged", "restore it from a backup") from None
    names = {row.id: row.name for row in rows}
    c = schema.credentials.c
    versions: dict[str, dict[str, int]] = {}
    for row in connection.execute(select(c.host_id, c.name, c.version)):
        versions.setdefault(names[row.host_id], {})[row.name] = row.version
    stored = _Stored(site_row.revision if site_row else "", {row.name: row.revision for row in rows})
    return site, hosts, {name: key for key, name in names.items()}, stored, dict(versions)
