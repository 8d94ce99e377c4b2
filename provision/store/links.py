"""Links: whose medium which URL gives, until when, how often, and who has used it.

One transaction decides, as for boots: a use is taken from the row as it is read in it, and only when it is what was
written last. So of any number of peers as many win as the link has uses, and a use that was taken stays taken.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address

from sqlalchemy import Connection, delete, select

from provision.boot import Link, LinkUse, Medium
from provision.errors import Conflict, Invalid, Unavailable
from provision.link_rules import standing
from provision.principal import Principal
from provision.secret import Secret
from provision.store import rows
from provision.store.database import Database, Transaction
from provision.store.dialect import Statement
from provision.store.keys import MasterKey, Purpose
from provision.store.ledger import Row
from provision.store.rows import HISTORY, ID_DIGITS
from provision.store.schema import links as _links
from provision.store.snapshot import Picture

MOST_MINUTES, MOST_USES = 10080, 100
_WRITE_EVERY = 60.0
"""Seconds between two writes of when links were used: a restart may end a use by so much earlier."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """What a link is made for: the medium, what pins it (see `Link`), how long, how often, and for whom alone."""

    medium: Medium
    identity: str
    seed_revision: str
    copy: str
    minutes: int
    uses: int
    address: IPv4Address | IPv6Address | None = None

    def require(self, host: str) -> None:
        """Raise Invalid when a number of it is out of range."""
        if not (1 <= self.minutes <= MOST_MINUTES and 1 <= self.uses <= MOST_USES):
            fact = f"a link has 1 to {MOST_MINUTES} minutes and 1 to {MOST_USES} uses"
            raise Invalid(host, fact, "choose values in those ranges")


class Links:
    """The part of the store that knows links: all of them are in memory, too, with when each was used last."""

    def __init__(self, database: Database, picture: Picture, key: MasterKey) -> None:
        self._database, self._picture, self._key = database, picture, key.subkey(Purpose.LINKS).reveal()
        self._links: dict[str, Link] = {}
        self._digests: dict[str, str] = {}
        self._unwritten: set[str] = set()
        self._written = 0.0

    def find(self, secret: Secret) -> Link | None:
        """The link with that secret, ended or not."""
        digest = self._digest(secret)
        link = self._links.get(digest[:ID_DIGITS])
        return link if link is not None and hmac.compare_digest(self._digests[link.id], digest) else None

    def get(self, name: str) -> Link | None:
        """The link with that id, ended or not."""
        return self._links.get(name)

    def id_of(self, secret: Secret) -> str:
        """The id that a link with that secret has, or will have."""
        return self._digest(secret)[:ID_DIGITS]

    def all(self) -> list[Link]:
        """Every link, the newest first."""
        with self._database.lock:
            return sorted(self._links.values(), key=lambda link: -link.number)

    def make(self, host: str, secret: Secret, wanted: Wanted, now: datetime, principal: Principal) -> Link:
        """A new link. Raises NotFound, Invalid when a number is out of range, and Conflict when the host has HISTORY
        links that have not ended; of those that have, the oldest is forgotten."""
        wanted.require(host)
        host_id, digest = self._picture.host_id(host), self._digest(secret)
        values = {
            "host_id": host_id,
            "digest": digest,
            "medium": wanted.medium.value,
            "identity": wanted.identity,
            "seed_revision": wanted.seed_revision,
            "copy": wanted.copy,
            "made": now,
            "expires": now + timedelta(minutes=wanted.minutes),
            "uses": wanted.uses,
            "actor": principal.name,
            "address": str(wanted.address) if wanted.address is not None else None,
            "taken": rows.taken(()),
            "revoked": False,
        }
        with self._database.lock:
            with self._database.write() as tx:
                gone = self._make_room(tx, host, rows.of_host(tx, _links, host_id), now)
                link = rows.link(rows.add(tx, _links, values), host)
            self._drop({rows.link(row, host).id for row in gone})
            self._links[link.id], self._digests[link.id] = link, digest
            return link

    def _make_room(self, tx: Transaction, host: str, found: Sequence[Row], now: datetime) -> Sequence[Row]:
        """The rows that were deleted so that there is room for one more."""
        ended = [row for row in found if standing(rows.link(row, host), now)]
        surplus = len(found) + 1 - HISTORY
        if surplus <= 0:
            return ()
        if len(ended) < surplus:
            fact = f"has {len(found)} links that have not ended"
            raise Conflict(host, fact, "revoke one: 'provision link revoke ID'")
        gone = ended[-surplus:]
        tx.connection.execute(delete(_links).where(_links.c.id.in_([row[0] for row in gone])))
        rows.forget(tx, _links, gone)
        return gone

    def use(self, link: Link, peer: str, now: datetime) -> Link | None:
        """Take a use of a link for `peer`, durably, or go on with the one that it has; None when it has ended for it.

        Returns the link as it is now.
        """
        present = self._links.get(link.id)
        if present is None or present.has_ended(peer, now):
            return None
        known = present.use_of(peer, now)
        if known is not None:
            self.seen(present, peer, now)
            return self._links.get(link.id)
        with self._database.lock:
            return self._take(link.id, peer, now)

    def _take(self, name: str, peer: str, now: datetime) -> Link | None:
        present = self._links.get(name)
        if present is None or present.has_ended(peer, now):
            return None
        if present.use_of(peer, now) is not None:
            return present
        with self._database.write() as tx:
            row = self._row(tx, present)
            if row is None:
                return None
            uses = (*present.taken, LinkUse(peer, now, now))
            rows.put(tx, _links, row, {"taken": rows.taken(uses)})
        self._links[name] = replace(present, taken=uses)
        return self._links[name]

    def seen(self, link: Link, peer: str, now: datetime) -> None:
        """Note that `peer` goes on with its use: in memory at once, and in the database now and then."""
        with self._database.lock:
            present = self._links.get(link.id)
            use = present.use_of(peer, now) if present is not None else None
            if present is None or use is None or use.seen >= now:
                return  # no use goes on, or it was seen just now
            taken = tuple(replace(one, seen=now) if one is use else one for one in present.taken)
            self._links[link.id] = replace(present, taken=taken)
            self._unwritten.add(link.id)

    def flush(self, at_once: bool = False) -> None:
        """Write now and then who has gone on with a use; a failure is logged and tried again later."""
        with self._database.lock:
            if not self._unwritten or not (at_once or time.monotonic() - self._written >= _WRITE_EVERY):
                return
            self._written = time.monotonic()
            links = [self._links[name] for name in sorted(self._unwritten & self._links.keys())]
            try:
                with self._database.write(durable=False) as tx:
                    for link in links:
                        if (row := self._row(tx, link)) is not None:
                            rows.put(tx, _links, row, {"taken": rows.taken(link.taken)})
            except Unavailable as error:
                _log.warning("who goes on reading by links is kept in memory only: %s", error)
                return
            self._unwritten.clear()

    def revoke(self, name: str) -> None:
        """Let the link with that id be good for nothing any more; harmless when there is none."""
        with self._database.lock:
            self._revoke([link for link in self._links.values() if link.id == name and not link.revoked])

    def revoke_all(self) -> None:
        """Revoke every link."""
        with self._database.lock:
            self._revoke([link for link in self._links.values() if not link.revoked])

    def revoke_of(self, actor: str) -> None:
        """Revoke every link that `actor` has made."""
        with self._database.lock:
            self._revoke(self.standing(actors=(actor,)))

    def standing(self, host: str = "", actors: Collection[str] = ()) -> list[Link]:
        """The links to `host`, and those that one of the `actors` has made, that are not revoked."""
        found = list(self._links.values())
        return [link for link in found if not link.revoked and (link.host == host or link.actor in actors)]

    def revoking(self, tx: Transaction, links: Sequence[Link]) -> Callable[[], None]:
        """Revoke links in a transaction; what is returned shows it in memory afterwards."""
        for link in links:
            if (row := self._row(tx, link)) is not None:
                rows.put(tx, _links, row, {"revoked": True})

        def show() -> None:
            self._links |= {link.id: replace(link, revoked=True) for link in links}

        return show

    def _revoke(self, links: Sequence[Link]) -> None:
        if not links:
            return
        with self._database.write() as tx:
            show = self.revoking(tx, links)
        show()

    def _row(self, tx: Transaction, link: Link) -> Row | None:
        return rows.find(rows.of_host(tx, _links, self._picture.host_id(link.host)), link.number)

    def load(self, connection: Connection) -> None:
        """Read what is kept in memory."""
        names, digest = self._picture.names(), _links.c.keys().index("digest")
        found = [(row[digest], rows.link(row, names[row[1]])) for row in Statement(select(_links)).run(connection)]
        self._links = {link.id: link for _, link in found}
        self._digests = {link.id: digest for digest, link in found}
        self._unwritten.clear()

    def forget(self, names: tuple[str, ...]) -> None:
        """Keep nothing in memory of hosts that are gone."""
        self._drop({link.id for link in self._links.values() if link.host in names})

    def _drop(self, gone: set[str]) -> None:
        for name in gone:
            self._links.pop(name, None)
            self._digests.pop(name, None)

    def _digest(self, secret: Secret) -> str:
        # Nobody without the key can choose what it begins with, so a look-up tells nothing by the time that it takes.
        return hmac.digest(self._key, secret.reveal(), hashlib.sha256).hex()
