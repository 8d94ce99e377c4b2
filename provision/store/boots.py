"""Boots: which there were, and what each was charged to.

One transaction decides: a boot is charged to its host's rows as they are read in it, and only when they are what was
written last. So of any number of clients as many win as the window has boots, and changing a row gains nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Text, bindparam, func, insert, select

from provision.boot import Boot, Copy, Medium, Window
from provision.errors import NotFound, Unavailable
from provision.host import Netboot
from provision.store import rows
from provision.store.database import Database, Transaction
from provision.store.dialect import Statement
from provision.store.rows import HISTORY
from provision.store.schema import as_text
from provision.store.schema import boots as _boots
from provision.store.schema import windows as _windows
from provision.store.snapshot import Picture
from provision.store.windows import Windows

_NEW = ("host_id", "mac", "medium", "network", "started", "seed_revision")
_AS_TEXT = {name: bindparam(name, type_=Text) for name in _NEW}
_NEW_BOOT = Statement(insert(_boots).values(_AS_TEXT).returning(_boots.c.id))
_OLD_BOOTS = rows.all_but_newest(_boots, "host_id", "medium", "mac")


Place = tuple[str, str, Medium]  # host, MAC, medium


@dataclass(frozen=True)
class Start:
    """A request that a boot begins with, or goes on with: who, how, where, when, and what its seed is made of."""

    host: str
    mac: str
    medium: Medium
    network: str
    now: datetime
    seed_revision: str | None

    @property
    def place(self) -> Place:
        """Of what there is one running boot."""
        return self.host, self.mac, self.medium

    def is_of(self, boot: Boot) -> bool:
        """Whether the request belongs to this boot of its place."""
        same = boot.network == self.network and boot.seed_revision == self.seed_revision
        return same and boot.is_running(self.now)


class Boots:
    """The part of the store that holds boots."""

    def __init__(self, database: Database, picture: Picture, windows: Windows) -> None:
        self._database, self._picture, self._windows = database, picture, windows
        self._running: dict[Place, Boot] = {}
        self._booted: set[str] = set()

    def of(self, host: str) -> list[Boot]:
        """The host's boots, newest first, at most HISTORY of each medium and MAC; none when they are not what was
        written last, and nothing that is stored is believed any more. Raises NotFound."""
        host_id = self._picture.host_id(host)
        if host not in self._booted:
            return []
        found = self._all_boots(host, host_id)
        copies = [boot for boot in found if not boot.medium.from_network][:HISTORY]
        return [boot for boot in found if boot.medium.from_network or boot in copies]

    def _all_boots(self, host: str, host_id: str) -> list[Boot]:
        with self._database.lock, self._database.read() as tx:
            try:
                return [rows.boot(row, host) for row in rows.of_host(tx, _boots, host_id)]
            except Unavailable:
                return []

    def begin(
        self, host: str, mac: str, medium: Medium, network: str, now: datetime, seed_revision: str | None
    ) -> Boot:
        """The boot that a request belongs to: the running one, or a new one (not charged yet). Raises NotFound.

        It is the running one when MAC, medium, network and seed revision are the same, it is not up yet, and it
        was charged (or, when it was not, began) less than SAME_BOOT ago.
        """
        (boot,) = self.begin_all([Start(host, mac, medium, network, now, seed_revision)])
        if boot is None:
            self._picture.host_id(host)
            raise NotFound(host, "it has just been removed from the inventory", "power-cycle the host")
        return boot

    def begin_all(self, starts: Sequence[Start]) -> list[Boot | None]:
        """`begin` for requests that came at the same moment, in one transaction; None for hosts that are gone."""
        running = [self._continued(start) for start in starts]
        if None not in running:
            return running
        with self._database.lock:
            begun: list[Boot | None] = []
            new: dict[Place, Boot] = {}
            # A boot gives nothing away before it is charged, and that is durable; many begin at once.
            with self._database.write(durable=False) as tx:
                for start in starts:
                    boot = self._continued(start) or new.get(start.place)
                    if boot is not None and not start.is_of(boot):
                        boot = None
                    if boot is None and (host_id := self._picture.snapshot.ids.get(start.host)) is not None:
                        boot = new[start.place] = self._insert(tx, start, host_id)
                    begun.append(boot)
            for boot in filter(None, begun):
                self._remember(boot)
            return begun

    def _continued(self, start: Start) -> Boot | None:
        """The running boot that a request belongs to."""
        running = self._running.get(start.place)
        return running if running is not None and start.is_of(running) else None

    def _insert(self, tx: Transaction, start: Start, host_id: str) -> Boot:
        started = as_text(start.now)
        place = start.mac, start.medium.value, start.network
        values = dict(zip(_NEW, (host_id, *place, started, start.seed_revision), strict=True))
        ((number,),) = _NEW_BOOT.run(tx.connection, **values)
        tx.begin_boot(number)
        # As rows.note would make it, for what a whole site waits for.
        tx.posting.add(_boots, (number, host_id, *place, started, None, None, start.seed_revision, None))
        if start.host in self._booted:
            of = {"host_id": host_id, "medium": start.medium.value, "mac": start.mac}
            rows.forget(tx, _boots, _OLD_BOOTS.run(tx.connection, **of))
        whose = start.host, start.mac, start.medium, start.network
        return Boot(number, *whose, start.now, seed_revision=start.seed_revision)

    def charge(self, boot: Boot, now: datetime) -> Boot | None:
        """Charge a boot to its host's window before its first seed byte; None means that it gets no byte.

        A boot that was charged less than SAME_BOOT ago is free. A host with `netboot: always` needs no window, one
        with `never` gets nothing, nor does a boot that is up. Returns the boot as it is now.
        """
        (charged,) = self.charge_all([boot], now)
        return charged

    def charge_all(self, boots: Sequence[Boot], now: datetime) -> list[Boot | None]:
        """`charge` for boots of the same moment, one after the other in one transaction: all are written, or none."""
        if None not in (known := [self._known_charged(boot, now) for boot in boots]):
            return known
        with self._database.lock:
            found: list[tuple[Boot | None, Window | None]] = []
            with self._database.write() as tx:
                for boot in boots:
                    may = self._known_charged(boot, now) is None and self._may_boot(boot.host)
                    found.append(self._charge(tx, boot, now) if may else (self._known_charged(boot, now), None))
            for boot, (charged, window) in zip(boots, found, strict=True):
                if charged is not None:
                    self._remember(charged)
                if window is not None:
                    self._windows.show(boot.host, window)
            return [charged for charged, _ in found]

    def _known_charged(self, boot: Boot, now: datetime) -> Boot | None:
        """The boot, when it was charged already and its host may still boot."""
        known = self._running.get((boot.host, boot.mac, boot.medium))
        is_it = known is not None and known.id == boot.id and known.is_charged(now)
        return known if is_it and self._may_boot(boot.host) else None

    def is_copy_up(self, copy: Copy) -> bool:
        """Whether a host has come up from this copy, however long ago. Raises NotFound."""
        boots = self._all_boots(copy.host, self._picture.host_id(copy.host))
        return any((boot.medium, boot.seed_revision) == (copy.medium, copy.id) for boot in boots)

    def mark_copy_up(self, copy: Copy, now: datetime) -> Boot | None:
        """Record that a host has come up from a copy, as a boot of it; None the second time. Raises NotFound.

        These are kept as long as the host: a copy that was forgotten could say so again.
        """
        host_id = self._picture.host_id(copy.host)
        with self._database.lock:
            with self._database.write() as tx:
                boots = [rows.boot(row, copy.host) for row in rows.of_host(tx, _boots, host_id)]
                if (copy.medium, copy.id) in [(boot.medium, boot.seed_revision) for boot in boots]:
                    return None
                row: dict[str, Any] = {"host_id": host_id, "medium": copy.medium.value, "seed_revision": copy.id}
                row |= {"mac": "", "network": "operator", "started": now, "up": now}
                boot = rows.boot(rows.add(tx, _boots, row), copy.host)
            self._remember(boot)
            return boot

    def mark_up(self, boot: Boot, now: datetime) -> bool:
        """Note that a boot has come up, and close the window that it was charged to; False the second time."""
        host_id = self._picture.host_id(boot.host)
        with self._database.lock:
            with self._database.write() as tx:
                row = rows.find(rows.of_host(tx, _boots, host_id), boot.id)
                if row is None or rows.boot(row, boot.host).up is not None:
                    return False
                up = rows.boot(rows.put(tx, _boots, row, {"up": now}), boot.host)
                windows = rows.of_host(tx, _windows, host_id)
                if up.window is not None and (used := rows.find(windows, up.window)) is not None:
                    closed = rows.put(tx, _windows, used, {"closed": True})
                    windows = [closed if row is used else row for row in windows]
            self._remember(up)
            if windows:
                self._windows.show(boot.host, rows.window(windows[0]))
            return True

    def _charge(self, tx: Transaction, boot: Boot, now: datetime) -> tuple[Boot | None, Window | None]:
        """The boot as charged, or None when nothing is left to charge it to; and the host's newest window now."""
        host_id = self._picture.snapshot.ids[boot.host]
        always = self._picture.snapshot.hosts[boot.host].netboot is Netboot.ALWAYS
        row = rows.find(rows.of_host(tx, _boots, host_id), boot.id)
        windows = rows.of_host(tx, _windows, host_id)
        newest = rows.window(windows[0]) if windows else None
        current = rows.boot(row, boot.host) if row else None
        if row is None or current is None or current.up is not None:
            return None, newest
        if current.is_charged(now):
            return current, newest
        if not always:
            if newest is None or not newest.is_open(now):
                return None, newest
            newest = rows.window(rows.put(tx, _windows, windows[0], {"used": newest.used + 1}))
        charge = {"charged": now, "window_id": newest.id if newest and not always else None}
        return rows.boot(rows.put(tx, _boots, row, charge), boot.host), newest

    def _may_boot(self, name: str) -> bool:
        host = self._picture.snapshot.hosts.get(name)
        return host is not None and host.netboot is not Netboot.NEVER

    def _remember(self, boot: Boot) -> None:
        place = (boot.host, boot.mac, boot.medium)
        if place not in self._running or self._running[place].id <= boot.id:
            self._running[place] = boot
        self._booted.add(boot.host)

    def load(self, connection: Connection) -> None:
        """Read what is kept in memory."""
        names = self._picture.names()
        self._running, self._booted = {}, set()
        newest = select(func.max(_boots.c.id)).group_by(_boots.c.host_id, _boots.c.mac, _boots.c.medium)
        for row in Statement(select(_boots).where(_boots.c.id.in_(newest)).order_by(_boots.c.id)).run(connection):
            self._remember(rows.boot(row, names[row[1]]))

    def forget(self, names: tuple[str, ...]) -> None:
        """Keep nothing in memory of hosts that are gone."""
        gone = set(names)
        for place in [place for place in self._running if place[0] in gone]:
            del self._running[place]
        self._booted -= gone
