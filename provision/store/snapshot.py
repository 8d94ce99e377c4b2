"""The picture of the inventory in memory that serving reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, select

from provision.errors import NotFound, Unavailable
from provision.host import Host
from provision.site import Site
from provision.store import schema

Versions = Mapping[str, int]
EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Snapshot:
    """The inventory at one moment; immutable, and replaced as a whole by every change.

    `change` counts the changes since the store was opened. `hosts` is by name and sorted by it; `by_mac` has
    the name for every MAC. `ids` are the hosts' stable identities: a host that is removed and added again under its
    name gets another. `credentials` are
    the versions of the sealed credentials by host and name. `revisions` holds for every host the hex SHA-256 of all
    that its seed is made of: the site, the host, and the versions of the credentials that it names; one that was
    declared compromised has others from then on. `compromised` says what of that is known, and `exposed` has
    the names of its credentials that others may have since. `moved` are the bases of hosts that a roll-out has given
    them.
    """

    change: int
    site: Site | None
    hosts: Mapping[str, Host]
    by_mac: Mapping[str, str]
    ids: Mapping[str, str]
    credentials: Mapping[str, Versions]
    revisions: Mapping[str, str]
    bases: Mapping[str, str]
    compromised: Mapping[str, Compromise]
    exposed: Mapping[str, tuple[str, ...]]
    moved: Mapping[str, str]

    def base_name(self, host: Host | None) -> str | None:
        """The name of the base image of a host: that of a roll-out, its own or the site's; the site's for a machine
        that is not known. None when none is named."""
        if host is not None and (name := self.moved.get(host.name) or host.base):
            return name
        return self.site.base if self.site is not None else None

    def missing(self, host: Host) -> tuple[str, ...]:
        """What the host's image needs and is not there."""
        have = self.credentials.get(host.name, {})
        missing = [f"its credential '{name}'" for name in host.credentials if name not in have]
        base = self.base_name(host)
        if base is None:
            missing.append("a base image (none is named)")
        elif base not in self.bases:
            missing.append(f"its base image '{base}'")
        return tuple(missing)


@dataclass(frozen=True)
class Compromise:
    """What is known of a host's compromises: how often it was declared compromised, when last, and the versions (name,
    number) of its credentials whose contents others may have."""

    number: int
    declared: datetime
    versions: frozenset[tuple[str, int]]


@dataclass(frozen=True)
class Stored:
    """The revisions that the rows have: of the site ("" when there is none) and of every host."""

    site: str
    hosts: Mapping[str, str]


class Picture:
    """The present snapshot, and what replaces it. Who replaces it holds the database's lock."""

    def __init__(self, subject: str) -> None:
        """`subject` is what errors call the database."""
        self._subject = subject
        self.stored = Stored("", EMPTY)
        self.compromises: dict[str, Compromise] = {}
        """By the identities of hosts."""
        self.moved: dict[str, str] = {}
        """Bases that a roll-out has given to hosts, by their identities."""
        self.snapshot = Snapshot(0, None, EMPTY, EMPTY, EMPTY, EMPTY, EMPTY, EMPTY, EMPTY, EMPTY, EMPTY)

    def host_id(self, host: str) -> str:
        """The host's identity; raises NotFound."""
        try:
            return self.snapshot.ids[host]
        except KeyError:
            raise NotFound(host, "no host of this name is in the inventory", "see 'provision host list'") from None

    def names(self) -> dict[str, str]:
        """The hosts' names by their identities."""
        return {key: name for name, key in self.snapshot.ids.items()}

    def load(self, connection: Connection) -> None:
        """Read it; raises Unavailable when a document is not what was written."""
        site, hosts, ids, stored, versions = _read(connection, self._subject)
        query = select(schema.bases).order_by(schema.bases.c.name)
        bases = {row.name: row.base_id for row in connection.execute(query)}
        self.stored = stored
        self.show(site, hosts, ids, versions, bases)

    def show(
        self,
        site: Site | None,
        hosts: tuple[Host, ...],
        ids: Mapping[str, str],
        versions: Mapping[str, Versions],
        bases: Mapping[str, str],
    ) -> None:
        """Replace the snapshot; `stored` has the revisions of the same site and hosts."""
        revisions = {h.name: self._revision(h, ids[h.name], versions.get(h.name, EMPTY)) for h in hosts}
        compromised = self._compromised(ids)
        self.snapshot = Snapshot(
            change=self.snapshot.change + 1,
            site=site,
            hosts=MappingProxyType({host.name: host for host in hosts}),
            by_mac=MappingProxyType({mac: host.name for host in hosts for mac in host.macs}),
            ids=MappingProxyType(dict(ids)),
            credentials=MappingProxyType(dict(versions)),
            revisions=MappingProxyType(revisions),
            bases=MappingProxyType(dict(bases)),
            compromised=compromised,
            exposed=_exposed(compromised, versions),
            moved=self._moved(ids),
        )

    def _moved(self, ids: Mapping[str, str]) -> Mapping[str, str]:
        """The bases of moved hosts, by their names."""
        if not self.moved:
            return EMPTY
        return MappingProxyType({name: self.moved[key] for name, key in ids.items() if key in self.moved})

    def show_bases(self, bases: Mapping[str, str]) -> None:
        """Replace the names of base images, and which hosts a roll-out has moved."""
        now, named = self.snapshot, MappingProxyType(dict(sorted(bases.items())))
        self.snapshot = replace(now, change=now.change + 1, bases=named, moved=self._moved(now.ids))

    def show_credentials(self, changed: Mapping[str, Versions]) -> None:
        """Replace the versions of the credentials of some hosts."""
        now = self.snapshot
        revisions = dict(now.revisions)
        for name, versions in changed.items():
            revisions[name] = self._revision(now.hosts[name], now.ids[name], versions)
        credentials = MappingProxyType({**now.credentials, **changed})
        compromised = self._compromised(now.ids)
        self.snapshot = replace(
            now,
            change=now.change + 1,
            credentials=credentials,
            revisions=MappingProxyType(revisions),
            compromised=compromised,
            exposed=_exposed(compromised, credentials),
        )

    def _compromised(self, ids: Mapping[str, str]) -> Mapping[str, Compromise]:
        """What is known of compromised hosts, by their names."""
        if not self.compromises:
            return EMPTY
        return MappingProxyType({name: self.compromises[key] for name, key in ids.items() if key in self.compromises})

    def _revision(self, host: Host, host_id: str, versions: Versions) -> str:
        named = [[name, versions.get(name)] for name in host.credentials]
        parts: list[Any] = [self.stored.site, host_id, self.stored.hosts[host.name], named]
        if host_id in self.compromises:
            parts.append(self.compromises[host_id].number)
        return hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).hexdigest()


def _exposed(compromised: Mapping[str, Compromise], versions: Mapping[str, Versions]) -> Mapping[str, tuple[str, ...]]:
    """The names of the credentials whose present versions have a known content, of each host that has such."""
    found = {
        host: tuple(sorted(n for n, version in one.versions if versions.get(host, EMPTY).get(n) == version))
        for host, one in compromised.items()
    }
    return MappingProxyType({host: names for host, names in found.items() if names})


def _read(
    connection: Connection, subject: str
) -> tuple[Site | None, tuple[Host, ...], dict[str, str], Stored, dict[str, Versions]]:
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
    stored = Stored(site_row.revision if site_row else "", {row.name: row.revision for row in rows})
    return site, hosts, {name: key for key, name in names.items()}, stored, dict(versions)
