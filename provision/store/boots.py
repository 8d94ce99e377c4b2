"""Windows and boots: who may boot from the network how often, and which boots there were.

The database decides: a boot is charged by one conditional UPDATE, so that of any number of clients in any number of
processes as many win as the window has boots. Memory only answers what needs no decision.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Table, bindparam, delete, func, insert, select, update

from provision.boot import Boot, Copy, Medium, Window
from provision.errors import Invalid
from provision.host import Netboot
from provision.secret import Secret
from provision.store import schema
from provision.store.dialect import Statement
from provision.store.hosts import Hosts
from provision.store.keys import Purpose

HISTORY = 32
"""Boots from the network kept per host and medium, and windows kept per host. Copies that came up are all kept."""

_COPY_ID, _COPY_TAG = 16, 16  # bytes of a copy's key

_boots, _windows = schema.boots, schema.windows


def _all_but_newest(table: Table, *of: str) -> Statement:
    """Deletes what is older than the newest HISTORY of the rows with the same values of these columns."""
    kept = table.alias()
    newest = select(kept.c.id).where(*(kept.c[name] == bindparam(name) for name in of)).order_by(kept.c.id.desc())
    oldest = newest.offset(HISTORY - 1).limit(1).scalar_subquery()
    return Statement(delete(table).where(*(table.c[name] == bindparam(name) for name in of), table.c.id < oldest))


_NEW = ("host_id", "mac", "medium", "network", "started", "seed_revision")
_NEW_BOOT = Statement(insert(_boots).values({name: bindparam(name) for name in _NEW}).returning(_boots.c.id))
_OLD_BOOTS = _all_but_newest(_boots, "host_id", "medium")
_OLD_WINDOWS = _all_but_newest(_windows, "host_id")


class Boots(Hosts):
    """The part of the store that holds windows and boots."""

    _window_of: dict[str, Window]
    _running: dict[tuple[str, str, Medium], Boot]
    _booted: set[str]

    def window(self, host: str) -> Window | None:
        """The host's newest window, open or not."""
        return self._window_of.get(host)

    def open_window(self, host: str, minutes: int, boots: int, now: datetime, actor: str) -> Window:
        """Let a host boot from the network `boots` times within `minutes`; replaces any earlier window.

        Raises NotFound, and Invalid when a number is out of range (1 to 10080 minutes, 1 to 100 boots).
        """
        if not (1 <= minutes <= 10080 and 1 <= boots <= 100):
            fact = f"{minutes} minutes and {boots} boots are out of range"
            raise Invalid(f"window of {host}", fact, "use 1 to 10080 minutes and 1 to 100 boots")
        host_id, expires = self._host_id(host), now + timedelta(minutes=minutes)
        values = {"host_id": host_id, "opened": now, "expires": expires, "boots": boots, "used": 0, "closed": False}
        with self._lock:
            with self._write() as connection:
                _close_windows(connection, host_id)
                number = _insert(connection, _windows, values | {"actor": actor})
                _OLD_WINDOWS.run(connection, host_id=host_id)
            self._window_of[host] = Window(number, expires, boots, 0, opened=now)
            return self._window_of[host]

    def close_window(self, host: str) -> Window | None:
        """Close the host's window now and return it; None when there was none. Raises NotFound."""
        host_id = self._host_id(host)
        with self._lock:
            with self._write() as connection:
                _close_windows(connection, host_id)
            if host in self._window_of:
                self._window_of[host] = replace(self._window_of[host], closed=True)
            return self._window_of.get(host)

    def boots(self, host: str) -> list[Boot]:
        """The host's boots, newest first, at most HISTORY of each medium. Raises NotFound."""
        host_id = self._host_id(host)
        if host not in self._booted:
            return []
        # Of each medium by itself: copies are never forgotten, so that there may be any number of rows of them.
        newest = select(_boots).where(_boots.c.host_id == host_id).order_by(_boots.c.id.desc()).limit(HISTORY)
        with self._read() as connection:
            found = [row for medium in Medium for row in connection.execute(newest.where(_boots.c.medium == medium))]
        return [_boot(row, host) for row in sorted(found, key=lambda row: int(row.id), reverse=True)]

    def begin_boot(
        self, host: str, mac: str, medium: Medium, network: str, now: datetime, seed_revision: str | None
    ) -> Boot:
        """The boot that a request belongs to: the running one, or a new one (not charged yet). Raises NotFound.

        It is the running one when MAC, medium, network and seed revision are the same, it is not up yet, and it
        was charged (or, when it was not, began) less than SAME_BOOT ago.
        """
        running = self._running.get((host, mac, medium))
        if running is not None and _continues(running, network, now, seed_revision):
            return running
        with self._lock:
            running = self._running.get((host, mac, medium))
            if running is not None and _continues(running, network, now, seed_revision):
                return running
            host_id = self._host_id(host)
            values = {"mac": mac, "medium": medium.value, "network": network, "seed_revision": seed_revision}
            # A boot gives nothing away before it is charged, and that is durable; many begin at once.
            with self._write(durable=False) as connection:
                ((number,),) = _NEW_BOOT.run(connection, host_id=host_id, started=now, **values)
                if host in self._booted:
                    _OLD_BOOTS.run(connection, host_id=host_id, medium=medium.value)
            boot = Boot(number, host, mac, medium, network, now, seed_revision=seed_revision)
            self._remember(boot)
            return boot

    def charge(self, boot: Boot, now: datetime) -> Boot | None:
        """Charge a boot to its host's window before its first seed byte; None means that it gets no byte.

        A boot that was charged less than SAME_BOOT ago is free. A host with `netboot: always` needs no window, one
        with `never` gets nothing, nor does a boot that is up. Returns the boot as it is now.
        """
        if not self._may_boot(boot.host):
            return None
        known = self._running.get((boot.host, boot.mac, boot.medium))
        if known is not None and known.id == boot.id and known.is_paid(now):
            return known
        with self._lock:
            if not self._may_boot(boot.host):
                return None
            host, host_id = self._snapshot.hosts[boot.host], self._snapshot.ids[boot.host]
            with self._write() as connection:
                charged = _charge(connection, boot, host_id, host.netboot is Netboot.ALWAYS, now)
                window = _newest_window(connection, host_id)
            if charged is not None:
                self._remember(charged)
            if window is not None:
                self._window_of[boot.host] = window
            return charged

    def phone_home_key(self, boot_id: int, host: str) -> Secret:
        """32 bytes that only the host of this boot learns, through its seed; derived, so nothing is stored.

        Raises NotFound.
        """
        return Secret(self._derived(host, boot_id))

    def alive_key(self, host: str, label: str) -> Secret:
        """32 bytes with which the host that has come up from the boot or copy called `label` signs that it is up.

        Independent of the phone-home key, which crosses the LAN. Raises NotFound.
        """
        return Secret(self._derived(host, "alive", label))

    def copy_key(self, copy: Copy) -> Secret:
        """32 bytes that only who has this copy learns: its id, and a tag that only this store can make of it.

        The tag is HMAC-SHA256 cut to 128 bits (RFC 2104 section 5), so nothing is stored. Raises NotFound.
        """
        return Secret(bytes.fromhex(copy.id) + self._copy_tag(copy))

    def copy_of(self, host: str, key: bytes) -> Copy | None:
        """The copy of a medium of `host` that `key` was made for, or None. Raises NotFound."""
        for medium in Medium:
            copy = Copy(host, medium, key[:_COPY_ID].hex())
            if not medium.from_network and hmac.compare_digest(self._copy_tag(copy), key[_COPY_ID:]):
                return copy
        return None

    def _copy_tag(self, copy: Copy) -> bytes:
        return self._derived(copy.host, copy.medium.value, copy.id)[:_COPY_TAG]

    def _derived(self, host: str, *what: int | str) -> bytes:
        parts = json.dumps([self._host_id(host), *what], separators=(",", ":")).encode()
        return hmac.digest(self._key.subkey(Purpose.PHONE_HOME).reveal(), parts, hashlib.sha256)

    def is_copy_up(self, copy: Copy) -> bool:
        """Whether a host has come up from this copy, however long ago. Raises NotFound."""
        with self._read() as connection:
            return _copy_row(connection, copy, self._host_id(copy.host))

    def mark_copy_up(self, copy: Copy, now: datetime) -> Boot | None:
        """Record that a host has come up from a copy, as a boot of it; None the second time. Raises NotFound.

        These are kept as long as the host: a copy that was forgotten could say so again.
        """
        host_id = self._host_id(copy.host)
        with self._lock:
            with self._write() as connection:
                if _copy_row(connection, copy, host_id):
                    return None
                row: dict[str, Any] = {"host_id": host_id, "medium": copy.medium.value, "seed_revision": copy.id}
                row |= {"mac": "", "network": "operator", "started": now, "up": now}
                number = _insert(connection, _boots, row)
            boot = Boot(number, copy.host, "", copy.medium, "operator", now, seed_revision=copy.id, up=now)
            self._remember(boot)
            return boot

    def mark_up(self, boot: Boot, now: datetime) -> bool:
        """Note that a boot has come up, and close the window that it was charged to; False the second time."""
        with self._lock:
            with self._write() as connection:
                first = (_boots.c.id == boot.id) & _boots.c.up.is_(None)
                if connection.execute(update(_boots).where(first).values(up=now)).rowcount != 1:
                    return False
                row = connection.execute(select(_boots).where(_boots.c.id == boot.id)).one()
                used = _windows.c.id == row.window_id
                connection.execute(update(_windows).where(used).values(closed=True))
                window = _newest_window(connection, row.host_id)
            self._remember(_boot(row, boot.host))
            if window is not None:
                self._window_of[boot.host] = window
            return True

    def _may_boot(self, name: str) -> bool:
        host = self._snapshot.hosts.get(name)
        return host is not None and host.netboot is not Netboot.NEVER

    def _remember(self, boot: Boot) -> None:
        place = (boot.host, boot.mac, boot.medium)
        if place not in self._running or self._running[place].id <= boot.id:
            self._running[place] = boot
        self._booted.add(boot.host)

    def _load(self, connection: Connection) -> None:
        super()._load(connection)
        names = {key: name for name, key in self._snapshot.ids.items()}
        newest = select(func.max(_windows.c.id)).group_by(_windows.c.host_id)
        rows = connection.execute(select(_windows).where(_windows.c.id.in_(newest)))
        self._window_of = {names[row.host_id]: _window(row) for row in rows}
        self._running, self._booted = {}, set()
        newest = select(func.max(_boots.c.id)).group_by(_boots.c.host_id, _boots.c.mac, _boots.c.medium)
        for row in connection.execute(select(_boots).where(_boots.c.id.in_(newest)).order_by(_boots.c.id)):
            self._remember(_boot(row, names[row.host_id]))

    def _removed(self, names: tuple[str, ...]) -> None:
        super()._removed(names)
        gone = set(names)
        for name in gone & self._window_of.keys():
            del self._window_of[name]
        for place in [place for place in self._running if place[0] in gone]:
            del self._running[place]
        self._booted -= gone


