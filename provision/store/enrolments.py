"""When hosts' TPMs may be enrolled, and the endorsement keys that a vendor's list names beforehand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, insert, select

from provision.enrolled_tpm import EnrolmentWindow
from provision.errors import Invalid, NotFound
from provision.principal import Principal
from provision.store.database import Database, Transaction
from provision.store.rows import raw
from provision.store.schema import tpm_imports, tpm_windows
from provision.store.snapshot import Picture

LONGEST = 10080
"""Minutes that a window may be open: a week."""


class Enrolments:
    """The part of the store that knows enrolment windows and imported fingerprints: all of them are in memory, too."""

    def __init__(self, database: Database, picture: Picture) -> None:
        self._database, self._picture = database, picture
        self._windows: dict[str, EnrolmentWindow] = {}
        self._imported: dict[str, str] = {}

    def window(self, host: str, now: datetime) -> EnrolmentWindow | None:
        """The host's window when it is open."""
        found = self._windows.get(host)
        return found if found is not None and found.is_open(now) else None

    def open_at(self, now: datetime) -> dict[str, EnrolmentWindow]:
        """Every open window by its host."""
        with self._database.lock:
            return {host: one for host, one in sorted(self._windows.items()) if one.is_open(now)}

    def imported(self, host: str) -> str | None:
        """The fingerprint (hex SHA-256) that a list has given for the host's endorsement key."""
        return self._imported.get(host)

    def open(self, host: str, minutes: int, now: datetime, principal: Principal) -> EnrolmentWindow:
        """Let the host's TPM be enrolled within `minutes`, instead of any earlier window. Raises NotFound, and
        Invalid for a number out of range (1 to 10080)."""
        if not 1 <= minutes <= LONGEST:
            fact = f"{minutes} minutes are out of range"
            raise Invalid(f"enrolment of {host}", fact, f"use 1 to {LONGEST} minutes")
        host_id = self._picture.host_id(host)
        window = EnrolmentWindow(now, now + timedelta(minutes=minutes), principal.name)
        row = {"host_id": host_id, "opened": now, "expires": window.expires, "actor": window.actor}
        with self._database.lock:
            with self._database.write() as tx:
                _drop(tx, host_id)
                tx.connection.execute(insert(tpm_windows).values(row))
                tx.posting.add(tpm_windows, [raw(value) for value in row.values()])
            self._windows[host] = window
        return window

    def close(self, host: str) -> bool:
        """Close the host's window, and say whether there was one. Raises NotFound."""
        self._picture.host_id(host)
        with self._database.lock:
            if host not in self._windows:
                return False
            with self._database.write() as tx:
                show = self.closing(tx, host)
            show()
            return True

    def closing(self, tx: Transaction, host: str) -> Callable[[], None]:
        """Close the host's window in a transaction; what is returned shows it in memory afterwards."""
        _drop(tx, self._picture.host_id(host))

        def show() -> None:
            self._windows.pop(host, None)

        return show

    def take(self, fingerprints: Mapping[str, str], now: datetime, principal: Principal) -> None:
        """Know these fingerprints as those of the hosts' endorsement keys, instead of earlier ones. Raises NotFound."""
        rows = {
            host: {"host_id": self._picture.host_id(host), "fingerprint": one, "imported": now, "actor": principal.name}
            for host, one in fingerprints.items()
        }
        with self._database.lock:
            with self._database.write() as tx:
                for row in rows.values():
                    tx.connection.execute(delete(tpm_imports).where(tpm_imports.c.host_id == row["host_id"]))
                    tx.posting.drop(tpm_imports, str(row["host_id"]))
                    tx.connection.execute(insert(tpm_imports).values(row))
                    tx.posting.add(tpm_imports, [raw(value) for value in row.values()])
            self._imported.update(fingerprints)

    def forget_import(self, host: str) -> None:
        """Know no fingerprint of the host beforehand; raises NotFound when there is none."""
        if host not in self._imported:
            raise NotFound(f"TPM of {host}", "no fingerprint was imported", "import it: 'provision tpm import FILE'")
        with self._database.lock:
            with self._database.write() as tx:
                show = self.forgetting_import(tx, host)
            show()

    def forgetting_import(self, tx: Transaction, host: str) -> Callable[[], None]:
        """The same in a transaction, whether there is one or not; what is returned shows it in memory afterwards."""
        host_id = self._picture.host_id(host)
        tx.connection.execute(delete(tpm_imports).where(tpm_imports.c.host_id == host_id))
        tx.posting.drop(tpm_imports, host_id)

        def show() -> None:
            self._imported.pop(host, None)

        return show

    def load(self, connection: Connection) -> None:
        """Read what is kept in memory."""
        names = self._picture.names()
        self._windows = {
            names[host_id]: EnrolmentWindow(opened, expires, actor)
            for host_id, opened, expires, actor in connection.execute(select(tpm_windows))
        }
        found = connection.execute(select(tpm_imports.c.host_id, tpm_imports.c.fingerprint))
        self._imported = {names[host_id]: fingerprint for host_id, fingerprint in found}

    def forget(self, names: tuple[str, ...]) -> None:
        """Keep nothing in memory of hosts that are gone."""
        for name in names:
            self._windows.pop(name, None)
            self._imported.pop(name, None)


def _drop(tx: Transaction, host_id: str) -> None:
    tx.connection.execute(delete(tpm_windows).where(tpm_windows.c.host_id == host_id))
    tx.posting.drop(tpm_windows, host_id)
