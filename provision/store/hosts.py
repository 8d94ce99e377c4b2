"""The inventory at rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, bindparam, delete, insert, update
from sqlalchemy.exc import IntegrityError

from provision.errors import Invalid
from provision.host import Host
from provision.principal import Principal
from provision.site import Inventory, Site
from provision.store import schema
from provision.store.database import Database, Transaction
from provision.store.ledger import OF_HOSTS, Posting
from provision.store.snapshot import EMPTY, Picture, Stored

Ending = Callable[[Transaction], Callable[[], None]]
"""Ends something of a host that stays, as part of a transaction; what it returns shows that in memory."""


@dataclass(frozen=True)
class Applied:
    """What an apply did: names of hosts, sorted, and whether the site itself changed."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    site: bool


class Hosts:
    """The part of the store that holds the site and its hosts; the snapshot shows them."""

    def __init__(self, database: Database, picture: Picture, forget: Callable[[tuple[str, ...]], None]) -> None:
        """`forget` lets go of what else is kept in memory of hosts that are gone."""
        self._database, self._picture, self._forget = database, picture, forget

    def inventory(self) -> Inventory | None:
        """What was applied last; None before the first time."""
        snapshot = self._picture.snapshot
        return Inventory(site=snapshot.site, hosts=tuple(snapshot.hosts.values())) if snapshot.site else None

    def apply(self, inventory: Inventory, principal: Principal, endings: Sequence[Ending] = ()) -> Applied:
        """Make the stored inventory exactly this one, in one transaction that writes only what differs, and ends what
        `endings` are of.

        A host that is not in it is removed with its credentials, windows and boots. `principal` is who did it. Raises
        Invalid when two hosts share a name or a MAC, Unavailable when the database cannot be written; then nothing
        has been changed.
        """
        new = Stored(inventory.site.revision, {host.name: host.revision for host in inventory.hosts})
        if len(new.hosts) != len(inventory.hosts):
            raise Invalid("inventory", "two hosts have one name", "give every host a name of its own")
        with self._database.lock:
            with self._database.write() as tx:
                try:
                    old = dict(self._picture.snapshot.ids), self._picture.stored
                    applied, ids = _apply(tx.connection, tx.posting, inventory, old, new, principal)
                except IntegrityError:
                    raise Invalid("inventory", "two hosts share a MAC", "give every NIC to one host") from None
                shown = [ending(tx) for ending in endings]
            known = ids.keys() - frozenset(applied.added)
            versions = {name: self._picture.snapshot.credentials.get(name, EMPTY) for name in sorted(known)}
            self._picture.stored = new
            hosts = tuple(sorted(inventory.hosts, key=lambda host: host.name))
            self._picture.show(inventory.site, hosts, ids, versions, self._picture.snapshot.bases)
            for show in shown:
                show()
            self._forget(applied.removed)
        if applied.removed:
            self._database.forget_deleted()
        return applied


def _apply(
    connection: Connection,
    posting: Posting,
    inventory: Inventory,
    old: tuple[dict[str, str], Stored],
    new: Stored,
    principal: Principal,
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
        _write_site(connection, posting, inventory.site, new.site, principal)
    # Gone MACs first: a NIC may have moved from one host to another.
    _many(connection, delete(schema.hosts).where(columns.id == bindparam("key")), [{"key": ids[n]} for n in removed])
    for name in removed:
        for table in (schema.hosts.name, *OF_HOSTS):
            posting.drop(table, ids[name])
    old_macs = delete(schema.macs).where(schema.macs.c.host_id == bindparam("key"))
    _many(connection, old_macs, [{"key": ids[host.name]} for host in changed])
    ids = {name: key for name, key in ids.items() if name in new.hosts} | {host.name: str(uuid4()) for host in added}
    _write_hosts(connection, posting, ids, new, added, changed)
    names = tuple(sorted(host.name for host in added)), tuple(sorted(host.name for host in changed))
    return Applied(*names, tuple(removed), site_changed), ids


def _write_hosts(
    connection: Connection,
    posting: Posting,
    ids: Mapping[str, str],
    new: Stored,
    added: Sequence[Host],
    changed: Sequence[Host],
) -> None:
    documents = [
        {"key": ids[h.name], "name": h.name, "document": h.canonical().decode(), "revision": new.hosts[h.name]}
        for h in (*added, *changed)
    ]
    _many(connection, insert(schema.hosts).values(id=bindparam("key")), documents[: len(added)])
    _many(connection, update(schema.hosts).where(schema.hosts.c.id == bindparam("key")), documents[len(added) :])
    for row in documents:
        posting.drop(schema.hosts, row["key"])
        posting.add(schema.hosts, tuple(row.values()))
        posting.drop(schema.macs, row["key"])
    macs = [{"mac": mac, "host_id": ids[host.name]} for host in (*added, *changed) for mac in host.macs]
    _many(connection, insert(schema.macs), macs)
    for nic in macs:
        posting.add(schema.macs, tuple(nic.values()))


def _write_site(connection: Connection, posting: Posting, site: Site, revision: str, principal: Principal) -> None:
    document = site.canonical().decode()
    connection.execute(delete(schema.site))
    connection.execute(insert(schema.site).values(id=1, document=document, revision=revision, actor=principal.name))
    posting.drop(schema.site, "")
    posting.add(schema.site, (1, document, revision, principal.name))


def _many(connection: Connection, statement: Any, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(statement, rows)
