"""Windows: who may boot from the network, until when and how often."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select

from provision.boot import Window
from provision.errors import Invalid
from provision.principal import Principal
from provision.store import rows
from provision.store.database import Database, Transaction
from provision.store.dialect import Statement
from provision.store.ledger import Row
from provision.store.rows import HISTORY
from provision.store.schema import boots as _boots
from provision.store.schema import windows as _windows
from provision.store.snapshot import Picture

_OLD_WINDOWS = rows.all_but_newest(_windows, "host_id")


class Windows:
    """The part of the store that holds windows."""

    def __init__(self, database: Database, picture: Picture) -> None:
        self._database, self._picture = database, picture
        self._newest: dict[str, Window] = {}

    def of(self, host: str) -> Window | None:
        """The host's newest window, open or not."""
        return self._newest.get(host)

    def open_at(self, now: datetime) -> int:
        """How many windows are open."""
        return sum(window.is_open(now) for window in list(self._newest.values()))

    def open(self, host: str, minutes: int, boots: int, now: datetime, principal: Principal) -> Window:
        """Let a host boot from the network `boots` times within `minutes`; replaces any earlier window.

        `principal` is who did it. Raises NotFound, and Invalid when a number is out of range (1 to 10080 minutes, 1 to
        100 boots).
        """
        if not (1 <= minutes <= 10080 and 1 <= boots <= 100):
            fact = f"{minutes} minutes and {boots} boots are out of range"
            raise Invalid(f"window of {host}", fact, "use 1 to 10080 minutes and 1 to 100 boots")
        host_id, expires = self._picture.host_id(host), now + timedelta(minutes=minutes)
        values = {"host_id": host_id, "opened": now, "expires": expires, "boots": boots, "used": 0, "closed": False}
        with self._database.lock:
            with self._database.write() as tx:
                _part_with(tx, host_id, _close(tx, host_id)[HISTORY - 1 :])
                row = rows.add(tx, _windows, values | {"actor": principal.name})
                rows.forget(tx, _windows, _OLD_WINDOWS.run(tx.connection, host_id=host_id))
            self._newest[host] = rows.window(row)
            return self._newest[host]

    def close(self, host: str) -> Window | None:
        """Close the host's window now and return it; None when there was none. Raises NotFound."""
        with self._database.lock:
            with self._database.write() as tx:
                show = self.closing(tx, host)
            show()
            return self._newest.get(host)

    def closing(self, tx: Transaction, host: str) -> Callable[[], None]:
        """Close the host's window in a transaction; what is returned shows it in memory afterwards."""
        _close(tx, self._picture.host_id(host))

        def show() -> None:
            if host in self._newest:
                self._newest[host] = replace(self._newest[host], closed=True)

        return show

    def close_all(self) -> None:
        """Close the window of every host."""
        for host in [host for host, window in self._newest.items() if not window.closed]:
            self.close(host)

    def show(self, host: str, window: Window) -> None:
        """The host's newest window is like this now: a boot was charged to it, or has come up."""
        self._newest[host] = window

    def load(self, connection: Connection) -> None:
        """Read what is kept in memory."""
        names = self._picture.names()
        newest = select(func.max(_windows.c.id)).group_by(_windows.c.host_id)
        found = Statement(select(_windows).where(_windows.c.id.in_(newest))).run(connection)
        self._newest = {names[row[1]]: rows.window(row) for row in found}

    def forget(self, names: tuple[str, ...]) -> None:
        """Keep nothing in memory of hosts that are gone."""
        for name in names:
            self._newest.pop(name, None)


def _close(tx: Transaction, host_id: str) -> list[Row]:
    """Close every window of a host, and return them as they are now, the newest first."""
    found = rows.of_host(tx, _windows, host_id)
    return [row if rows.window(row).closed else rows.put(tx, _windows, row, {"closed": True}) for row in found]


def _part_with(tx: Transaction, host_id: str, windows: Sequence[Row]) -> None:
    """Let no boot name a window that is about to go: the database would do the same, and tell nobody."""
    gone = {row[0] for row in windows}
    for row in rows.of_host(tx, _boots, host_id) if gone else ():
        if rows.boot(row, "").window in gone:
            rows.put(tx, _boots, row, {"window_id": None})