def _continues(boot: Boot, network: str, now: datetime, seed_revision: str | None) -> bool:
    return boot.network == network and boot.seed_revision == seed_revision and boot.is_running(now)


def _charge(connection: Connection, boot: Boot, host_id: str, always: bool, now: datetime) -> Boot | None:
    """The boot as charged, or None when nothing is left to charge it to."""
    row = connection.execute(select(_boots).where(_boots.c.id == boot.id, _boots.c.host_id == host_id)).one_or_none()
    if row is None or row.up is not None:
        return None
    current = _boot(row, boot.host)
    if current.is_paid(now):
        return current
    window = None if always else _newest_window(connection, host_id)
    if not always:
        if window is None:
            return None
        c = _windows.c
        left = (c.id == window.id) & c.closed.is_(False) & (c.used < c.boots) & (c.expires > now)
        if connection.execute(update(_windows).where(left).values(used=c.used + 1)).rowcount != 1:
            return None
    number = window.id if window else None
    connection.execute(update(_boots).where(_boots.c.id == boot.id).values(charged=now, window_id=number))
    return replace(current, charged=now, window=number)


def _copy_row(connection: Connection, copy: Copy, host_id: str) -> bool:
    same = (_boots.c.host_id == host_id) & (_boots.c.medium == copy.medium.value) & (_boots.c.seed_revision == copy.id)
    return connection.execute(select(_boots.c.id).where(same).limit(1)).first() is not None


def _close_windows(connection: Connection, host_id: str) -> None:
    still_open = (_windows.c.host_id == host_id) & _windows.c.closed.is_(False)
    connection.execute(update(_windows).where(still_open).values(closed=True))


def _newest_window(connection: Connection, host_id: str) -> Window | None:
    query = select(_windows).where(_windows.c.host_id == host_id).order_by(_windows.c.id.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else _window(row)


def _insert(connection: Connection, table: Table, values: dict[str, Any]) -> int:
    key = connection.execute(insert(table), values).inserted_primary_key
    return int(key[0]) if key else 0


def _window(row: Row[Any]) -> Window:
    return Window(row.id, row.expires, row.boots, row.used, bool(row.closed), row.opened)


def _boot(row: Row[Any], host: str) -> Boot:
    return Boot(
        id=row.id,
        host=host,
        mac=row.mac,
        medium=Medium(row.medium),
        network=row.network,
        started=row.started,
        window=row.window_id,
        charged=row.charged,
        seed_revision=row.seed_revision,
        up=row.up,
    )
