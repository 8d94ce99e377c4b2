"""Windows and boots: who may boot from the network how often, and which boots there were.

One transaction decides: a boot is charged to its host's rows as they are read in it, and only when they are what was
written last. So of any number of clients as many win as the window has boots, and whoever changes a row gains nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Table, bindparam, delete, func, insert, select, update

from provision.boot import Boot, Copy, Medium, Window
from provision.errors import Invalid, Unavailable
from provision.host import Netboot
from provision.secret import Secret
from provision.store import rows, schema
from provision.store.dialect import Statement
from provision.store.hosts import Hosts
from provision.store.keys import Purpose
from provision.store.ledger import Row
from provision.store.schema import as_text

HISTORY = 32
"""Boots from the network kept per host, medium and MAC (so that no NIC's boots push out another's), and windows kept
per host. Copies that came up are all kept."""

_COPY_ID, _COPY_TAG = 16, 16  # bytes of a copy's key

_boots, _windows = schema.boots, schema.windows


def _all_but_newest(table: Table, *of: str) -> Statement:
    """Deletes what is older than the newest HISTORY of the rows with the same values of these columns."""
    kept = table.alias()
    newest = select(kept.c.id).where(*(kept.c[name] == bindparam(name) for name in of)).order_by(kept.c.id.desc())
    oldest = newest.offset(HISTORY - 1).limit(1).scalar_subquery()
    old = delete(table).where(*(table.c[name] == bindparam(name) for name in of), table.c.id < oldest)
    return Statement(old.returning(*table.c))


_NEW = ("host_id", "mac", "medium", "network", "started", "seed_revision")
_NEW_BOOT = Statement(insert(_boots).values({name: bindparam(name) for name in _NEW}).returning(_boots.c.id))
_OLD_BOOTS = _all_but_newest(_boots, "host_id", "medium", "mac")
_OLD_WINDOWS = _all_but_newest(_windows, "host_id")
_BOOTS_OF = Statement(select(_boots).where(_boots.c.host_id == bindparam("host")).order_by(_boots.c.id.desc()))
_WINDOWS_OF = Statement(select(_windows).where(_windows.c.host_id == bindparam("host")).order_by(_windows.c.id.desc()))


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
                self._part_with(connection, host_id, self._close_windows(connection, host_id)[HISTORY - 1 :])
                row = self._add(connection, _windows, values | {"actor": actor})
                self._forget(_windows, _OLD_WINDOWS.run(connection, host_id=host_id))
            self._window_of[host] = rows.window(row)
            return self._window_of[host]

    def close_window(self, host: str) -> Window | None:
        """Close the host's window now and return it; None when there was none. Raises NotFound."""
        host_id = self._host_id(host)
        with self._lock:
            with self._write() as connection:
                self._close_windows(connection, host_id)
            if host in self._window_of:
                self._window_of[host] = replace(self._window_of[host], closed=True)
            return self._window_of.get(host)

    def close_all_windows(self) -> None:
        """Close the window of every host."""
        for host in [host for host, window in self._window_of.items() if not window.closed]:
            self.close_window(host)

    def boots(self, host: str) -> list[Boot]:
        """The host's boots, newest first, at most HISTORY of each medium and MAC; none when they are not what was
        written last, and nothing that is stored is believed any more. Raises NotFound."""
        host_id = self._host_id(host)
        if host not in self._booted:
            return []
        found = self._all_boots(host, host_id)
        copies = [boot for boot in found if not boot.medium.from_network][:HISTORY]
        return [boot for boot in found if boot.medium.from_network or boot in copies]

    def _all_boots(self, host: str, host_id: str) -> list[Boot]:
        with self._lock, self._read() as connection:
            try:
                return [rows.boot(row, host) for row in self._owned(connection, _BOOTS_OF, _boots, host_id)]
            except Unavailable:
                return []

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
                row = values | {"id": number, "host_id": host_id, "started": as_text(now)}
                self._note_boot(number, row)
                if host in self._booted:
                    old = _OLD_BOOTS.run(connection, host_id=host_id, medium=medium.value, mac=mac)
                    self._forget(_boots, old)
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
        if known is not None and known.id == boot.id and known.is_charged(now):
            return known
        with self._lock:
            if not self._may_boot(boot.host):
                return None
            host, host_id = self._snapshot.hosts[boot.host], self._snapshot.ids[boot.host]
            with self._write() as connection:
                charged, window = self._charge(connection, boot, host_id, host.netboot is Netboot.ALWAYS, now)
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
        boots = self._all_boots(copy.host, self._host_id(copy.host))
        return any((boot.medium, boot.seed_revision) == (copy.medium, copy.id) for boot in boots)

    def mark_copy_up(self, copy: Copy, now: datetime) -> Boot | None:
        """Record that a host has come up from a copy, as a boot of it; None the second time. Raises NotFound.

        These are kept as long as the host: a copy that was forgotten could say so again.
        """
        host_id = self._host_id(copy.host)
        with self._lock:
            with self._write() as connection:
                boots = [rows.boot(row, copy.host) for row in self._owned(connection, _BOOTS_OF, _boots, host_id)]
                if (copy.medium, copy.id) in [(boot.medium, boot.seed_revision) for boot in boots]:
                    return None
                row: dict[str, Any] = {"host_id": host_id, "medium": copy.medium.value, "seed_revision": copy.id}
                row |= {"mac": "", "network": "operator", "started": now, "up": now}
                boot = rows.boot(self._add(connection, _boots, row), copy.host)
            self._remember(boot)
            return boot

    def mark_up(self, boot: Boot, now: datetime) -> bool:
        """Note that a boot has come up, and close the window that it was charged to; False the second time."""
        host_id = self._host_id(boot.host)
        with self._lock:
            with self._write() as connection:
                row = rows.find(self._owned(connection, _BOOTS_OF, _boots, host_id), boot.id)
                if row is None or rows.boot(row, boot.host).up is not None:
                    return False
                up = rows.boot(self._put(connection, _boots, row, {"up": now}), boot.host)
                windows = self._owned(connection, _WINDOWS_OF, _windows, host_id)
                if up.window is not None and (used := rows.find(windows, up.window)) is not None:
                    closed = self._put(connection, _windows, used, {"closed": True})
                    windows = [closed if row is used else row for row in windows]
            self._remember(up)
            if windows:
                self._window_of[boot.host] = rows.window(windows[0])
            return True

    def _charge(
        self, connection: Connection, boot: Boot, host_id: str, always: bool, now: datetime
    ) -> tuple[Boot | None, Window | None]:
        """The boot as charged, or None when nothing is left to charge it to; and the host's newest window now."""
        row = rows.find(self._owned(connection, _BOOTS_OF, _boots, host_id), boot.id)
        windows = self._owned(connection, _WINDOWS_OF, _windows, host_id)
        newest = rows.window(windows[0]) if windows else None
        current = rows.boot(row, boot.host) if row else None
        if row is None or current is None or current.up is not None:
            return None, newest
        if current.is_charged(now):
            return current, newest
        if not always:
            if newest is None or not newest.is_open(now):
                return None, newest
            newest = rows.window(self._put(connection, _windows, windows[0], {"used": newest.used + 1}))
        charge = {"charged": now, "window_id": newest.id if newest and not always else None}
        return rows.boot(self._put(connection, _boots, row, charge), boot.host), newest

    def _close_windows(self, connection: Connection, host_id: str) -> list[Row]:
        """Close every window of a host, and return them as they are now, the newest first."""
        found = self._owned(connection, _WINDOWS_OF, _windows, host_id)
        return [r if rows.window(r).closed else self._put(connection, _windows, r, {"closed": True}) for r in found]

    def _part_with(self, connection: Connection, host_id: str, windows: Sequence[Row]) -> None:
        """Let no boot name a window that is about to go: the database would do the same, and tell nobody."""
        gone = {row[0] for row in windows}
        for row in self._owned(connection, _BOOTS_OF, _boots, host_id) if gone else ():
            if rows.boot(row, "").window in gone:
                self._put(connection, _boots, row, {"window_id": None})

    def _put(self, connection: Connection, table: Table, row: Row, values: dict[str, Any]) -> Row:
        """Change columns of a row that was read as `row`, and return it as it is now."""
        connection.execute(update(table).where(table.c.id == row[0]).values(values))
        old = dict(zip(rows.NAMES[table.name], row, strict=True))
        changed = tuple(rows.raw(values[name]) if name in values else old[name] for name in old)
        self._change.remove(table, row)
        self._change.add(table, changed)
        return changed

    def _add(self, connection: Connection, table: Table, values: dict[str, Any]) -> Row:
        """Write a new row, and return it."""
        key = connection.execute(insert(table), values).inserted_primary_key
        number = int(key[0]) if key else 0
        values = values | {"id": number}
        if table is _boots:
            return self._note_boot(number, values)
        row = tuple(rows.raw(values.get(name)) for name in rows.NAMES[table.name])
        self._change.add(table, row)
        return row

    def _note_boot(self, number: int, values: dict[str, Any]) -> Row:
        """Note a new boot's row. What its seed says comes of its number, so no number may come back."""
        if number <= self._record.last_boot:
            raise self._lost_trust()
        self._change.last_boot = number
        row = tuple(rows.raw(values.get(name)) for name in rows.NAMES["boots"])
        self._change.add(_boots, row)
        return row

    def _forget(self, table: Table, gone: Sequence[Row]) -> None:
        for row in gone:
            self._change.remove(table, row)

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
        found = Statement(select(_windows).where(_windows.c.id.in_(newest))).run(connection)
        self._window_of = {names[row[1]]: rows.window(row) for row in found}
        self._running, self._booted = {}, set()
        newest = select(func.max(_boots.c.id)).group_by(_boots.c.host_id, _boots.c.mac, _boots.c.medium)
        for row in Statement(select(_boots).where(_boots.c.id.in_(newest)).order_by(_boots.c.id)).run(connection):
            self._remember(rows.boot(row, names[row[1]]))

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
